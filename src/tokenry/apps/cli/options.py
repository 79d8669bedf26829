"""Options that several commands share, and how documents are read."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenry.apps.cli import complete
from tokenry.core.errors import InvalidValue, UnreadableInput

if TYPE_CHECKING:
    from tokenry.core.registry import Entry
    from tokenry.models.text.document import Document

DTYPES = ("float32", "bfloat16", "float16")
LARGEST_DOCUMENT = 64 << 20
"""Bytes of one document beyond which it is refused."""

Documents = Annotated[
    list[str],
    typer.Argument(metavar="DOC...", help="Text files; - reads standard input.", autocompletion=complete.files),
]
Use = Annotated[
    list[str] | None,
    typer.Option(
        "--use", metavar="SPEC", help="A method, [room/]name:field=value,…; repeat it to build a pipeline.",
        autocompletion=complete.methods,
    ),
]  # fmt: skip
PipelineFile = Annotated[
    Path | None, typer.Option("--pipeline", metavar="FILE", help="Methods from a file that `tokenry plan` wrote.")
]
Model = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="An alias of `tokenry models list`, a folder, a GGUF file or a hub id.",
        autocompletion=complete.models,
    ),
]  # fmt: skip
Ask = Annotated[str | None, typer.Option(help="The question.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps …")]
Dtype = Annotated[
    str, typer.Option(help="auto, float32, bfloat16 or float16.", autocompletion=lambda: ["auto", *DTYPES])
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
MaxNew = Annotated[int, typer.Option(min=1, help="Most tokens to generate.")]
Protect = Annotated[
    list[str] | None, typer.Option(metavar="REGEX", help="Spans of the documents that no method may remove.")
]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run Python code that a hub model brings.")]
Seed = Annotated[int, typer.Option(help="Of sampling.")]


def check(
    *, use: Iterable[str] = (), model: str | None = None, dtype: str = "auto", kind: str = "causal"
) -> list[Entry | None]:
    """Find mistakes before anything large is imported.

    Returns:
        The methods that are named, None for folders of saved ones.

    Raises:
        UnknownMethod, UnknownModel: a name that there is not.
        InvalidValue: a field that a method does not have, or an unknown type of numbers.
        UnsupportedModel: an alias of another kind.
    """
    from tokenry.core import described
    from tokenry.models.files.catalog import check_name

    found = [described.check(spec) for spec in use]
    if model is not None:
        check_name(model, kind)
    if dtype not in ("auto", *DTYPES):
        raise InvalidValue(f"dtype: must be auto, {', '.join(DTYPES)}; got {dtype!r}.")
    return found


def chosen(use: list[str] | None, file: Path | None, *, some: bool = False) -> list[str]:
    """The methods of `--use`, or those of a file of a pipeline.

    Args:
        some: a file of no method, which is the model alone, is refused.

    Raises:
        InvalidValue: both are given, or nothing stands in the file.
        StorageError: the file is no pipeline.
    """
    if file is None:
        return use or []
    if use:
        raise InvalidValue(f"pipeline: must be a file or methods; got {file} and {', '.join(use)}; leave one out.")
    from tokenry.pipeline.file import read_pipeline

    found = list(read_pipeline(file))
    if some and not found:
        raise InvalidValue(f"pipeline: must hold a method; {file} holds none: the plan chose the model alone.")
    return found


def corpus_files(corpus: list[Path]) -> list[Path]:
    """The files of a corpus, those of its folders in order.

    Raises:
        InvalidValue: there are none.
    """
    found = [f for path in corpus for f in (_inside(path) if path.is_dir() else [path])]
    if not found:
        raise InvalidValue(f"corpus: must hold files; found none in {', '.join(map(str, corpus))}.")
    return found


def _inside(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if f.is_file())


def read_documents(names: list[str], protect: list[str] | None = None, marks: bool = False) -> list[Document]:
    """Read text files as UTF-8, with the spans that the patterns mark.

    Args:
        marks: what spells a mark of the model is that mark.

    Raises:
        UnreadableInput: missing, empty, binary, not UTF-8 or too large.
        InvalidValue: a pattern that is no regular expression.
    """
    from tokenry.models.text.document import Document

    patterns = [_pattern(p) for p in protect or []]
    documents = []
    for name in names:
        text = _decode(name, read_bytes(name))
        spans = tuple(m.span() for p in patterns for m in p.finditer(text) if m.end() > m.start())
        documents.append(Document(text, "standard input" if name == "-" else Path(name).name, spans, marks))
    return documents


def job_documents(documents: list[Document]) -> list[dict[str, Any]]:
    """Documents as plain values for another process."""
    return [asdict(d) for d in documents]


def read_bytes(name: str) -> bytes:
    """A file, or standard input for `-`, within the limit of a document."""
    try:
        stream = sys.stdin.buffer if name == "-" else Path(name).open("rb")
        with stream:
            data = stream.read(LARGEST_DOCUMENT + 1)
    except OSError as error:
        raise UnreadableInput(f"{name}: must be a readable text file; {error.strerror}.") from error
    if len(data) > LARGEST_DOCUMENT:
        raise UnreadableInput(f"{name}: must be at most {LARGEST_DOCUMENT >> 20} MB; split it.")
    return data


def read_messages(file: Path) -> tuple[str, Any]:
    """Chat messages, or a request that holds them: as they are written, and their values.

    Raises:
        UnreadableInput: no such file, or no JSON.
    """
    data = read_bytes(str(file))
    try:
        text = data.decode(json.detect_encoding(data))
        return text, json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableInput(f"{file}: must be JSON; {error}.") from error


def _decode(name: str, data: bytes) -> str:
    if b"\0" in data:
        raise UnreadableInput(f"{name}: must be text; got binary data with zero bytes; convert it to text first.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableInput(
            f"{name}: must be UTF-8; got byte 0x{data[error.start]:02x} at position {error.start}; "
            f"convert it, for example with iconv -f latin1 -t utf-8."
        ) from error
    if not text.strip():
        raise UnreadableInput(
            f"{name}: must hold some text; got {'an empty file' if not text else 'only white space'}."
        )
    return text


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidValue(f"protect: must be a regular expression; got {text!r}; {error}.") from error
