"""Draw the tokens of a picture or a sound over it, as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tokenry.core.sequence import TokenSequence
from tokenry.data.image import Image, write_image
from tokenry.data.sound import Sound, write_sound

LARGEST_PAGE = 20_000
"""Boxes that are drawn; browsers stumble over more."""
WIDTH, HEIGHT = 1200, 200
"""Of the drawing of a sound, in units of the page."""
COLUMNS = 600
"""Strokes of the drawing of a sound."""
GOLDEN = 137.508
"""Degrees between the colours of neighbouring ids, so that no two look alike."""


@dataclass(frozen=True, slots=True)
class Box:
    """What is drawn for all tokens of one place."""

    x: float
    y: float
    width: float
    height: float
    hue: int
    words: str


def signal_page(signal: Image | Sound, tokens: TokenSequence, *, tokenizer: str, again: Image | Sound | None) -> str:
    """The page: the signal with a box for every place, what the ids give back, and ids where the pointer rests.

    Args:
        again: what decoding gives, if it can be decoded.
    """
    boxes = list(_boxes(signal, tokens))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    wide, high = (signal.pixels.shape[1], signal.pixels.shape[0]) if isinstance(signal, Image) else (WIDTH, HEIGHT)
    return environment.get_template("signal.html.j2").render(
        name=signal.name,
        picture=isinstance(signal, Image),
        count=len(tokens),
        places=len(boxes),
        boxes=boxes[:LARGEST_PAGE],
        tokenizer=tokenizer,
        wide=wide,
        high=high,
        data=_uri(signal),
        again=None if again is None else _uri(again),
        strokes=_strokes(signal) if isinstance(signal, Sound) else [],
    )


def _boxes(signal: Image | Sound, tokens: TokenSequence) -> Iterator[Box]:
    held: dict[tuple[int, ...], list[int]] = {}
    for number, box in zip(tokens.ids.tolist(), tokens.spans.tolist(), strict=True):
        held.setdefault(tuple(box), []).append(number)
    for (t0, t1, y0, y1, x0, x1), ids in held.items():
        said = ", ".join(map(str, ids[:12])) + (", …" if len(ids) > 12 else "")
        hue = round(ids[0] * GOLDEN) % 360
        if isinstance(signal, Image):
            yield Box(x0, y0, x1 - x0, y1 - y0, hue, f"ids {said}; pixels {x0} to {x1}, {y0} to {y1}")
        else:
            scale = WIDTH / max(1, len(signal.samples))
            words = f"ids {said}; {t0 / signal.rate:.3f} to {t1 / signal.rate:.3f} s"
            yield Box(t0 * scale, 0, (t1 - t0) * scale, HEIGHT, hue, words)


def _strokes(sound: Sound) -> list[tuple[float, float, float]]:
    """Place, highest and lowest point of each stroke."""
    parts = sound.samples.tensor_split(min(COLUMNS, len(sound.samples)))
    scale, middle = HEIGHT / 2 / (float(sound.samples.abs().max()) or 1.0), HEIGHT / 2
    return [
        ((i + 0.5) * WIDTH / len(parts), middle - scale * float(part.max()), middle - scale * float(part.min()))
        for i, part in enumerate(parts)
    ]


def _uri(signal: Image | Sound) -> str:
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(signal, Image):
            file, kind = Path(folder) / "a.png", "image/png"
            write_image(signal.pixels, file)
        else:
            file, kind = Path(folder) / "a.wav", "audio/wav"
            write_sound(signal, file)
        return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
