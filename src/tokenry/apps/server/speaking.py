"""A model at hand that answers chat requests: its own cache for each, and nothing is read twice."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache

from tokenry.attend.base import Attention
from tokenry.core.errors import ContextOverflow, Incompatible, InvalidValue
from tokenry.core.registry import parse
from tokenry.core.tokens import TokenBatch
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.frozen import FrozenCache
from tokenry.models.cache.kv import KVBuffer
from tokenry.models.cache.own import own_buffers
from tokenry.models.files.load import LanguageModel
from tokenry.models.generate.answer import Sampling, answer
from tokenry.models.text.prompt import Piece, tokenize

WORTH_KEEPING = 32
"""Tokens that a prompt must share with an earlier one for its cache to be gone on with."""
COLDEST = 1e-4
"""Temperature below which the likeliest token is taken: logits divided by less are no numbers any more."""
NOT_DONE = ("stop", "stop_sequences", "logprobs", "top_logprobs", "top_k", "logit_bias", "presence_penalty",
            "frequency_penalty", "suffix", "echo")  # fmt: skip
"""What would make another answer, and is not done here."""
MOST_SEED = (1 << 63) - 1
MOST_BYTES = 1 << 30
"""Bytes of caches that are kept."""


class Stopped(Exception):
    """Nobody listens any more."""


@dataclass(frozen=True, slots=True)
class Said:
    """An answer with its account.

    Args:
        text: of the answer.
        prompt: tokens of the prompt, of which `cached` were not read again.
        completion: tokens of the answer.
        finished: whether the model ended it.
    """

    text: str
    prompt: int
    cached: int
    completion: int
    finished: bool


class Speaker:
    """One loaded model, for several requests at a time.

    Args:
        language: the model.
        use: an attention method in its one-line form, bound to the cache of each request; none for all of attention.
        most_bytes: of caches that are kept for prompts that begin alike. Only all of attention goes on with them: what
            a method keeps depends on the whole prompt.

    Raises:
        Incompatible: a method of another room.
    """

    def __init__(self, language: LanguageModel, use: str | None = None, *, most_bytes: int = MOST_BYTES) -> None:
        self.language, self.method, self.most_bytes = language, method_of(use), most_bytes
        self.adapter = ModelAdapter.of(language.model)
        self._kept: OrderedDict[tuple[int, ...], FrozenCache] = OrderedDict()
        self._lock, self._drawing = threading.Lock(), threading.Lock()
        self._open = ExitStack()
        self._open.enter_context(self.adapter.attached())

    def close(self) -> None:
        """Leave the model as it was."""
        self._open.close()

    def speak(self, messages: Sequence[Any], sampling: Sampling, tell: Callable[[str], None] | None = None) -> Said:
        """Answer a conversation.

        Raises:
            InvalidValue: messages that the model's chat template does not take.
            ContextOverflow: no room for the answer.
        """
        ids = self.ids(messages)
        room = self.language.context
        if room is not None and len(ids) + sampling.max_new_tokens > room:
            raise ContextOverflow(
                f"messages: must leave room for {sampling.max_new_tokens} new tokens in a context of {room}; they have "
                f"{len(ids)}; shorten them or ask for fewer."
            )
        cache, held = self._cache(ids)
        batch = TokenBatch.from_ids(torch.tensor(ids)[None])
        # Drawing uses one global state; greedy answers need none.
        with self._drawing if sampling.temperature > 0 else nullcontext():
            found = answer(self.language, batch, sampling, nullcontext, tell=tell, cache=cache)
        said = found.ids.tolist()
        self._keep((*ids, *said[:-1]), found.cache)
        return Said(found.text, len(ids), held, len(said), len(said) < sampling.max_new_tokens)

    def ids(self, messages: Sequence[Any]) -> list[int]:
        """The tokens of a conversation, or of one text; what people and tools say is text, whatever marks it spells.

        Args:
            messages: objects with the texts `role` and `content`, or a single text.
        """
        _check(messages)
        if len(messages) == 1 and isinstance(messages[0], str):
            return tokenize(self.language.tokenizer, [Piece(messages[0], "text")], whole=True).ids.tolist()
        said = [(m["role"], m["content"]) for m in messages]
        free = (c for c in map(chr, range(0xE000, 0xF8FF)) if c not in "".join(text for _, text in said))
        marks = [next(free) for _ in said]
        shown = [{"role": role, "content": mark} for (role, _), mark in zip(said, marks, strict=True)]
        try:
            whole = str(self.language.tokenizer.apply_chat_template(shown, tokenize=False, add_generation_prompt=True))
        except Exception as error:
            raise InvalidValue(f"messages: must fit the model's chat template; {str(error)[:200]}.") from error
        pieces, at = [], 0
        for (_, text), mark in zip(said, marks, strict=True):
            place = whole.find(mark, at)
            if place < 0 or whole.count(mark) != 1:
                raise InvalidValue("messages: the model's chat template must show each message once; it does not.")
            pieces += [Piece(whole[at:place], "template"), Piece(text, "text")]
            at = place + 1
        pieces.append(Piece(whole[at:], "template"))
        return tokenize(self.language.tokenizer, [p for p in pieces if p.text], whole=False).ids.tolist()

    def _cache(self, ids: list[int]) -> tuple[Cache, int]:
        """A cache for a prompt, with what an earlier one has in common with it."""
        if self.method is not None:
            return self.method.bound(self.adapter.model, prompt_tokens=len(ids))[0], 0
        with self._lock:
            best = max(self._kept, key=lambda kept: _common(kept, ids), default=())
            held = min(_common(best, ids), len(ids) - 1)
            frozen = self._kept.get(best) if held >= WORTH_KEEPING else None
            if frozen is not None:
                self._kept.move_to_end(best)
        if frozen is None:
            cache = DynamicCache(config=self.adapter.model.config)
            own_buffers(cache)
            return cache, 0
        cache = frozen.thaw(self.adapter.model)
        cache.crop(held - len(best))
        return cache, held

    def _keep(self, ids: tuple[int, ...], cache: Cache | None) -> None:
        if self.method is not None or cache is None or not all(type(layer) is KVBuffer for layer in cache.layers):
            return
        frozen = FrozenCache.of(cache, self.adapter.model)
        with self._lock:
            self._kept[ids] = frozen
            self._kept.move_to_end(ids)
            while len(self._kept) > 1 and sum(f.nbytes for f in self._kept.values()) > self.most_bytes:
                self._kept.popitem(last=False)


def method_of(use: str | None) -> Attention | None:
    """The attention method of a one-line form.

    Raises:
        Incompatible: a method of another room.
    """
    method = None if use is None else parse(use)
    if not isinstance(method, Attention | None):
        raise Incompatible(f"serve: a model at hand takes one attention method; got {method}.")
    return method


def sampling_of(request: Mapping[str, Any]) -> Sampling:
    """How a request wants its answer drawn.

    Raises:
        InvalidValue: a number that is none, or out of range, or a wish that would be passed over.
    """
    wished = next((name for name in NOT_DONE if request.get(name)), None)
    if wished is not None:
        raise InvalidValue(f"{wished}: must be left out, for this server does not do it; got {request[wished]!r:.40}.")
    form = request.get("response_format")
    if isinstance(form, Mapping) and form.get("type", "text") != "text":
        raise InvalidValue(f"response_format: must be text, which is all that is promised; got {form['type']!r:.40}.")
    most = request.get("max_completion_tokens", request.get("max_tokens", 256))
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise InvalidValue(f"max_tokens: must be a whole number of at least 1; got {most!r}.")
    heat, top = request.get("temperature", 0.0), request.get("top_p", 1.0)
    for name, value, high in (("temperature", heat, 2.0), ("top_p", top, 1.0)):
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= high:
            raise InvalidValue(f"{name}: must be in [0, {high}]; got {value!r}.")
    seed = request.get("seed", 0)
    if request.get("n", 1) != 1:
        raise InvalidValue(f"n: must be 1; got {request['n']!r}; ask several times.")
    seed = seed if isinstance(seed, int) else time.time_ns()
    return Sampling(
        max_new_tokens=most, temperature=0.0 if heat < COLDEST else float(heat), top_p=float(top), seed=seed & MOST_SEED
    )


def _check(messages: Sequence[Any]) -> None:
    """Refuse halves of surrogate pairs, which no vocabulary has a token for."""
    texts = (text for m in messages for text in ((m,) if isinstance(m, str) else (m["role"], m["content"])))
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidValue(
                f"messages: must be text that UTF-8 can hold; got half of a surrogate pair at character {error.start}."
            ) from error


def _common(kept: Sequence[int], ids: Sequence[int]) -> int:
    """Tokens that two prompts begin with."""
    return next((i for i, (a, b) in enumerate(zip(kept, ids, strict=False)) if a != b), min(len(kept), len(ids)))
