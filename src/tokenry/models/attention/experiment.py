"""Small inputs that any model can run, and what its outputs say: the adapter learns and proves itself on these."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache

from tokenry.core.errors import UnsupportedModel
from tokenry.models import private
from tokenry.models.attention.forms import Form, pictures, placeholders, sounds
from tokenry.models.cache.name import NAME, cache_of, with_cache

KNOWN = ("input_ids", "pixel_values", "input_features", "input_values")
"""Names of inputs that can be made up."""

TEXT = 6
"""Text tokens of each row, unless asked otherwise; the second row is padded by two on the left."""

STEPS = (1, 1, 3, 1)
"""Tokens of the passes that follow where a text goes on."""

TYPES = "mm_token_type_ids"
"""How models call what tells pictures from text, where a picture has columns of its own."""

MISFITS = (TypeError, AttributeError, RuntimeError, ValueError, LookupError, AssertionError)
"""What models say to inputs that they do not expect."""


class Experiment:
    """A few rows for a model, made from the arguments of its forward and the sizes in its configuration.

    Text is left-padded in its second row; images and sounds are smooth patterns; a model of images and text gets one
    image in each row. There are many forms in which models take images and sounds: the first that the model can run
    is used, and text alone where it can run none of them. A model that decodes can be run further.

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
        self.decodes = False
        """Whether the model reads tokens after those that a cache holds."""
        if not set(KNOWN) & set(self._accepts):
            raise UnsupportedModel(
                f"{type(model).__name__}: must take text, pictures or sounds under one of the names "
                f"{', '.join(KNOWN)}; it takes {', '.join(self._accepts)}; use a model of another family."
            )
        self._find_form()

    def _find_form(self) -> None:
        """A picture or sound that the model can run, and go on from where it decodes; text alone where there is none.

        Raises:
            Exception: what the model said of the last one, where it reads no text.
        """
        misfit: Exception | None = None
        for form in chain(
            pictures(self.model, self._accepts, self.rows, self._waves),
            sounds(self.model, self._accepts, self.rows, self._waves),
        ):
            try:
                self._take(form)
                cache = self.new_cache()
                self.run(cache)
                if cache is not None:
                    self.step(cache)
                return
            except torch.OutOfMemoryError:
                raise
            except MISFITS as error:
                misfit = error
        if misfit is not None and "input_ids" not in self._accepts:
            raise misfit
        self._take({})

    def _take(self, form: Form) -> None:
        self.inputs = self._with_text({name: value.to(self.device) for name, value in form.items()})
        self.decodes = self._decodes()

    def new_cache(self, kind: type[DynamicCache] = DynamicCache) -> Cache | None:
        """An empty cache; None for a model that does not decode."""
        if not self.decodes:
            return None
        own = kind(config=self.model.config)
        return EncoderDecoderCache(own, kind()) if self.model.config.is_encoder_decoder else own

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
                more["position_ids"] = (mask.cumsum(1) - 1)[:, -count:].contiguous()
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

    def _with_text(self, form: Form) -> Form:
        """A picture or sound, or nothing, and the text that goes with it."""
        inputs = dict(form)
        if "decoder_input_ids" in self._accepts:
            # One more than the encoder's, so that the two are told apart.
            inputs["decoder_input_ids"] = self._ids(self.text + 1)
        if "input_ids" not in self._accepts:
            return inputs
        ids = self._ids(self.text)
        count = placeholders(self.model, form, self.rows) if "pixel_values" in form else 0
        if count:
            token = self.model.config.image_token_id
            ids = torch.cat((ids[:, :3], torch.full((self.rows, count), token, device=self.device), ids[:, 3:]), 1)
            if TYPES in self._accepts:
                inputs[TYPES] = (ids == token).long()
        mask = torch.ones_like(ids)
        mask[1, :2] = 0
        if self.gap:
            mask[-1, 3 + count : 5 + count] = 0
        return inputs | {"input_ids": ids, "attention_mask": mask}

    def _ids(self, count: int) -> Tensor:
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        ids = torch.arange(self.rows * count, device=self.device).view(self.rows, count) * 7 + 3
        return ids.remainder(min(vocabulary, 97))

    def _waves(self, *shape: int) -> Tensor:
        count = int(torch.tensor(shape).prod())
        return torch.arange(count, device=self.device).mul(0.37).sin().view(shape).to(self.model.dtype)


def _with(cache: Cache | None) -> dict[str, Any]:
    return {} if cache is None else {**with_cache(cache), "use_cache": True}
