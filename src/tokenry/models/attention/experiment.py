"""Small inputs that any model can run, and what its outputs say: the adapter learns and proves itself on these."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache

from tokenry.core.errors import UnsupportedModel
from tokenry.models import private
from tokenry.models.cache.name import NAME, cache_of, with_cache

KNOWN = ("input_ids", "pixel_values", "input_features")
"""Names of inputs that can be made up."""

TEXT = 6
"""Text tokens of each row, unless asked otherwise; the second row is padded by two on the left."""

STEPS = (1, 1, 3, 1)
"""Tokens of the passes that follow where a text goes on."""


class Experiment:
    """A few rows for a model, made from the arguments of its forward and the sizes in its configuration.

    Text is left-padded in its second row; images and sounds are smooth patterns; a model of images and text gets one
    image in each row. A model that decodes can be run further.

    Args:
        model: any transformers model.
        rows: B.
        text: text tokens of each row.
        gap: pad between the tokens of the last row as well.
    """

    def __init__(self, model: PreTrainedModel, *, rows: int = 2, text: int = TEXT, gap: bool = False) -> None:
        self.model, self.rows, self.text, self.gap = model, rows, text, gap
        self.device = private.input_device(model)
        self._accepts = inspect.signature(model.forward).parameters
        self.inputs: dict[str, Tensor] = {}
        if "pixel_values" in self._accepts:
            self.inputs["pixel_values"] = self._images()
        if "input_features" in self._accepts:
            self.inputs["input_features"] = self._sounds()
        if "input_ids" in self._accepts:
            self._add_text()
        if "decoder_input_ids" in self._accepts:
            # One more than the encoder's, so that the two are told apart.
            self.inputs["decoder_input_ids"] = self._ids(self.text + 1)
        if not self.inputs:
            raise UnsupportedModel(
                f"{type(model).__name__}: must take text, pictures or sounds under one of the names "
                f"{', '.join(KNOWN)}; it takes {', '.join(self._accepts)}; use a model of another family."
            )
        self.decodes = self._decodes()
        """Whether the model reads tokens after those that a cache holds."""

    def new_cache(self, kind: type[DynamicCache] = DynamicCache) -> Cache | None:
        """An empty cache; None for a model that does not decode."""
        if not self.decodes:
            return None
        own = kind(config=self.model.config)
        return EncoderDecoderCache(own, kind(config=self.model.config)) if self.model.config.is_encoder_decoder else own

    def run(self, cache: Cache | None = None) -> Any:
        """One forward over the whole input, into a cache, a new one where none is given."""
        cache = self.new_cache() if cache is None else cache
        return self.model(**self.inputs, **_with(cache))

    def step(self, cache: Cache, count: int = 1, before: int = 0) -> Any:
        """More tokens in each row, after `run` filled the cache and `before` others followed."""
        following = self._ids(count) + 1 + before
        if "decoder_input_ids" in self._accepts:
            return self.model(**{**self.inputs, "decoder_input_ids": following}, **_with(cache))
        more = {}
        if "attention_mask" in self.inputs:
            mask = torch.nn.functional.pad(self.inputs["attention_mask"], (0, before + count), value=1)
            more["attention_mask"] = mask
            if "position_ids" in self._accepts:
                more["position_ids"] = (mask.cumsum(1) - 1)[:, -count:]
        return self.model(input_ids=following, **_with(cache), **more)

    def answers(self) -> list[Tensor]:
        """What the model computes for real tokens: at once and in the passes that follow, padded and not."""
        found = self._course()
        if "attention_mask" in self.inputs:
            mask = self.inputs.pop("attention_mask")
            try:
                found += self._course()
            finally:
                self.inputs["attention_mask"] = mask
        return found

    def _course(self) -> list[Tensor]:
        cache = self.new_cache()
        found = list(self._real(self.run(cache)))
        if cache is not None:
            for i, count in enumerate(STEPS):
                found += self._real(self.step(cache, count, sum(STEPS[:i])))
        return found

    def _decodes(self) -> bool:
        """Not told by settings: `use_cache` is often off after training, and is no matter of what a model can do."""
        if NAME not in self._accepts:
            return False
        return self.model.can_generate() or cache_of(self.model(**self.inputs, use_cache=True)) is not None

    def _real(self, outputs: Any) -> Iterator[Tensor]:
        mask = self.inputs.get("attention_mask")
        for value in outputs.values():
            if not isinstance(value, Tensor) or not value.is_floating_point():
                continue
            if mask is not None and value.shape[:2] == mask.shape:
                value = value[mask.bool()]
            yield value

    def _add_text(self) -> None:
        ids, mask = self._ids(self.text), torch.ones(self.rows, self.text, dtype=torch.long)
        mask[1, :2] = 0
        if self.gap:
            mask[-1, 3:5] = 0
        images = self._image_tokens()
        if images is not None:
            ids, mask = torch.cat((ids[:, :3], images, ids[:, 3:]), 1), torch.cat((mask, torch.ones_like(images)), 1)
        self.inputs |= {"input_ids": ids, "attention_mask": mask.to(ids.device)}

    def _image_tokens(self) -> Tensor | None:
        """Placeholders for the image of each row, as many as the model makes tokens of it."""
        token = getattr(self.model.config, "image_token_id", None)
        if token is None or "pixel_values" not in self.inputs:
            return None
        model: Any = self.model
        features = model.get_image_features(pixel_values=self.inputs["pixel_values"])
        rows = features if isinstance(features, list | tuple | Tensor) else features.pooler_output
        return torch.full((self.rows, len(rows[0])), token, device=self.device)

    def _ids(self, count: int) -> Tensor:
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        ids = torch.arange(self.rows * count, device=self.device).view(self.rows, count) * 7 + 3
        return ids.remainder(min(vocabulary, 97))

    def _images(self) -> Tensor:
        config = getattr(self.model.config, "vision_config", self.model.config)
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return self._waves(self.rows, config.num_channels, height, width)

    def _sounds(self) -> Tensor:
        config = self.model.config
        return self._waves(self.rows, config.num_mel_bins, 2 * config.max_source_positions)

    def _waves(self, *shape: int) -> Tensor:
        count = int(torch.tensor(shape).prod())
        return torch.arange(count, device=self.device).mul(0.37).sin().view(shape).to(self.model.dtype)


def _with(cache: Cache | None) -> dict[str, Any]:
    return {} if cache is None else {**with_cache(cache), "use_cache": True}
