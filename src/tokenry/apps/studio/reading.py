"""A text through the studio: tokens as a reader cuts them, what methods leave of them, and perhaps an answer."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tokenry.apps.studio.shelf import Shelf
from tokenry.apps.studio.task import Task
from tokenry.core import described
from tokenry.core.errors import ContextOverflow, Incompatible, Notice
from tokenry.core.progress import now

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

    from tokenry.core.tokens import TokenBatch
    from tokenry.models.files.load import LanguageModel
    from tokenry.pipeline.preparing import Prepared
    from tokenry.pipeline.trace import Trace

Tell = Callable[[str], None]


def read_text(task: Task, shelf: Shelf, tell: Tell) -> dict[str, Any]:
    """A trace of the text, with ids and bytes of its tokens, as a page draws it.

    Raises:
        TokenryError: a method or a model that cannot do it, in a sentence.
    """
    needs = [described.needs_of(entry) for spec in task.methods if (entry := described.check(spec)) is not None]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if task.answer:
            found = _answered(task, shelf, tell)
        elif task.methods:
            found = _prepared(task, shelf, any(need.model for need in needs))
        else:
            found = _cut(task, shelf)
    return found | {"kind": "text", "notes": [str(w.message) for w in said if _is_for_users(w.category)]}


def _is_for_users(kind: type[Warning]) -> bool:
    return issubclass(kind, UserWarning) and not issubclass(kind, FutureWarning)


def _cut(task: Task, shelf: Shelf) -> dict[str, Any]:
    """The text in the tokens of a vocabulary."""
    tokenizer, start = shelf.tokenizer(task.reader), time.perf_counter()
    sequence = tokenizer.encode(task.text)
    seconds = time.perf_counter() - start
    spans = sequence.spans[:, :2]
    texts, shown = _texts(task.text, spans)
    return {
        "trace": _trace(task, texts, []),
        "vocabulary": {
            "size": tokenizer.vocab_size, "lossless": str(tokenizer.lossless), "kind": tokenizer.name(),
        },
        "seconds": seconds, **_columns(sequence.ids, spans, shown),
    }  # fmt: skip


def _prepared(task: Task, shelf: Shelf, with_model: bool) -> dict[str, Any]:
    """What methods leave of the text, without an answer."""
    from tokenry.models.files.load import load_tokenizer
    from tokenry.models.text.document import Document
    from tokenry.models.text.prompt import plain
    from tokenry.pipeline.pipeline import Pipeline
    from tokenry.pipeline.preparing import prepare

    stages = Pipeline(task.methods).stages
    late = stages.attention or stages.decoder
    if late is not None:
        raise Incompatible(f"{late.name()}: acts while a model answers; let the model answer, or leave the method out.")
    language = shelf.language(task.reader)[0] if with_model else None
    words = language.tokenizer if language else load_tokenizer(shelf.check(task.reader))
    batch = plain(words, [Document(task.text, task.name or "input")])
    prepared = prepare(batch, stages, task.ask or None, language)
    trace = _trace_of(task, prepared, language)
    return {"trace": trace, "seconds": prepared.seconds, **_columns_of(prepared.spelled)}


def _answered(task: Task, shelf: Shelf, tell: Tell) -> dict[str, Any]:
    """The text read by a model that answers, every read of every token counted."""
    from tokenry.models.generate.answer import Sampling
    from tokenry.models.text.document import Document
    from tokenry.pipeline.compare import beside_alone
    from tokenry.pipeline.pipeline import Pipeline

    pipeline, sampling = Pipeline(task.methods), Sampling(max_new_tokens=task.max_new)
    documents = [Document(task.text, task.name or "input")]
    language, loaded = shelf.language(task.reader)
    now("the model reads")
    start = time.perf_counter()
    trace, _ = pipeline.run(documents, language, task.ask or None, sampling, tell=tell, record=True, loaded=loaded)
    seconds = time.perf_counter() - start
    if task.beside and task.methods:
        # Told again with each token, so that it can be stopped.
        alone = partial(now, "the model alone answers, to say what is lost")
        alone()
        try:
            trace = beside_alone(trace, pipeline, language, documents, sampling, lambda _: alone())
        except ContextOverflow as error:
            said = f"What is lost cannot be said, since the model alone could not answer: {error}"
            warnings.warn(said, Notice, stacklevel=1)
    return {"trace": trace.to_dict(), "seconds": seconds, **_columns_of(trace.prompt)}


def _trace_of(task: Task, prepared: Prepared, language: LanguageModel | None) -> dict[str, Any]:
    """The trace of a prompt that no model read: what was not measured is null."""
    from tokenry.pipeline.pipeline import describe, step_of
    from tokenry.pipeline.receipt import Receipt, Seconds, StepCost
    from tokenry.pipeline.trace import Trace, document_tokens

    steps = tuple(
        StepCost(
            method=c.method.name(), room=c.method.room, seconds=c.seconds, tokens_in=document_tokens(c.before),
            tokens_out=document_tokens(c.batch),
        )
        for c in prepared.changes
    )  # fmt: skip
    receipt = Receipt(
        steps=steps, prompt_tokens=document_tokens(prepared.final), new_tokens=0, read_per_step=(),
        seconds=Seconds(load=0, prefill=0, decode=0, first_token=0), tokens_per_second=0, flops=0, kv_bytes=0,
        bytes_read=0, peak_bytes=0,
    )  # fmt: skip
    trace: Trace = Trace(
        ask=task.ask, answer="", receipt=receipt, prompt=prepared.spelled, steps=tuple(map(step_of, prepared.changes)),
        pipeline=tuple(str(c.method) for c in prepared.changes),
        model=describe(language) if language else _model(task),
    )  # fmt: skip
    found = trace.to_dict()
    return found | {"receipt": _unmeasured(found["receipt"]), "recovered": []}


def _trace(task: Task, texts: list[str], steps: list[dict[str, Any]]) -> dict[str, Any]:
    """The trace of a text that was cut into tokens and nothing else."""
    from tokenry.pipeline.trace import TRACE_SCHEMA

    receipt = {"steps": steps, "prompt_tokens": len(texts), "new_tokens": 0, "read_per_step": []}
    return {
        "schema": TRACE_SCHEMA, "model": _model(task), "ask": task.ask, "pipeline": [],
        "documents": [{"name": task.name or "input", "tokens": texts}], "steps": steps, "reads": None, "answer": "",
        "recovered": [], "receipt": _unmeasured(receipt), "dense": None,
    }  # fmt: skip


def _unmeasured(receipt: dict[str, Any]) -> dict[str, Any]:
    seconds = dict.fromkeys(("load", "prefill", "decode", "first_token"))
    costs = dict.fromkeys(("tokens_per_second", "flops", "kv_bytes", "bytes_read", "peak_bytes"))
    return receipt | {"seconds": seconds, **costs}


def _model(task: Task) -> dict[str, Any]:
    return {"name": task.reader, "context": None, "dtype": "tokens only", "device": "no model"}


def _columns_of(batch: TokenBatch) -> dict[str, Any]:
    """Ids and bytes of the tokens of the one document."""
    source = batch.origin.source[0]
    document = next(i for i, s in enumerate(batch.origin.sources) if s.kind == "text")
    mine = (source == document).nonzero()[:, 0]
    spans = batch.origin.spans[0, mine, :2]
    data = batch.origin.sources[document].data
    assert isinstance(data, str)
    # Whatever was dropped or respelled: the ids of the originals are those of the columns before any change.
    ids = batch.ids[0, mine] if batch.ids is not None and batch.ids.shape[1] == len(source) else None
    return _columns(ids, spans, _texts(data, spans)[1])


def _columns(ids: Int[Tensor, "N"] | None, spans: Int[Tensor, "N 2"], shown: dict[int, str]) -> dict[str, Any]:
    return {"ids": None if ids is None else ids.tolist(), "bytes": spans.tolist(), "shown": shown}


def _texts(text: str, spans: Int[Tensor, "N 2"]) -> tuple[list[str], dict[int, str]]:
    """What tokens hold; and by their number what is drawn of those that hold no whole characters, or invisible ones."""
    from tokenry.report.shown_tokens import visible

    data, texts, shown = text.encode(), [], {}
    for i, (start, end) in enumerate(spans.tolist()):
        held = data[start:end]
        try:
            found = held.decode()
        except UnicodeDecodeError:
            found, shown[i] = "", f"⟨{held.hex(' ')}⟩"
        if not found.strip("\n\t").isprintable():
            shown[i] = "".join(map(visible, found))
        texts.append(found)
    return texts, shown
