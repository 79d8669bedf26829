"""What the model of collages learns from: patches with words for them, and pictures with questions and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tokenry.core.seeds import mixed
from tokenry.data.collages import PLACES, QUARTER, Collage, collage, question
from tokenry.data.image import Image
from tokenry.models.files.load import LanguageModel
from tokenry.models.signals.encoders import VisionEncoder
from tokenry.models.signals.llava import MARK
from tokenry.models.text.lookup import lookup

LAYER = 7
"""Of 12 of DINOv2: there a linear map tells best what a patch shows, and still where it is."""
BACKGROUND = "grey"
LOOKED_AT = 32
"""Collages by which features are brought to one size."""


class Talks(NamedTuple):
    """Pictures with questions and answers behind them.

    Args:
        ids: the mark of a picture for each of its patches.
        labels: ids of answers, -100 elsewhere.
        positions: every question stands right behind the picture.
        sees: what each token (second last axis) sees.
    """

    ids: Int[Tensor, "B N"]
    labels: Int[Tensor, "B N"]
    positions: Int[Tensor, "B N"]
    sees: Bool[Tensor, "B 1 N N"]


class Projector(nn.Module):
    """LLaVA's two layers behind features of one size in every dimension; a few of them are far larger than all others.

    Args:
        width: of the features.
        out: of the embeddings.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.first, self.second = nn.Linear(width, out), nn.Linear(out, out)

    def forward(self, features: Float[Tensor, "B P E"]) -> Float[Tensor, "B P F"]:
        """An embedding for every patch."""
        return self.second(nn.functional.gelu(self.first((features - self.mean) / self.std)))

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """The same as LLaVA's own projector, by the names of its weights."""
        weight = self.first.weight / self.std
        return {
            "linear_1.weight": weight, "linear_1.bias": self.first.bias - weight @ self.mean,
            "linear_2.weight": self.second.weight.detach(), "linear_2.bias": self.second.bias.detach(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """Collages as the model reads them.

    Args:
        vision: the encoder of pictures.
        language: its tokenizer knows the mark of a picture.
        shown: photographs by their words.
    """

    vision: VisionEncoder
    language: LanguageModel
    shown: Mapping[str, Image]

    def draw(self, count: int, seed: int) -> list[Collage]:
        """Collages, the same ones for the same seed."""
        generator = torch.Generator().manual_seed(mixed(seed))
        return [collage(self.shown, generator) for _ in range(count)]

    @torch.no_grad()
    def features(self, drawn: Sequence[Collage]) -> Float[Tensor, "B P E"]:
        """What the encoder says of every patch."""
        prepared = self.vision.prepare(torch.stack([one.image.pixels for one in drawn]))
        tower = self.vision.model
        return tower(prepared.to(tower.dtype), output_hidden_states=True).hidden_states[LAYER][:, 1:].float()

    @torch.no_grad()
    def words(self, drawn: Sequence[Collage]) -> Float[Tensor, "B P F"]:
        """For every patch the embedding of the word for what it shows plus that of its place."""
        names = {name: self._word(name) for name in (*self.shown, BACKGROUND)}
        quarter = torch.arange(2 * QUARTER) // QUARTER
        places = torch.stack([self._word(place) for place in PLACES])[(2 * quarter[:, None] + quarter).flatten()]
        rows = []
        for one in drawn:
            row = names[BACKGROUND].expand(len(places), -1).clone()
            for place, name in enumerate(one.names):
                row[one.covered(place)] = names[name]
            rows.append(row + places)
        return torch.stack(rows)

    def talks(self, drawn: Sequence[Collage]) -> Talks:
        """Each picture, asked for all of its places; no question sees another one or its answer."""
        tokenizer = self.language.tokenizer
        prefix = tokenizer.encode("User:" + MARK * (2 * QUARTER) ** 2, add_special_tokens=False)
        rows = []
        for one in drawn:
            asked = [tokenizer.encode(f"{question(place)}\nAssistant:", add_special_tokens=False) for place in range(4)]
            said = [
                [*tokenizer.encode(f" {name}", add_special_tokens=False), tokenizer.eos_token_id] for name in one.names
            ]
            rows.append((asked, said))
        longest = max(len(a) + len(s) for asked, said in rows for a, s in zip(asked, said, strict=True))
        ids = torch.full((len(rows), len(prefix) + 4 * longest), tokenizer.eos_token_id)
        labels = torch.full_like(ids, -100)
        ids[:, : len(prefix)] = torch.tensor(prefix)
        for row, (asked, said) in enumerate(rows):
            for place in range(4):
                start = len(prefix) + place * longest
                middle, end = start + len(asked[place]), start + len(asked[place]) + len(said[place])
                ids[row, start:end] = torch.tensor(asked[place] + said[place])
                labels[row, middle:end] = torch.tensor(said[place])
        at = torch.arange(ids.shape[1])
        of = torch.where(at < len(prefix), -1, (at - len(prefix)) // longest)
        positions = torch.where(at < len(prefix), at, len(prefix) + (at - len(prefix)) % longest)
        sees = (at[:, None] >= at) & ((of == -1) | (of[:, None] == of))
        return Talks(ids, labels, positions.expand_as(ids), sees.expand(len(rows), 1, -1, -1))

    def _word(self, text: str) -> Float[Tensor, "F"]:
        ids = self.language.tokenizer.encode(f" {text}", add_special_tokens=False)
        return lookup(self.language.model)(torch.tensor(ids)).float().mean(0)
