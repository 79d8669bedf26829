"""An ordered list of methods that answers a question over documents with fewer tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenry.attend.base import Attention, held_bytes
from tokenry.compress.base import Compressor
from tokenry.compress.ranking import Ranking
from tokenry.compress.text import text_of
from tokenry.core.budget import Budget
from tokenry.core.errors import ContextOverflow, Incompatible, InvalidValue
from tokenry.core.method import Method
from tokenry.core.registry import ROOMS, parse
from tokenry.core.registry import load as load_method
from tokenry.core.tokens import TokenBatch
from tokenry.models.answer import Answer, Attach, Sampling, answer
from tokenry.models.cost import cache_geometry, flops, peak_bytes, row_bytes
from tokenry.models.load import LanguageModel, load
from tokenry.models.prompt import Document, plain, prompt
from tokenry.reading import Reading
from tokenry.receipt import Receipt, Seconds, StepCost
from tokenry.trace import Step, Trace, document_tokens

REFITS = 8
"""Tries at making a compressed text, counted again, as long as its budget and no longer."""

Documents = str | Document | Sequence[str | Document]


class Pipeline:
    """Compressors first, then at most one attention method.

    Args:
        methods: methods, or their one-line forms such as `"dense_relevance:budget=0.25"`.

    Raises:
        Incompatible: an order or a combination that cannot work.
    """

    def __init__(self, methods: Iterable[Method | str] = ()) -> None:
        self.methods = tuple(parse(m) if isinstance(m, str) else m for m in methods)
        for method in self.methods:
            if not isinstance(method, Compressor | Attention):
                raise Incompatible(f"Pipeline: {method} of room {method.room} cannot answer over a document.")
        rooms = [ROOMS.index(m.room) for m in self.methods]
        if rooms != sorted(rooms):
            names = ", ".join(map(str, self.methods))
            raise Incompatible(f"Pipeline: compressors must come before attention methods; got {names}.")
        if len(self._attention) > 1:
            names = ", ".join(map(str, self._attention))
            raise Incompatible(f"Pipeline: only one attention method may act on a cache; got {names}; keep one.")

    @property
    def _compressors(self) -> list[Compressor]:
        return [m for m in self.methods if isinstance(m, Compressor)]

    @property
    def _attention(self) -> list[Attention]:
        return [m for m in self.methods if isinstance(m, Attention)]

    def to_dict(self) -> dict[str, Any]:
        """The pipeline as plain values for JSON."""
        return {"methods": [m.to_dict() for m in self.methods]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Pipeline:
        """The inverse of `to_dict`."""
        return cls(load_method(m["method"]).from_dict(m) for m in values["methods"])

    def compress(
        self, documents: Documents, tokenizer: Any, ask: str | None = None, model: LanguageModel | None = None
    ) -> str:
        """The compressed text itself, for models behind an API; budgets count tokens of `tokenizer`.

        Joining what is left can make new tokens of old ones, so the text is counted again and shortened to the budget.

        Raises:
            Incompatible: the pipeline holds an attention method, which no text can carry.
        """
        if self._attention:
            raise Incompatible(f"compress: text cannot carry the attention method {self._attention[0]}; leave it out.")
        batch = plain(tokenizer, _documents(documents))
        if not self.methods:
            return text_of(batch)
        last = self._compress(batch, ask, model)[-1]
        goal = int(last.batch.lengths[0])
        fitting, shortest = (-1, ""), (1 << 62, "")
        tokens = document_tokens(last.batch)
        for _ in range(REFITS):
            fitted = replace(last.method, budget=Budget(tokens=tokens)).fit(last.before, last.ranking)
            text = text_of(fitted)
            count = len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            fitting = max(fitting, (count, text)) if count <= goal else fitting
            shortest = min(shortest, (count, text))
            if count in (0, goal):
                break
            tokens = max(1, tokens * goal // count)
        return (fitting if fitting[1] else shortest)[1]

    def generate(
        self,
        documents: Documents,
        model: str | LanguageModel | Any,
        ask: str | None = None,
        *,
        tokenizer: Any = None,
        system: str | None = None,
        max_new: int = 64,
        sampling: Sampling | None = None,
        tell: Callable[[str], None] | None = None,
        record: bool = False,
    ) -> Trace:
        """Answer `ask` over the documents.

        Args:
            documents: one text or several; `Document` names them and marks spans to protect.
            model: an alias, folder, GGUF file or hub id, or a model object.
            ask: the question; it and the chat template are never compressed.
            tokenizer: of a model object, when it cannot be found by the model's name.
            max_new: most tokens to generate; `sampling` says more.
            tell: called with pieces of the answer as they arrive.
            record: count every read of every token, for the report.

        Raises:
            ContextOverflow: what remains does not fit; the sentence says how many tokens do.
        """
        started = time.perf_counter()
        language = language_of(model, tokenizer)
        loaded = time.perf_counter() - started
        sampling = sampling or Sampling(max_new_tokens=max_new)
        return self.run(documents, language, ask, sampling, system=system, tell=tell, record=record, loaded=loaded)[0]

    def read(
        self,
        documents: Documents,
        model: str | LanguageModel | Any,
        ask: str | None = None,
        *,
        tokenizer: Any = None,
        system: str | None = None,
        max_new: int = 64,
    ) -> Reading:
        """Read the documents once, to answer any number of questions.

        Args:
            ask: what the questions will be about, for compressors that need it.
            max_new: tokens of room that must be left for an answer.

        Raises:
            ContextOverflow: what remains does not fit; the sentence says how many tokens do.
        """
        language = language_of(model, tokenizer)
        tokens = prompt(language.tokenizer, _documents(documents), ask, system)
        steps = self._compress(tokens, ask, language)
        final = steps[-1].batch if steps else tokens
        self._check_fit(language, final, max_new)
        return Reading.of(language, final, self._attention[0] if self._attention else None, system=system)

    def run(
        self,
        documents: Documents,
        language: LanguageModel,
        ask: str | None,
        sampling: Sampling,
        *,
        system: str | None = None,
        tell: Callable[[str], None] | None = None,
        record: bool = False,
        logits: bool = False,
        loaded: float = 0.0,
    ) -> tuple[Trace, Answer]:
        """`generate` with a loaded model, also giving the answer's ids and, when asked for, its logits."""
        tokens = prompt(language.tokenizer, _documents(documents), ask, system)
        steps = self._compress(tokens, ask, language)
        final = steps[-1].batch if steps else tokens
        self._check_fit(language, final, sampling.max_new_tokens)
        said = answer(language, final, sampling, self.attach(language, final, record), tell=tell, logits=logits)
        trace = Trace(
            ask=ask or "",
            answer=said.text,
            receipt=self._receipt(language, tokens, steps, said, loaded),
            prompt=tokens,
            steps=tuple(Step(s.batch, s.ranking.originals(s.before)[0]) for s in steps),
            pipeline=tuple(map(str, self.methods)),
            model=describe(language),
            reads=said.run.reads if record and said.run is not None else None,
        )
        return trace, said

    def attach(self, language: LanguageModel, batch: TokenBatch, record: bool = False) -> Attach:
        """How to open the block in which the model generates."""
        if not self._attention:
            return nullcontext
        method = self._attention[0]
        return lambda: method(language.model, prompt_tokens=batch.shape[1], by_column=record)

    def _check_fit(self, language: LanguageModel, batch: TokenBatch, max_new: int) -> None:
        if not any(method.extends for method in self._attention):
            check_fit(language, batch, max_new)

    def _compress(self, batch: TokenBatch, ask: str | None, language: LanguageModel | None) -> list[_Timed]:
        done: list[_Timed] = []
        for method in self._compressors:
            start = time.perf_counter()
            ranking = method.rank(batch, ask, model=language)
            after = method.fit(batch, ranking)
            done.append(_Timed(method, batch, after, ranking, time.perf_counter() - start))
            batch = after
        return done

    def _receipt(
        self, language: LanguageModel, tokens: TokenBatch, steps: list[_Timed], said: Answer, loaded: float
    ) -> Receipt:
        final = steps[-1].batch if steps else tokens
        n, new = final.shape[1], len(said.ids)
        compressing = sum(s.seconds for s in steps)
        if said.run is None:
            read = tuple(float(n + i) for i in range(1, new))
            layers = cache_geometry(language)[0]
            pairs = layers * (n * (n + 1) / 2 + sum(read))
            bytes_read = int(row_bytes(language) * (n + sum(read)))
        else:
            read, pairs, bytes_read = tuple(said.run.reads.per_step), said.run.reads.pairs, said.run.reads.bytes
        costs = [
            StepCost(
                method=s.method.name(), room=s.method.room, seconds=s.seconds,
                tokens_in=document_tokens(s.before), tokens_out=document_tokens(s.batch),
            )
            for s in steps
        ]  # fmt: skip
        for method in self._attention:
            costs.append(
                StepCost(
                    method=method.name(), room=method.room, seconds=said.prefill + said.decode,
                    tokens_in=n, tokens_out=round(sum(read) / len(read)) if read else n,
                )
            )  # fmt: skip
        return Receipt(
            steps=tuple(costs),
            prompt_tokens=n,
            new_tokens=new,
            read_per_step=read,
            seconds=Seconds(
                load=loaded, prefill=said.prefill, decode=said.decode, first_token=compressing + said.prefill
            ),
            tokens_per_second=(new - 1) / said.decode if new > 1 and said.decode > 0 else 0.0,
            flops=flops(language, n + new - 1, new, pairs),
            kv_bytes=held_bytes(said.cache),
            bytes_read=bytes_read,
            peak_bytes=peak_bytes(),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Timed:
    """One compressor's work."""

    method: Compressor
    before: TokenBatch
    batch: TokenBatch
    ranking: Ranking
    seconds: float


def language_of(model: str | LanguageModel | Any, tokenizer: Any = None) -> LanguageModel:
    """A loaded language model from whatever the user gave."""
    if isinstance(model, LanguageModel):
        return model
    return load(str(model)) if isinstance(model, str | Path) else LanguageModel.of(model, tokenizer)


def describe(language: LanguageModel) -> dict[str, Any]:
    """What reports say of a model."""
    return {
        "name": language.name,
        "context": language.context,
        "dtype": str(language.dtype).removeprefix("torch."),
        "device": str(language.device),
    }


def check_fit(language: LanguageModel, batch: TokenBatch, max_new: int) -> None:
    """Refuse a prompt that leaves no room for the answer.

    Raises:
        ContextOverflow: saying how many document tokens fit and which budget would.
    """
    n = int(batch.lengths.max())
    if language.context is None or n + max_new <= language.context:
        return
    protected = int((batch.mask & batch.protected).sum())
    room = language.context - max_new - protected
    if room < 1:
        raise ContextOverflow(
            f"prompt: template, question and protected spans must leave room in a context of {language.context} tokens "
            f"beside {max_new} new ones; they take {protected}; shorten the question or protect less."
        )
    whole = int(batch.fate.shape[2]) - protected
    share = int(room / whole * 100) / 100
    raise ContextOverflow(
        f"prompt: must fit into a context of {language.context} tokens with {max_new} new ones; got {n}; "
        f"{room} document tokens fit: use a compressor with budget={room}"
        + (f" or budget={share}." if share > 0 else ".")
    )


def _documents(documents: Documents) -> list[Document]:
    if isinstance(documents, str | Document):
        documents = [documents]
    found = [Document(d) if isinstance(d, str) else d for d in documents]
    if not found:
        raise InvalidValue("documents: must hold at least one text; got none.")
    return found
