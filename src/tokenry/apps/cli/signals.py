"""Pictures and sounds in `tokenry encode` and `tokenry decode`."""

from __future__ import annotations

import json
import sys
import warnings
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenry.core.errors import InvalidValue

if TYPE_CHECKING:
    from tokenry.data.image import Image
    from tokenry.data.sound import Sound
    from tokenry.signal.base import SegmentTokenizer

SCHEMA = "tokenry.encode_signal/0"
PICTURES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".ppm",
    ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".avif", ".avifs",
)  # fmt: skip
SOUNDS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3")
USUAL = {"image": "patches", "audio": "audio_frames:content=mu_law"}
"""Taken where nothing is said, since nothing must be learnt: bytes of pixels, and sounds of 16 kHz in 8 bits."""

MOST_TOKENS = 1_500_000
"""What is printed of more would be too long to read back. Pictures are scaled to fewer; sounds are refused."""


def kind_of(file: str) -> str | None:
    """Whether a file is a picture or a sound by its name; None for a text."""
    suffix = Path(file).suffix.lower()
    return "image" if suffix in PICTURES else "audio" if suffix in SOUNDS else None


def encode_signal(file: str, kind: str, name: str | None, html: Path | None, as_json: bool) -> None:
    """Say what the tokens of a picture or a sound are."""
    from tokenry.apps.cli.show import warn

    name = name or USUAL[kind]
    method = _method(name, kind)
    if not method.vocab_size and (as_json or html is None):
        raise InvalidValue(f"tokenizer: must have ids to print; tokens of {name} are vectors; set --html to see them.")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        given = _read(file, kind)
    signal = _with_fewer_tokens(method, name, kind, given)
    lost, size = [str(w.message) for w in said], method.size_of(signal)
    if signal is not given:
        whole = method.size_of(given)
        lost.append(
            f"{given.name}: scaled from {whole[1]} x {whole[0]} to {size[1]} x {size[0]} pixels, since {name} gives "
            f"{method.count(whole):,} tokens for all of it, and {MOST_TOKENS:,} are the most."
        )
    tokens = method.encode(signal)
    if html is not None:
        from tokenry.core.saving import write_text
        from tokenry.report.signal_page import signal_page

        page = signal_page(signal, tokens, tokenizer=name, again=method.decode(tokens), notes=lost)
        write_text(html, page)
    if as_json:
        found = {
            "schema": SCHEMA, "tokenizer": name, "method": method.name(), "vocab_size": method.vocab_size,
            "warnings": lost, "kind": kind, "size": list(size),
            "scaled_from": None if signal is given else list(method.size_of(given)),
            "ids": tokens.ids.tolist(), "spans": tokens.spans.tolist(),
        }  # fmt: skip
        sys.stdout.write(json.dumps(found) + "\n")
        return
    if html is None:
        sys.stdout.write(" ".join(map(str, tokens.ids.tolist())) + "\n")
    for line in lost:
        warn(line)
    warn(f"{len(tokens)} tokens of {name} for {_words(kind, size)}")


def decode_signal(found: Mapping[str, Any], name: str | None, out: Path | None) -> None:
    """Write the picture or the sound that `tokenry encode --json` described."""
    import torch

    from tokenry.core.origin import Source
    from tokenry.core.sequence import TokenSequence
    from tokenry.data.image import Image, write_image
    from tokenry.data.sound import write_sound

    try:
        kind, ids = str(found["kind"]), torch.tensor(whole(found["ids"]), dtype=torch.long)
        spans = torch.tensor(found["spans"], dtype=torch.long).view(len(ids), 6)
        size = tuple(whole(found["size"]))
        name = name or str(found["tokenizer"])
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InvalidValue(f"ids: must be what `tokenry encode --json` prints of a signal; {error!r}.") from error
    if out is None:
        raise InvalidValue(f"out: must be a file for {_words(kind, ())}; got none; set --out.")
    method = _method(name, kind)
    source = Source(method.kind, None, size=size)
    signal = method.decode(TokenSequence(ids=ids, source=torch.zeros_like(ids), spans=spans, sources=(source,)))
    if isinstance(signal, Image):
        write_image(signal.pixels, out)
    else:
        write_sound(signal, out)


def _with_fewer_tokens(method: SegmentTokenizer, name: str, kind: str, signal: Image | Sound) -> Image | Sound:
    """The signal itself where it has no more than `MOST_TOKENS`, or else the largest picture of its shape that has."""
    from tokenry.data.image import Image

    def count(size: tuple[int, ...]) -> int:
        return method.count(size) or 0

    size = method.size_of(signal)
    if count(size) <= MOST_TOKENS:
        return signal
    if not isinstance(signal, Image):
        raise InvalidValue(
            f"file: must have at most {MOST_TOKENS:,} tokens; {name} gives {count(size):,} for {_words(kind, size)}; "
            "take a shorter one, or a tokenizer with fewer tokens a second, such as a saved one with mel_codes."
        )
    from tokenry.signal.pictures.tiles import shrunk, thumbnail

    height, width, _ = signal.pixels.shape
    sides = range(1, max(height, width))
    side = bisect_right(sides, MOST_TOKENS, key=lambda side: count(shrunk(height, width, side)))
    return thumbnail(signal, side).image


def whole(ids: Any) -> list[int]:
    """Ids of a document, which are whole numbers and nothing like them.

    Raises:
        TypeError: something else.
    """
    if not isinstance(ids, list) or any(type(i) is not int for i in ids):
        raise TypeError("ids are no list of whole numbers")
    return ids


def _method(name: str, kind: str) -> SegmentTokenizer:
    from tokenry.core.registry import parse
    from tokenry.signal.base import SegmentTokenizer

    method = parse(name)
    if not isinstance(method, SegmentTokenizer) or method.takes.__name__.lower() != _takes(kind):
        raise InvalidValue(
            f"tokenizer: must be a method or a folder for {_words(kind, ())}, such as {USUAL.get(kind)}; got {name!r}."
        )
    return method


def _read(file: str, kind: str) -> Image | Sound:
    from tokenry.data.image import read_image
    from tokenry.data.sound import read_sound

    return read_image(file) if kind == "image" else read_sound(file)


def _takes(kind: str) -> str:
    return {"image": "image", "audio": "sound"}.get(kind, "")


def _words(kind: str, size: tuple[int, ...]) -> str:
    what = {"image": "a picture", "audio": "a sound"}.get(kind, f"a signal of the kind {kind!r}")
    if not size:
        return what
    return f"{what} of {size[1]} x {size[0]} pixels" if kind == "image" else f"{what} of {size[0] / size[1]:.2f} s"
