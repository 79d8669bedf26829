"""A model in the middle of a text: read more tokens in one pass, forget the last ones, go on in several ways."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache

from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.models import private
from tokenry.models.attention.adapter import unwrap
from tokenry.models.cache.name import cache_of, with_cache
from tokenry.models.text.lookup import lookup

_BY_COLUMN = ("attention_mask", "position_ids", "token_type_ids", "mm_token_type_ids")


class Session:
    """What one model has read, with the cache that holds it.

    Args:
        model: the model, without wrappers.
        ids: the prompt, whose width is 0 where it is given as embeddings only.
        inputs: what `generate` passes from step to step, cache included.
        config: `prefill_chunk_size` and what else decides how the prompt is read.
        tokenizer: knows the marks of the model by their text.
        crops: tokens that are read may be forgotten again.
        hidden: keep the final hidden states.

    Shapes:
        ids (B, N): all ids that were read.
        logits (B, n, V): after each of the last n columns; all but the first of these can be forgotten again.
        hidden (B, n, E): final hidden states of the columns that were last read, None where nobody wants them.
    """

    def __init__(
        self, model: PreTrainedModel, ids: Int[Tensor, "B N"], inputs: dict[str, Any], config: Any, *,
        tokenizer: PreTrainedTokenizerBase | None = None, crops: bool = False, hidden: bool = False,
    ) -> None:  # fmt: skip
        if inputs.get("use_cache") is False:
            raise Incompatible("decode: needs the model's cache, since a mixture cannot be read again; set use_cache.")
        # transformers' generation methods are typed by a protocol that models do not declare.
        self.model: Any = model
        self.ids, self.tokenizer = ids, tokenizer
        self._inputs = inputs | ({"output_hidden_states": True} if hidden else {})
        self._wants_hidden, self._crops, self._config = hidden, crops, config
        self._outputs: Any = {}
        self.logits: Float[Tensor, "B n V"] = torch.empty(len(ids), 0, 0)
        self.hidden: Float[Tensor, "B n E"] | None = None
        self.read_since_prompt = 0

    @classmethod
    def open(
        cls, model: Any, ids: Int[Tensor, "B N"], mask: Tensor | None = None, *,
        tokenizer: PreTrainedTokenizerBase | None = None, crops: bool = False, hidden: bool = False,
    ) -> Session:  # fmt: skip
        """A model that starts by reading some text, beside the one that generates."""
        base: Any = unwrap(model)
        inputs = {"attention_mask": mask, "use_cache": True, "logits_to_keep": 1}
        if not private.keeps_logits(base):
            del inputs["logits_to_keep"]
        if mask is not None:
            inputs["position_ids"] = (mask.long().cumsum(-1) - 1).clamp_min(0)
        config = base.generation_config
        return cls(base, ids, inputs, config, tokenizer=tokenizer, crops=crops, hidden=hidden).begin()

    def begin(self) -> Session:
        """Read the prompt."""
        self._take(private.read_prompt(self.model, self.ids, self._config, self._inputs), 1)
        if self._crops and self.cache is not None:
            # Only now: layers that forget by themselves would otherwise hold the whole prompt.
            self.cache.activate_past_recording()
        return self

    def read(self, ids: Int[Tensor, "B n"], embeds: Float[Tensor, "B n E"] | None = None) -> Float[Tensor, "B n V"]:
        """Read n more tokens in one pass.

        Args:
            ids: what the tokens are called in the text so far.
            embeds: what the model reads instead of their embeddings, as `lookup` makes them.

        Returns:
            The raw logits after each of them, in 32-bit floats.
        """
        n = ids.shape[1]
        self.ids = torch.cat((self.ids, ids), 1)
        self._inputs = private.going_on(self.model, self._outputs, self._inputs, n)
        given = self.model.prepare_inputs_for_generation(self.ids, next_sequence_length=n, **self._inputs)
        if embeds is not None:
            del given["input_ids"]
            given["inputs_embeds"] = embeds
        if "logits_to_keep" in given:
            given["logits_to_keep"] = n
        before, seen = self.logits, self.hidden
        self._take(self.model(**given, return_dict=True), n)
        self.read_since_prompt += n
        new = self.logits
        self.logits = torch.cat((before, new), 1)
        if seen is not None and self.hidden is not None:
            self.hidden = torch.cat((seen, self.hidden), 1)
        return new

    def crop(self, count: int) -> None:
        """Forget the last `count` tokens, which must have been read since `settle`.

        Raises:
            InvalidValue: more than that.
            Incompatible: the cache cannot forget its last tokens, or was not made to.
        """
        if count == 0:
            return
        if not 0 < count < self.logits.shape[1]:
            raise InvalidValue(
                f"crop: must leave something of what was read in this step; got {count} of {self.logits.shape[1] - 1}."
            )
        if self.cache is None or not self.cache.is_croppable or not self._crops:
            raise Incompatible("crop: the cache must be able to forget its last tokens; this one cannot.")
        self.cache.crop(-count)
        self.ids = self.ids[:, :-count]
        for name in _BY_COLUMN:
            if self._inputs.get(name) is not None:
                self._inputs[name] = self._inputs[name][..., :-count]
        self.logits = self.logits[:, :-count]
        self.hidden = None if self.hidden is None else self.hidden[:, :-count]
        self.read_since_prompt -= count

    def settle(self) -> None:
        """Keep what was read for good; only the last column's logits stay."""
        self.logits = self.logits[:, -1:]
        self.hidden = None if self.hidden is None else self.hidden[:, :0]
        if self._crops and self.cache is not None:
            self.cache.crop(0)

    def close(self) -> None:
        """Give the cache back as it came."""
        if self._crops and self.cache is not None:
            self.cache.crop(0)
            private.stop_recording(self.cache)

    def repeat(self, times: int) -> Session:
        """A copy in which every row stands `times` times, one after the other; this one is left as it is."""
        other = copy.copy(self)
        rows = torch.arange(len(self.ids), device=self.ids.device).repeat_interleave(times)
        other.ids, other.logits = self.ids[rows], self.logits[rows]
        other.hidden = None if self.hidden is None else self.hidden[rows]
        other._inputs = dict(self._inputs)
        for name in _BY_COLUMN:
            value = self._inputs.get(name)
            if value is not None and value.shape[-2] == self.rows:
                other._inputs[name] = value.repeat_interleave(times, -2)
        cache = copy.deepcopy(self.cache)
        if cache is None:
            raise Incompatible("repeat: the model must keep what it has read in a cache; it does not.")
        cache.batch_repeat_interleave(times)
        other._inputs |= with_cache(cache)
        other._outputs = {}
        return other

    @property
    def rows(self) -> int:
        return len(self.ids)

    @property
    def cache(self) -> Cache | None:
        """Keys and values of what was read."""
        return cache_of(self._inputs)

    @property
    def mask(self) -> Tensor | None:
        """Which columns are real, None where all are."""
        return self._inputs.get("attention_mask")

    def lookup(self, ids: Int[Tensor, "..."]) -> Float[Tensor, "... E"]:
        """The embeddings of ids as the model makes them, scale included."""
        return lookup(self.model)(ids)

    @cached_property
    def table(self) -> Float[Tensor, "V E"]:
        """The embeddings of all ids, made once."""
        return self.lookup(torch.arange(self.logits.shape[-1], device=self.ids.device))

    def last(self, name: str) -> Any:
        """What else the last pass gave, such as `attentions`."""
        return getattr(self._outputs, name, None)

    def mark(self, text: str) -> int | None:
        """The id of a text that is one token; None where it is several, or where no tokenizer is known."""
        if self.tokenizer is None:
            return None
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return int(ids[0]) if len(ids) == 1 else None

    def _take(self, outputs: Any, columns: int) -> None:
        self.logits = outputs.logits[:, -columns:].to(copy=True, dtype=torch.float32, device=self.ids.device)
        self.hidden = outputs.hidden_states[-1] if self._wants_hidden else None
        # Not to be held: without `logits_to_keep` these are as many as the prompt has tokens.
        outputs["logits"] = outputs.logits[:, -1:].clone()
        self._outputs = outputs
        cache = cache_of(outputs)
        if cache is not None:
            self._inputs |= with_cache(cache)
