"""Ways to read with a model, each of which gives tensors: the same model must give the same ones through tokenry."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.models.compared import Course, NotThere
from tokenry.models.attention.experiment import Experiment
from tokenry.models.cache.name import NAME, cache_of

ROWS, TEXT, MORE = 2, 40, 12
"""Sequences, the tokens of their prompts, and tokens that follow. Windows are of 8 tokens."""


def courses(model: PreTrainedModel, kind: str) -> Mapping[str, Course]:
    """All ways to read that a model of this kind may have, by name."""
    reader = _Reader(model)
    found: dict[str, Course] = {"whole": reader.whole}
    if reader.shown:
        found |= {"shown": reader.with_what_is_shown}
    if kind == "masked":
        return found if reader.two else found | {"padded behind": reader.padded_behind}
    found |= {
        "prompt": reader.prompt, "steps": reader.steps, "steps without mask": reader.steps_unmasked,
        "in chunks": reader.in_chunks,
    }  # fmt: skip
    if not reader.two:
        found |= {"padded behind": reader.padded_behind, "mask of four axes": reader.four_axes}
        if "position_ids" in reader.accepts:
            found["packed"] = reader.packed
    if model.can_generate():
        found |= {"greedy": reader.greedy, "beams": reader.beams}
    return found


class _Reader:
    """A model and what it is given."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model: Any = model
        self.accepts = inspect.signature(model.forward).parameters
        self.two = bool(model.config.is_encoder_decoder)
        drawn = torch.Generator().manual_seed(3)
        size = int(getattr(model.config.get_text_config(decoder=True), "vocab_size", None) or 100)
        self.ids = torch.randint(3, min(size, 90), (ROWS, TEXT + MORE), generator=drawn)
        self.mask = torch.ones(ROWS, TEXT, dtype=torch.long)
        self.mask[1, :5] = 0
        self.shown = _shown(model)
        """A picture or sound for each row with the text that goes with it; nothing where none can be made up."""
        self.encoder = {"input_ids": self.ids[:, :13], "attention_mask": self.mask[:, :13]}
        if self.two and "input_ids" not in self.accepts:
            self.encoder = {k: v for k, v in self.shown.items() if not k.startswith("decoder")}

    def whole(self) -> list[Tensor]:
        return self._real(self._read(TEXT, self.mask, use_cache=False), self.mask)

    def prompt(self) -> list[Tensor]:
        return self._real(self._read(TEXT, self.mask), self.mask)

    def padded_behind(self) -> list[Tensor]:
        mask = torch.ones_like(self.mask)
        mask[1, -6:] = 0
        return self._real(self._read(TEXT, mask), mask)

    def steps(self) -> list[Tensor]:
        return self._steps(self.mask)

    def steps_unmasked(self) -> list[Tensor]:
        return self._steps(None)

    def in_chunks(self) -> list[Tensor]:
        cache, found = None, []
        for begin in range(0, TEXT, 7):
            out = self._read(min(begin + 7, TEXT), None, cache, begin=begin)
            cache = self._cache(out)
            found.append(_logits(out))
        return found

    def packed(self) -> list[Tensor]:
        at = torch.cat((torch.arange(17), torch.arange(TEXT - 17))).expand(ROWS, -1)
        return [_logits(self.model(input_ids=self.ids[:, :TEXT], position_ids=at, use_cache=False))]

    def four_axes(self) -> list[Tensor]:
        seen = torch.ones(TEXT, TEXT).tril().bool()
        seen[20:, :7] = False
        mask = torch.zeros(TEXT, TEXT).masked_fill(~seen, torch.finfo(torch.float32).min)[None, None]
        return [_logits(self.model(input_ids=self.ids[:1, :TEXT], attention_mask=mask, use_cache=False))]

    def greedy(self) -> list[Tensor]:
        return self._generated()

    def beams(self) -> list[Tensor]:
        return self._generated(num_beams=3, num_return_sequences=2, output_scores=True)

    def with_what_is_shown(self) -> list[Tensor]:
        out = self.model(**self.shown)
        found = [v.float() for v in out.values() if isinstance(v, Tensor) and v.is_floating_point()]
        mask = self.shown.get("attention_mask")
        return [v[mask.bool()] if mask is not None and v.shape[:2] == mask.shape else v for v in found]

    def _steps(self, mask: Tensor | None) -> list[Tensor]:
        """A prompt, four tokens one by one, five at once, and one more."""
        out = self._read(TEXT, mask)
        cache, at = self._cache(out), TEXT
        found = [] if mask is not None else [_logits(out)]
        for count in (1, 1, 1, 1, 5, 1):
            mask = None if mask is None else torch.nn.functional.pad(mask, (0, count), value=1)
            found.append(_logits(self._read(at + count, mask, cache, begin=at)))
            at += count
        return found

    def _read(self, end: int, mask: Tensor | None, cache: Any = None, begin: int = 0, use_cache: bool = True) -> Any:
        ids = self.ids[:, begin:end]
        given: dict[str, Any] = {**self.encoder, "decoder_input_ids": ids} if self.two else {"input_ids": ids}
        if mask is not None and not self.two:
            given["attention_mask"] = mask
            if "position_ids" in self.accepts:
                given["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)[:, begin:].contiguous()
        if cache is not None:
            given[NAME] = cache
        if "use_cache" in self.accepts and NAME in self.accepts:
            given["use_cache"] = use_cache
        return self.model(**given)

    def _generated(self, **how: Any) -> list[Tensor]:
        given = self.encoder if self.two else {"input_ids": self.ids[:, :TEXT], "attention_mask": self.mask}
        options = {"max_new_tokens": 7, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
        out = self.model.generate(**given, **options, **how)
        said = (out.sequences_scores,) if how else out.logits or ()
        return [out.sequences.float(), *(step.float() for step in said)]

    def _real(self, out: Any, mask: Tensor) -> list[Tensor]:
        found = _logits(out)
        return [found if self.two else found[mask.bool()]]

    def _cache(self, out: Any) -> Any:
        cache = cache_of(out) if NAME in self.accepts else None
        if cache is None:
            raise NotThere("gives no cache")
        return cache


def _shown(model: PreTrainedModel) -> dict[str, Tensor]:
    try:
        inputs = Experiment(model).inputs
    except Exception:
        return {}
    return inputs if {"pixel_values", "input_features", "input_values"} & set(inputs) else {}


def _logits(out: Any) -> Tensor:
    found: Tensor = out.logits if hasattr(out, "logits") else out[0]
    return found.float()
