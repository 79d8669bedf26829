"""Draw the tokens of a picture or a sound over it, as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Int
from torch import Tensor

from tokenry.core.sequence import TokenSequence
from tokenry.data.image import Image, write_image
from tokenry.data.sound import Sound, write_sound
from tokenry.report.template import environment

LARGEST_PAGE = 20_000
"""Boxes that are drawn; browsers stumble over more, so that then one box stands for several places."""
FINEST = 3
"""Units of the page that a box of a sound is wide, or it stands for several places too: thinner ones are a blur."""
EDGED = 8
"""Units of the page from which boxes have borders; of smaller ones nothing but the borders would be seen."""
SAID = 12
"""Ids of a box that its words name."""
WIDTH, HEIGHT = 1200, 200
"""Of the drawing of a sound, in units of the page."""
SHOWN = 600
"""Units of the page that a picture is wide, beside what the ids give back."""
COLUMNS = 600
"""Strokes of the drawing of a sound."""
GOLDEN = 137.508
"""Degrees between the colours of ids that follow each other, so that these look different."""


@dataclass(frozen=True, slots=True)
class Box:
    """What is drawn for all tokens of one place, or of several neighbours."""

    x: float
    y: float
    width: float
    height: float
    hue: int
    words: str


def signal_page(
    signal: Image | Sound, tokens: TokenSequence, *, tokenizer: str, again: Image | Sound | None,
    notes: Sequence[str] = (),
) -> str:  # fmt: skip
    """The page: the signal with a box for every place, what the ids give back, and ids where the pointer rests.

    Args:
        again: what decoding gives, if it can be decoded.
        notes: what else is to be said of the signal.
    """
    side, places, boxes = boxes_of(signal, tokens)
    wide, high = drawing_of(signal)
    template = environment().get_template("signal.html.j2")
    return template.render(
        name=signal.name.encode("utf-8", "replace").decode(),
        picture=isinstance(signal, Image),
        count=len(tokens),
        places=places,
        side=side,
        boxes=boxes,
        edged=_room(signal, len(boxes)) >= EDGED,
        notes=[note.encode("utf-8", "replace").decode() for note in notes],
        tokenizer=tokenizer,
        wide=wide,
        high=high,
        data=uri_of(signal),
        again=None if again is None else uri_of(again),
        strokes=strokes_of(signal) if isinstance(signal, Sound) else [],
    )


def boxes_of(signal: Image | Sound, tokens: TokenSequence) -> tuple[int, int, list[Box]]:
    """How many places wide a box is, the number of places, and the boxes."""
    most = LARGEST_PAGE if isinstance(signal, Image) else min(LARGEST_PAGE, WIDTH // FINEST)
    side, places, groups = _grouped(tokens, most)
    return side, places, [_box(signal, spans, ids) for spans, ids in groups]


def drawing_of(signal: Image | Sound) -> tuple[int, int]:
    """Width and height of the drawing, in the units of boxes."""
    return (signal.pixels.shape[1], signal.pixels.shape[0]) if isinstance(signal, Image) else (WIDTH, HEIGHT)


def _grouped(tokens: TokenSequence, most: int) -> tuple[int, int, list[tuple[Tensor, Tensor]]]:
    """The side of squares, all places, and those that begin in one square, each group with its ids.

    The side is the smallest power of two with at most so many groups.
    """
    spans, side = tokens.spans.cpu(), 1
    t, y, x = spans[:, ::2].unbind(1)
    high, wide = (int(ends.max()) + 1 for ends in (spans[:, 3], spans[:, 5]))

    def squares() -> Int[Tensor, "N"]:
        return (t // side * high + y // side) * wide + x // side

    places = len(squares().unique())
    while len(squares().unique()) > most:
        side *= 2
    square = squares().unique(return_inverse=True)[1]
    order = square.argsort(stable=True)
    sizes = square.bincount().tolist()
    return side, places, list(zip(spans[order].split(sizes), tokens.ids.cpu()[order].split(sizes), strict=True))


def _room(signal: Image | Sound, boxes: int) -> float:
    """Units of the page that a box is wide, in the middle."""
    if isinstance(signal, Sound):
        return WIDTH / boxes
    height, width, _ = signal.pixels.shape
    return float((SHOWN * SHOWN * height / width / boxes) ** 0.5)


def _box(signal: Image | Sound, places: Int[Tensor, "N 6"], ids: Int[Tensor, "N"]) -> Box:
    """The box around some places."""
    (t0, y0, x0), (t1, y1, x1) = places[:, ::2].min(0).values.tolist(), places[:, 1::2].max(0).values.tolist()
    said = "ids " + ", ".join(map(str, ids[:SAID].tolist())) + (", …" if len(ids) > SAID else "")
    said = said if int(ids[0]) >= 0 else "a vector" if len(ids) == 1 else f"{len(ids)} vectors"
    hue = round(int(ids[0]) * GOLDEN) % 360
    if isinstance(signal, Image):
        return Box(x0, y0, x1 - x0, y1 - y0, hue, f"{said}; pixels {x0} to {x1}, {y0} to {y1}")
    scale = WIDTH / max(1, len(signal.samples))
    words = f"{said}; {t0 / signal.rate:.3f} to {t1 / signal.rate:.3f} s"
    return Box(t0 * scale, 0, (t1 - t0) * scale, HEIGHT, hue, words)


def strokes_of(sound: Sound) -> list[tuple[float, float, float]]:
    """Place, highest and lowest point of each stroke."""
    parts = sound.samples.tensor_split(min(COLUMNS, len(sound.samples)))
    scale, middle = HEIGHT / 2 / (float(sound.samples.abs().max()) or 1.0), HEIGHT / 2
    return [
        ((i + 0.5) * WIDTH / len(parts), middle - scale * float(part.max()), middle - scale * float(part.min()))
        for i, part in enumerate(parts)
    ]


def uri_of(signal: Image | Sound) -> str:
    """The signal as an address that holds all of it."""
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(signal, Image):
            file, kind = Path(folder) / "a.png", "image/png"
            write_image(signal.pixels, file)
        else:
            file, kind = Path(folder) / "a.wav", "audio/wav"
            write_sound(signal, file)
        return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
