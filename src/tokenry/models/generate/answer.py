"""Generate an answer with a clock and an account, or follow a given one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import TextStreamer
from transformers.cache_utils import Cache, DynamicCache

from tokenry.core.errors import Incompatible
from tokenry.core.progress import counted, now
from tokenry.core.tokens import TokenBatch
from tokenry.models.attention.adapter import unwrap
from tokenry.models.cache.name import cache_of, with_cache
from tokenry.models.files.load import LanguageModel
from tokenry.models.generate import decoding
from tokenry.models.generate.step import Notes, Stepper

Attach = Callable[[], AbstractContextManager[Any]]
"""Opens a block inside which a method is attached to the model, or nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is drawn; the names are those of transformers' `generate`."""

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0

    def options(self) -> dict[str, Any]:
        """Arguments of `generate`; a temperature of 0 is greedy."""
        drawn = self.temperature > 0
        chosen: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "do_sample": drawn}
        if drawn:
            chosen |= {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        if self.repetition_penalty != 1.0:
            chosen["repetition_penalty"] = self.repetition_penalty
        return chosen


@dataclass(slots=True, eq=False)
class Answer:
    """What a model said, and when.

    Args:
        ids: generated tokens, the end mark included.
        text: the same as text, without special tokens.
        prefill: seconds until the first token was there.
        decode: seconds from the first token to the last.
        cache: the cache as generation left it; None where the model gives none.
        logits: raw next-token logits of every generated token, when asked for.
        run: what the attached method's block gave.
        notes: what a decoder noted at every step.
    """

    ids: Int[Tensor, "N"]
    text: str
    prefill: float
    decode: float
    cache: Cache | None
    logits: Float[Tensor, "N V"] | None = field(default=None, repr=False)
    run: Any = field(default=None, repr=False)
    notes: tuple[Notes, ...] = field(default=(), repr=False)


class _Clock(TextStreamer):
    """Notes when tokens arrive and passes text on as it becomes certain."""

    def __init__(self, tokenizer: Any, tell: Callable[[str], None] | None) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._tell = tell
        self._prompt = True
        self.times: list[float] = []

    def put(self, value: Tensor) -> None:
        if not self._prompt:
            self.times.append(time.perf_counter())
            now(f"writing token {len(self.times):,}")
        self._prompt = False
        if self._tell is not None:
            super().put(value)

    def end(self) -> None:
        if self._tell is not None:
            super().end()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if self._tell is not None and text:
            self._tell(text)


def answer(
    language: LanguageModel,
    batch: TokenBatch,
    sampling: Sampling,
    attach: Attach,
    *,
    tell: Callable[[str], None] | None = None,
    logits: bool = False,
    cache: Cache | None = None,
    decoder: Stepper | None = None,
) -> Answer:
    """Generate after the one row of `batch`.

    Args:
        cache: of the first tokens of the row, which are then not read again.
        attach: opens the block in which the model generates.
        tell: called with pieces of text as they arrive.
        logits: keep the raw logits of every step.
        decoder: chooses the tokens; None for the model's own choice.

    Raises:
        Incompatible: a temperature together with a decoder that draws by itself.
    """
    batch = batch.to(language.device)
    inputs = batch.model_inputs() | _names(batch)
    clock = _Clock(language.tokenizer, tell)
    now(f"{language.name} reads {int(batch.mask.sum()):,} tokens")
    devices = [language.device] if language.device.type == "cuda" else []
    with torch.random.fork_rng(devices), attach() as run, torch.no_grad():
        torch.manual_seed(sampling.seed)
        start = time.perf_counter()
        options: dict[str, Any] = {
            **inputs, **sampling.options(), **_marks(language),
            "streamer": clock, "return_dict_in_generate": True, "output_logits": logits,
        }  # fmt: skip
        if cache is not None:
            options |= with_cache(cache)
        if decoder is None:
            out = language.model.generate(**options)
        else:
            out = decoding.generate(
                language.model, decoder, tokenizer=language.tokenizer, seed=sampling.seed, **options
            )
    ids = out.sequences[0, inputs["input_ids"].shape[1] if "input_ids" in inputs else 0 :].cpu()
    return Answer(
        ids=ids,
        text=str(language.tokenizer.decode(ids, skip_special_tokens=True)).strip(),
        prefill=clock.times[0] - start,
        decode=clock.times[-1] - clock.times[0],
        cache=cache_of(out),
        logits=torch.cat(out.logits).float().cpu() if logits else None,
        run=run,
        notes=() if decoder is None else out.notes,
    )


@torch.no_grad()
def follow(
    language: LanguageModel, batch: TokenBatch, ids: Int[Tensor, "N"], attach: Attach,
    decoder: Stepper | None = None, cache: Cache | None = None,
) -> Float[Tensor, "N V"]:  # fmt: skip
    """Logits for every token of a given answer, fed one by one as if the model had said it.

    Raises:
        Incompatible: a decoder, which would choose and read tokens of its own.
    """
    if decoder is not None:
        raise Incompatible(
            f"{decoder.name()}: chooses what is said and read, so it cannot follow a given answer; compare answers."
        )
    inputs = batch.to(language.device).model_inputs()
    total = batch.shape[1] + len(ids)
    mask = torch.nn.functional.pad(inputs["attention_mask"], (0, len(ids)), value=1)
    given = ids.to(language.device)
    with attach():
        if cache is None:
            cache = DynamicCache(config=unwrap(language.model).config)
        fresh = after(inputs, cache.get_seq_length())
        out = language.model(**fresh, **with_cache(cache), logits_to_keep=1)
        rows = [out.logits[0, -1].float().cpu()]
        for i in counted(range(len(ids) - 1), "following token", len(ids) - 1):
            out = language.model(
                input_ids=given[None, i : i + 1],
                attention_mask=mask[:, : total - len(ids) + i + 1],
                **with_cache(cache),
            )
            rows.append(out.logits[0, -1].float().cpu())
    return torch.stack(rows)


def after(inputs: Mapping[str, Any], held: int) -> dict[str, Any]:
    """Inputs of a forward without the columns whose keys and values a cache holds already."""
    tokens = {"input_ids": 1, "inputs_embeds": 1, "position_ids": -1}
    return {n: v.narrow(tokens[n], held, v.shape[tokens[n]] - held) if n in tokens else v for n, v in inputs.items()}


def divergence(
    dense: Float[Tensor, "N V"], other: Float[Tensor, "N V"]
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """KL(dense || other) in nats and agreement of the most likely token, for each position."""
    p, q = dense.log_softmax(-1), other.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1), (dense.argmax(-1) == other.argmax(-1)).float()


def _names(batch: TokenBatch) -> dict[str, Tensor]:
    """Ids beside embeddings, for what looks at the words of the prompt, such as a penalty for repeating them.

    A token without an id is called as the first one that has one, which adds no word to those that are there.
    """
    if batch.embeds is None or batch.ids is None:
        return {}
    named = batch.mask & (batch.ids >= 0)
    first = named.long().argmax(1, keepdim=True)
    return {"input_ids": torch.where(named, batch.ids, batch.ids.gather(1, first).clamp_min(0))}


def _marks(language: LanguageModel) -> Mapping[str, Any]:
    """A padding id for models that have none, so that `generate` does not warn."""
    config = unwrap(language.model).generation_config
    if config.pad_token_id is not None:
        return {}
    end = config.eos_token_id
    return {"pad_token_id": end[0] if isinstance(end, list) else end if end is not None else 0}
