"""What is done to every row of a corpus: shorten, encode, measure or answer, by what the methods are."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenry.core import described
from tokenry.core.errors import Incompatible, InvalidValue

if TYPE_CHECKING:
    from tokenry.core.method import Method

Values = dict[str, Any]
Doing = Callable[[Values], Values]
"""Gives the columns that a row gets."""

RESULTS: Mapping[str, Mapping[str, str]] = {
    "shorten": {"compressed": "=", "tokens_in": "int64", "tokens_out": "int64"},
    "encode": {"ids": "[int64]", "tokens": "int64"},
    "measure": {"numbers": "{double}"},
    "answer": {"answer": "string", "prompt_tokens": "int64", "new_tokens": "int64"},
}
"""Columns that rows get and their types: of lists in brackets, of numbers by name in braces; = is that of what is read.
"""

TEXT, MESSAGES = "text", "messages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What shall be done, as plain values that any process can be told.

    Args:
        use: methods in their one-line form: compressors, one tokenizer, or one metric; with a model, a pipeline.
        model: who answers; nobody where None.
        tokenizer: whose tokens budgets count and, without a method, what texts are encoded by.
        column: what is read of a row; `text` where None, and else `messages`.
        ask: the question for all rows, and `ask_column` the column that holds one for each.
        system: a system message.
        floor: of messages, results of fewer tokens stay.
        max_new: most tokens of an answer.
        threads: that each worker computes with; last digits may depend on it, so it is the same wherever rows are done.
        device, dtype, trust_remote_code: as `models.files.load.load` takes them.
    """

    use: tuple[str, ...] = ()
    model: str | None = None
    tokenizer: str = "smollm2"
    column: str | None = None
    ask: str | None = None
    ask_column: str | None = None
    system: str | None = None
    floor: int = 2000
    max_new: int = 64
    threads: int = 1
    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.ask is not None and self.ask_column is not None:
            raise InvalidValue("ask: must be one question or a column that holds them; got both; leave one out.")
        if self.model is not None and self.ask is None and self.ask_column is None:
            raise InvalidValue("ask: must be given for a model to answer; set it, or name a column with ask_column.")
        if self.threads < 1:
            raise InvalidValue(f"threads: must be at least 1; got {self.threads}.")
        assert self.kind in RESULTS

    @property
    def kind(self) -> str:
        """What is done to a row, a name of `RESULTS`; of methods only their names are read.

        Raises:
            Incompatible: methods that have no work in common.
        """
        rooms = [entry.room if entry is not None else "" for entry in map(described.check, self.use)]
        if self.model is not None:
            return "answer"
        if not rooms:
            return "encode"
        if len(rooms) == 1 and rooms[0] in ("segment", "measure"):
            return {"segment": "encode", "measure": "measure"}[rooms[0]]
        other = next((s for s, room in zip(self.use, rooms, strict=True) if room not in ("compress", "")), None)
        if other is not None:
            raise Incompatible(
                f"use: must be compressors, one tokenizer or one metric, or a pipeline for a model; got {other} "
                "without a model; name one, or leave it out."
            )
        return "shorten"

    @property
    def results(self) -> Mapping[str, str]:
        """Columns that a row gets, and their types."""
        return RESULTS[self.kind]

    def files(self) -> list[Path]:
        """Files of this machine that methods, the model and the tokenizer are read from, where they are named."""
        named = [self.tokenizer, self.model or "", *self.use]
        named += [value for spec in self.use for value in re.findall(r"=([^,\[\]]+)", spec)]
        found: list[Path] = []
        for name in dict.fromkeys(map(os.path.expanduser, named)):
            if os.path.isfile(name):
                found.append(Path(name))
            elif os.path.isdir(name):
                found += sorted(f for f in Path(name).iterdir() if f.is_file())
        return found

    def open(self) -> Doing:
        """Load what is needed, once for all rows.

        Raises:
            TokenryError: whatever is wrong with a method or a model.
        """
        return {"shorten": _shorten, "encode": _encode, "measure": _measure, "answer": _answer}[self.kind](self)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inside the block torch has so many threads, where it was loaded."""
        torch = sys.modules.get("torch")
        before = torch.get_num_threads() if torch else 0
        if torch:
            torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)


def column_of(chosen: str | None, names: Container[str]) -> str:
    """The column that is read where there are these."""
    return chosen or (MESSAGES if TEXT not in names and MESSAGES in names else TEXT)


def _shorten(work: Work) -> Doing:
    from tokenry.models.text.counting import Counter
    from tokenry.models.text.document import Document
    from tokenry.pipeline.messages.compressing import compress_messages
    from tokenry.pipeline.texts import shorten_all

    methods, counter = _methods(work), Counter.of(work.tokenizer)
    # What no text can carry is refused before the first row.
    shorten_all(methods, [Document(".")], counter, ".")

    def row(values: Values) -> Values:
        given, ask = _given(work, values), _asked(work, values)
        if isinstance(given, str):
            found = shorten_all(methods, [Document(given)], counter, ask)
            return {"compressed": found.text, "tokens_in": found.tokens_in, "tokens_out": found.tokens_out}
        short = compress_messages(given, use=methods, tokenizer=counter, ask=ask, floor=work.floor)  # type: ignore[arg-type]
        return {"compressed": short.messages, "tokens_in": short.tokens_in, "tokens_out": short.tokens_out}

    return row


def _encode(work: Work) -> Doing:
    from tokenry.segment.engines.opening import open_tokenizer

    tokenizer = open_tokenizer(work.use[0] if work.use else work.tokenizer)
    ids_of = getattr(tokenizer, "ids", None) or (lambda text: tokenizer.encode(text).ids.tolist())
    ids_of("")

    def row(values: Values) -> Values:
        ids = ids_of(_text(work, values))
        return {"ids": ids, "tokens": len(ids)}

    return row


def _measure(work: Work) -> Doing:
    from tokenry.measure.base import Metric

    [metric] = _methods(work)
    if not isinstance(metric, Metric):
        raise Incompatible(f"use: must be a metric to measure rows; {metric} makes its own texts.")

    def row(values: Values) -> Values:
        numbers = metric.measure(_text(work, values))
        return {"numbers": {name: x if math.isfinite(x) else None for name, x in numbers.items()}}

    return row


def _answer(work: Work) -> Doing:
    from tokenry.models.files.load import load
    from tokenry.models.generate.answer import Sampling
    from tokenry.pipeline.pipeline import Pipeline

    assert work.model is not None
    pipeline, sampling = Pipeline(work.use), Sampling(max_new_tokens=work.max_new)
    language = load(work.model, device=work.device, dtype=work.dtype, trust_remote_code=work.trust_remote_code)

    def row(values: Values) -> Values:
        text, ask = _text(work, values), _asked(work, values)
        trace, _ = pipeline.run(text, language, ask, sampling, system=work.system)
        receipt = trace.receipt
        return {"answer": trace.answer, "prompt_tokens": receipt.prompt_tokens, "new_tokens": receipt.new_tokens}

    return row


def _methods(work: Work) -> list[Method]:
    from tokenry.core.registry import parse

    return [parse(spec) for spec in work.use]


def _given(work: Work, values: Values) -> Any:
    """The text or the messages of a row."""
    name = column_of(work.column, values)
    if name not in values:
        raise InvalidValue(f"row: must have the column {name!r}; it has {', '.join(values) or 'none'}; set the column.")
    given = values[name]
    if isinstance(given, str) and given.strip():
        return given
    if isinstance(given, list) and given and all(isinstance(m, Mapping) for m in given):
        return given
    got = "an empty one" if given in ("", []) or isinstance(given, str) else type(given).__name__
    raise InvalidValue(f"row: {name} must be a text or a list of messages; got {got}.")


def _text(work: Work, values: Values) -> str:
    given = _given(work, values)
    if not isinstance(given, str):
        raise InvalidValue("row: must be a text; got messages; only compressors shorten these.")
    return given


def _asked(work: Work, values: Values) -> str | None:
    if work.ask_column is None:
        return work.ask
    if work.ask_column not in values:
        raise InvalidValue(
            f"row: must have the column {work.ask_column!r}; it has {', '.join(values) or 'none'}; set the ask column."
        )
    asked = values[work.ask_column]
    if not isinstance(asked, str) or not asked.strip():
        raise InvalidValue(f"row: {work.ask_column} must be a question; got {type(asked).__name__}.")
    return asked
