"""Small inputs that any model can run, and what its outputs say: the adapter learns and proves itself on these."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

TEXT = 6
"""Text tokens of each row, unless asked otherwise; the second row is padded by two on the left."""


class Experiment:
    """A few rows for a model, made from the arguments of its forward and the sizes in its configuration.

    Text is left-padded in its second row; images and sounds are smooth patterns; a model of images and text gets one
    image in each row. A model that decodes can be run one step further.

    Args:
        model: any transformers model.
        rows: B.
        text: text tokens of each row.
    """

    def __init__(self, model: PreTrainedModel, *, rows: int = 2, text: int = TEXT) -> None:
        self.model, self.rows, self.text = model, rows, text
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

    @property
    def caches(self) -> bool:
        """Whether the model decodes with a cache."""
        return "past_key_values" in self._accepts and "use_cache" in self._accepts

    def run(self, **more: Any) -> Any:
        """One forward over the whole input."""
        return self.model(**self.inputs, **more)

    def step(self, cache: Any) -> Any:
        """One more token in each row, after `run(use_cache=True)` gave `cache`."""
        following = self._ids(1) + 1
        if "decoder_input_ids" in self._accepts:
            return self.model(**{**self.inputs, "decoder_input_ids": following}, past_key_values=cache, use_cache=True)
        mask = torch.nn.functional.pad(self.inputs["attention_mask"], (0, 1), value=1)
        more = {"position_ids": mask.sum(1, keepdim=True) - 1} if "position_ids" in self._accepts else {}
        return self.model(input_ids=following, attention_mask=mask, past_key_values=cache, use_cache=True, **more)

    def answers(self) -> list[Tensor]:
        """What the model computes for real tokens, at once and one step on."""
        with_cache = {"use_cache": True} if self.caches else {}
        prompt = self.run(**with_cache)
        found = list(self._real(prompt))
        cache = prompt.get("past_key_values") if isinstance(prompt, Mapping) else None
        return found + list(self._real(self.step(cache))) if cache is not None else found

    def _real(self, outputs: Any) -> Iterator[Tensor]:
        mask = self.inputs.get("attention_mask")
        for value in outputs.values():
            if not isinstance(value, Tensor) or not value.is_floating_point():
                continue
            if mask is not None and value.shape[:2] == mask.shape:
                value = value[mask.bool()]
            yield value.float()

    def _add_text(self) -> None:
        ids, mask = self._ids(self.text), torch.ones(self.rows, self.text, dtype=torch.long)
        mask[1, :2] = 0
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
        return torch.full((self.rows, len(rows[0])), token, device=self.model.device)

    def _ids(self, count: int) -> Tensor:
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        ids = torch.arange(self.rows * count, device=self.model.device).view(self.rows, count) * 7 + 3
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
        return torch.arange(count, device=self.model.device).mul(0.37).sin().view(shape).to(self.model.dtype)
