"""`tokenry encode`: the ids of a text, a picture or a sound, and what each of them stands for."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenry.apps.cli import options as o
from tokenry.core.errors import InvalidValue

if TYPE_CHECKING:
    from tokenry.core.sequence import TokenSequence
    from tokenry.segment.base import Tokenizer

ENCODE_SCHEMA = "tokenry.encode/0"

USUAL = "smollm2"

Name = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="NAME",
        help="Of text: an alias, a file, a folder, an encoding such as cl100k_base, a hub id, or a method such as "
        "bpe:source=…; smollm2 where nothing is said. Of pictures and sounds: a method such as patches:size=16, or a "
        "folder of a saved one.",
    ),
]


def encode(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A text, a picture or a sound; - reads text.")],
    tokenizer: Name = None,
    show: Annotated[bool, typer.Option("--show", help="Colour the tokens in the terminal.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with the tokens over it.")] = None,
    as_json: o.Json = False,
) -> None:
    """Turn a text, a picture or a sound into ids."""
    from tokenry.apps.cli.signals import encode_signal, kind_of

    kind = kind_of(file)
    if kind is not None:
        if show:
            raise InvalidValue(f"show: must be left out for {file}, which is no text; set --html.")
        encode_signal(file, kind, tokenizer, html, as_json)
        return
    data = o.read_bytes(file)

    from tokenry.segment.engines.opening import open_tokenizer

    tokenizer = tokenizer or USUAL
    method = open_tokenizer(tokenizer)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        sequence = method.encode(data)
    lost = [str(w.message) for w in said]
    _text(sequence, method, tokenizer, len(data), lost, show, html, as_json)


def _text(
    sequence: TokenSequence,
    method: Tokenizer,
    name: str,
    size: int,
    lost: list[str],
    show: bool,
    html: Path | None,
    as_json: bool,
) -> None:
    """Say what the tokens of a text are."""
    from tokenry.apps.cli.show import warn

    lossless = method.lossless
    if html is not None:
        from tokenry.core.saving import write_text
        from tokenry.report.tokens_page import tokens_page

        write_text(html, tokens_page(sequence, tokenizer=name, lossless=str(lossless), bytes_in=size))
    if as_json:
        found = {
            "schema": ENCODE_SCHEMA, "tokenizer": name, "method": method.name(), "vocab_size": method.vocab_size,
            "lossless": {"level": lossless.level, "why": lossless.why}, "warnings": lost, "bytes": size,
            "ids": sequence.ids.tolist(), "spans": sequence.spans[:, :2].tolist(),
        }  # fmt: skip
        sys.stdout.write(json.dumps(found) + "\n")
        return
    if show:
        _colour(sequence)
    elif html is None:
        sys.stdout.write(" ".join(_told(sequence)) + "\n")
    for line in lost:
        warn(line)
    ratio = f", {size / len(sequence):.2f} bytes a token" if len(sequence) else ""
    warn(f"{len(sequence)} tokens of {name} for {size} bytes{ratio}; what comes back: {lossless}")


def _told(sequence: TokenSequence) -> list[str]:
    """Ids; of tokens that have none, the bytes they stand for."""
    places = sequence.spans[:, :2].tolist()
    return [f"{a}:{b}" if id < 0 else str(id) for id, (a, b) in zip(sequence.ids.tolist(), places, strict=True)]


def _colour(sequence: TokenSequence) -> None:
    from rich.console import Console
    from rich.text import Text

    from tokenry.report.shown_tokens import shown_tokens

    colours = ("black on bright_blue", "black on bright_yellow", "black on bright_green", "black on bright_magenta")
    line = Text()
    for i, token in enumerate(shown_tokens(sequence)):
        line.append(token.text if token.whole else f"⟨{token.text}⟩", style=colours[i % len(colours)])
    Console(highlight=False).print(line, soft_wrap=True)
