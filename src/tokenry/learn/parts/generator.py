"""Generators: who says what could stand in place of a hidden token."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tokenry.core.card import Card
from tokenry.core.fields import between, natural, positive, setting
from tokenry.core.method import Part
from tokenry.learn.replaced.small_encoder import SmallEncoder
from tokenry.learn.selection.labels import Labelled
from tokenry.learn.training.beside import fill_beside

NAME = "generator"


class Guesser:
    """A generator beside one model.

    Args:
        module: what learns, None where nothing does.
    """

    module: nn.Module | None = None

    @abstractmethod
    def logits(self, labelled: Labelled, hidden: Bool[Tensor, "B N"]) -> Float[Tensor, "H V"]:
        """What it says of every hidden token, in the order of rows and columns; the token itself is hidden from it."""

    def prepare(self, batches: Iterable[Labelled]) -> None:
        """What must be counted before the first step."""

    def tensors(self) -> dict[str, Tensor]:
        """What was counted, for a training that goes on after an interruption."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `tensors` gave."""


@dataclass(frozen=True, kw_only=True)
class Generator(Part):
    """A part of `electra`: who says what could stand in place of a hidden token."""

    room: ClassVar[str] = "learn"

    @abstractmethod
    def begin(self, model: Any) -> Guesser:
        """The generator of a training of `model` that begins now."""


@dataclass(frozen=True, kw_only=True)
class Small(Generator):
    """A masked language model that learns beside the model, over the model's own embeddings.

    What it does
        A transformer of `width` times the model's width reads the text with the hidden tokens marked, and says what
        they are: cross-entropy in nats over the hidden tokens.
    Where it acts
        As `generator` of `electra`. Embeddings of the model are read through one projection and predicted through
        another, so that both learn them.
    Shapes
        ids (B, N) and H hidden tokens -> logits (H, V).
    Guarantees
        Nothing that the discriminator learns reaches the generator but by the embeddings. A row depends on no other.
    Raises
        StorageError: the folder holds no generator, or another one.
    Relations
        With `learns=false` and a `folder` it is the frozen generator of the ablation. `unigram` and `uniform` read
        nothing.
    """

    part = Card(
        title="ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators",
        year=2020,
        url="https://arxiv.org/abs/2003.10555",
        summary="a small masked language model that learns beside the model",
    )

    width: float = between(0.01, 1.0, default=0.25, doc="its width beside the model's")
    layers: int = natural(0, doc="of the transformer; 0 takes as many as the model has")
    heads: int = positive(2, doc="of its attention")
    learns: bool = setting(True, doc="whether it learns")
    folder: str = setting("", doc="of a generator that was trained before")
    seed: int = natural(0, doc="of its first weights")

    def begin(self, model: Any) -> Guesser:
        config = model.config.get_text_config()
        width = max(self.heads, round(self.width * config.hidden_size / self.heads) * self.heads)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            encoder = SmallEncoder(
                model.get_input_embeddings(), width, self.layers or config.num_hidden_layers, self.heads
            )
        if self.folder:
            fill_beside(encoder, self.folder, NAME)
        encoder.to(model.get_input_embeddings().weight.device)
        return _Encoder(encoder.requires_grad_(self.learns), self.learns)


class _Encoder(Guesser):
    def __init__(self, encoder: SmallEncoder, learns: bool) -> None:
        self.encoder, self.module = encoder, encoder if learns else None

    def logits(self, labelled: Labelled, hidden: Bool[Tensor, "B N"]) -> Float[Tensor, "H V"]:
        assert labelled.ids is not None
        found: Tensor = self.encoder(labelled.ids, labelled.real, hidden)
        return found


@dataclass(frozen=True, kw_only=True)
class Unigram(Generator):
    """Ids as often as they stand in the data, one more for each; counted before the first step."""

    part = Card(
        title="ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators",
        year=2020,
        url="https://arxiv.org/abs/2003.10555",
        summary="tokens as frequent as in the data, whatever stands around",
    )

    def begin(self, model: Any) -> Guesser:
        return _Counts(model.get_input_embeddings().weight)


class _Counts(Guesser):
    def __init__(self, table: Tensor) -> None:
        self.counts = torch.ones(len(table), device=table.device)

    def prepare(self, batches: Iterable[Labelled]) -> None:
        for labelled in batches:
            ids = labelled.labels[labelled.counted].to(self.counts.device)
            self.counts += ids.bincount(minlength=len(self.counts))

    def tensors(self) -> dict[str, Tensor]:
        return {"counts": self.counts}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.counts = tensors["counts"].to(self.counts)

    def logits(self, labelled: Labelled, hidden: Bool[Tensor, "B N"]) -> Float[Tensor, "H V"]:
        return self.counts.log().expand(int(hidden.sum()), -1)


@dataclass(frozen=True, kw_only=True)
class Uniform(Generator):
    """All ids alike."""

    part = Card(
        title="ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators",
        year=2020,
        url="https://arxiv.org/abs/2003.10555",
        summary="all tokens alike: the control",
    )

    def begin(self, model: Any) -> Guesser:
        return _Uniform(model.get_input_embeddings().weight)


class _Uniform(_Counts):
    def prepare(self, batches: Iterable[Labelled]) -> None:
        """Nothing is counted."""


@dataclass(frozen=True, kw_only=True)
class Oracle(Generator):
    """What stood there; nothing is replaced."""

    part = Card(
        title="ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators",
        year=2020,
        url="https://arxiv.org/abs/2003.10555",
        summary="always the original token, so that nothing is to be found",
    )

    def begin(self, model: Any) -> Guesser:
        return _Known(len(model.get_input_embeddings().weight))


class _Known(Guesser):
    def __init__(self, size: int) -> None:
        self.size = size

    def logits(self, labelled: Labelled, hidden: Bool[Tensor, "B N"]) -> Float[Tensor, "H V"]:
        assert labelled.ids is not None
        ids: Int[Tensor, "H"] = labelled.ids[hidden]
        return torch.full((len(ids), self.size), -1e9, device=ids.device).scatter(1, ids.unsqueeze(1), 0.0)
