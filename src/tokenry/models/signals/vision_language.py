"""Models that see: pictures and a question as tokens that know their pixels and their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AutoModelForImageTextToText, ImageProcessingMixin, LlavaForConditionalGeneration

from tokenry.core.errors import InvalidValue, UnsupportedModel
from tokenry.core.origin import Source
from tokenry.core.sequence import Modality, TokenSequence
from tokenry.core.tokens import TokenBatch
from tokenry.data.image import Image
from tokenry.models.files.load import (
    LanguageModel,
    context_of,
    device_of,
    dtype_of,
    find,
    load_tokenizer,
    not_found,
    quiet,
    read_model,
)  # fmt: skip
from tokenry.models.text.as_text import unused
from tokenry.models.text.lookup import lookup
from tokenry.models.text.prompt import Piece, tokenize

LONGEST = 64
"""A longer strip would be scaled to more pixels than memory holds."""


@dataclass(frozen=True, slots=True)
class Framing:
    """How a picture becomes pixels of one size, which are normalized then.

    Args:
        height, width: what the model sees.
        shorter: the shorter side is scaled to this many pixels and the middle is cut out; None squeezes the whole
            picture to height and width.
        resample: filter of Pillow, by its number.
        scale: what a value of a pixel is multiplied by first.
        mean: of red, green and blue, after scaling.
        std: their standard deviation.
    """

    height: int
    width: int
    shorter: int | None
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def pixels(self, image: Image) -> Float[Tensor, "3 Y X"]:
        """What the model sees of a picture."""
        high, wide = self._scaled(image)
        scaled = PIL.Image.fromarray(image.pixels.cpu().numpy()).resize((wide, high), self.resample)
        top, left = (high - self.height) // 2, (wide - self.width) // 2
        seen = scaled.crop((left, top, left + self.width, top + self.height))
        colours = torch.frombuffer(bytearray(seen.tobytes()), dtype=torch.uint8).view(self.height, self.width, 3)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (colours.movedim(2, 0) * self.scale - mean) / std

    def boxes(self, image: Image, rows: int, columns: int) -> Int[Tensor, "P 6"]:
        """Which pixels of the picture each of so many equal parts shows, row by row; edges are rounded outwards."""
        high, wide = self._scaled(image)
        y0, y1 = _edges(rows, self.height, high, image.pixels.shape[0])
        x0, x1 = _edges(columns, self.width, wide, image.pixels.shape[1])
        spans = torch.zeros(rows, columns, 6, dtype=torch.long)
        spans[..., 1] = 1
        spans[..., 2], spans[..., 3] = y0[:, None], y1[:, None]
        spans[..., 4], spans[..., 5] = x0, x1
        return spans.flatten(0, 1)

    def _scaled(self, image: Image) -> tuple[int, int]:
        if self.shorter is None:
            return self.height, self.width
        high, wide, _ = image.pixels.shape
        if max(high, wide) > LONGEST * min(high, wide):
            raise InvalidValue(
                f"pictures: must be at most {LONGEST} times as long as wide, since the shorter side is scaled to "
                f"{self.shorter} pixels; got {wide} x {high}; crop it."
            )
        return self.shorter * high // min(high, wide), self.shorter * wide // min(high, wide)


@dataclass(frozen=True, slots=True, eq=False)
class VisionLanguageModel(LanguageModel):
    """A causal model that reads tokens of pictures among those of text, as LLaVA does.

    Everything that takes a `LanguageModel` takes it too.

    Args:
        framing: how pictures become pixels.
    """

    framing: Framing

    @torch.no_grad()
    def read(self, pictures: Sequence[Image], asks: Sequence[str]) -> TokenBatch:
        """One row for each picture and its question: chat template, picture and question, as the model reads them.

        Tokens of the picture have no ids, but embeddings and the box of their pixels; only they may be removed.

        Raises:
            InvalidValue: not one question for each picture, or none at all.
        """
        if not pictures or len(pictures) != len(asks):
            raise InvalidValue(f"asks: must be one for each picture; got {len(asks)} for {len(pictures)}.")
        seen = torch.stack([self.framing.pixels(picture) for picture in pictures])
        features = self.model.get_image_features(seen.to(self.device, self.dtype), return_dict=True).pooler_output
        rows = [self._row(picture, ask, one) for picture, ask, one in zip(pictures, asks, features, strict=True)]
        return TokenBatch.collate(rows, pad_id=self.tokenizer.pad_token_id or 0)

    @torch.no_grad()
    def say(self, batch: TokenBatch, most: int = 16) -> list[str]:
        """The most likely answer to every row, of at most so many tokens."""
        batch = batch.to(self.device)
        pad = self.tokenizer.pad_token_id
        made = self.model.generate(
            **batch.model_inputs(), max_new_tokens=most, do_sample=False,
            pad_token_id=self.tokenizer.eos_token_id if pad is None else pad,
        )  # fmt: skip
        return [str(text).strip() for text in self.tokenizer.batch_decode(made, skip_special_tokens=True)]

    def _row(self, picture: Image, ask: str, features: Float[Tensor, "P E"]) -> TokenSequence:
        mark = str(self.tokenizer.convert_ids_to_tokens(self.model.config.image_token_id))
        # Stands for the question, which may spell the mark of a picture.
        sign = unused(ask)
        content = [{"type": "image"}, {"type": "text", "text": sign}]
        talk: Any = [{"role": "user", "content": content}]
        whole = self.tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
        before, _, rest = str(whole).partition(mark)
        between, found, after = rest.partition(sign)
        if not found:
            raise UnsupportedModel(f"model {self.name!r}: its chat template must show the picture, then the question.")
        ahead, gap, end = (Piece(text, "template") for text in (before, between, after))
        behind = self._text([gap, Piece(ask, "question"), end])
        return TokenSequence.joined([*self._text([ahead]), self._patches(picture, features), *behind])

    def _text(self, pieces: list[Piece]) -> list[TokenSequence]:
        """The pieces as one sequence; none where there is no text."""
        pieces = [piece for piece in pieces if piece.text]
        if not pieces:
            return []
        tokens = tokenize(self.tokenizer, pieces, whole=False)
        return [replace(tokens, embeds=lookup(self.model)(tokens.ids))]

    def _patches(self, picture: Image, features: Float[Tensor, "P E"]) -> TokenSequence:
        patch = self.model.config.vision_config.patch_size
        rows, columns = self.framing.height // patch, self.framing.width // patch
        if rows * columns != len(features):
            raise UnsupportedModel(
                f"model {self.name!r}: must give a token for each of {rows} x {columns} patches; got {len(features)}."
            )
        return TokenSequence(
            ids=torch.full((len(features),), -1),
            source=torch.zeros(len(features), dtype=torch.long),
            spans=self.framing.boxes(picture, rows, columns),
            sources=(Source("image", picture, picture.name, tuple(picture.pixels.shape[:2])),),
            modality=torch.full((len(features),), int(Modality.IMAGE)),
            embeds=features.cpu(),
        )


@lru_cache(maxsize=2)
def load_vision_language(name: str, *, device: str = "auto", dtype: str = "auto") -> VisionLanguageModel:
    """Load a model that reads one picture in front of a question, once per process.

    Args:
        name: an alias of `tokenry models list`, a folder or a hub id.
        device: `auto` takes an accelerator where there is one.
        dtype: `auto` is bfloat16 where the hardware computes in it, else float32.

    Raises:
        UnknownModel: nothing was found under this name.
        UnsupportedModel: not of LLaVA's kind, which gives one token for each patch of one picture.
        StorageError: files are damaged.
        InvalidValue: an unknown device or dtype.
    """
    where = find(name, "vision-language")
    on = device_of(device)
    with quiet():
        model = read_model(AutoModelForImageTextToText, name, where, dtype_of(dtype, on), trust_remote_code=False)
    if not isinstance(model, LlavaForConditionalGeneration):
        raise UnsupportedModel(f"model {name!r}: must be a LLaVA; got {type(model).__name__}.")
    return VisionLanguageModel(model.eval().to(on), load_tokenizer(name), name, context_of(model), framing(name, where))


def framing(name: str, where: str | Path) -> Framing:
    """How a model's folder says that pictures become pixels.

    Raises:
        UnknownModel: it does not say.
        UnsupportedModel: it says something that is not a picture of one size.
    """
    try:
        said, _ = ImageProcessingMixin.get_image_processor_dict(where)
    except (OSError, ValueError) as error:
        raise not_found(name, where, error) from error
    size, crop = said.get("size") or {}, said.get("crop_size") or {}
    seen = crop if said.get("do_center_crop") else size
    try:
        height, width = int(seen["height"]), int(seen["width"])
        shorter = int(size["shortest_edge"]) if "shortest_edge" in size else None
        mean, std = (tuple(map(float, said[what])) for what in ("image_mean", "image_std"))
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedModel(
            f"model {name!r}: its image processor must say size, mean and deviation of what it makes; {error!r}."
        ) from error
    scale = float(said.get("rescale_factor", 1 / 255)) if said.get("do_rescale", True) else 1.0
    return Framing(height, width, shorter, int(said.get("resample") or 3), scale, mean, std)


def _edges(parts: int, shown: int, scaled: int, whole: int) -> tuple[Int[Tensor, "N"], Int[Tensor, "N"]]:
    """First and last pixel, half open, of each of so many equal parts of the middle of a side that was scaled."""
    at = torch.arange(parts + 1, dtype=torch.float64) * shown / parts + (scaled - shown) // 2
    back = (at * whole / scaled).clamp(0, whole)
    return back[:-1].floor().long(), back[1:].ceil().long()
