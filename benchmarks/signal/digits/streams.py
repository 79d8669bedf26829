"""Digits as pictures, words and sounds in one vocabulary: what is learned from, what is asked, and who judges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from rich.progress import track
from sklearn.datasets import load_digits
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor
from torch.nn.functional import pad

from benchmarks.signal.digits.recordings import ASKED, NEW_VOICE, RATE, SAMPLES, Recording, recordings
from tokenry.core.sequence import TokenSequence
from tokenry.data.image import Image
from tokenry.data.sound import Sound
from tokenry.signal.sounds.mel import mel
from tokenry.signal.streams.stream import Segment
from tokenry.signal.unified_stream import AUDIO, IMAGE, TEXT, Signal, UnifiedStream

WORDS = tuple(f" {word}" for word in "zero one two three four five six seven eight nine".split())
"""One token of SmolLM2 each."""
PICTURES = "patches[size=4,content=pixel_codes[quantizer=vq[codes=512]]]"
SOUNDS = (
    "audio_frames[rate=8000,content=mel_codes[window_ms=130,hop_ms=100,bands=32,"
    "quantizer=rvq[of=vq[codes=256],levels=4]]]"
)
CONTROLS = 32
SIZES = {IMAGE: (8, 8), AUDIO: (SAMPLES, RATE)}
EVERY = 5
"""Of every so many pictures one is held out."""
Picture = tuple[Image, int, bool]
"""Its digit, and whether it is learned from."""
Named = tuple[Signal, int]
HEARD = mel(RATE, 256, 160, 32)
"""What the judge of sounds looks at: other windows than those of the codes."""
MOVED = 320
"""Samples by which sounds are also heard earlier and later by their judge."""


@dataclass
class Digits:
    """Signals of one kind by digit, already as segments."""

    kind: str
    of: list[list[Segment]] = field(default_factory=lambda: [[] for _ in WORDS])

    def draw(self, digit: int, generator: torch.Generator) -> Segment:
        """One of a digit."""
        return self.of[digit][int(torch.randint(len(self.of[digit]), (), generator=generator))]


@dataclass
class Data:
    """Everything that the model may see, what it is asked, and the judges."""

    stream: UnifiedStream
    known: dict[str, Digits]
    asked: dict[str, Digits]
    new_voice: Digits
    judges: dict[str, Pipeline]
    """By kind; those called `real` have never seen what codes show."""
    trust: dict[str, float]
    """Share of held-out signals that the judges know, as they are and as their codes show them."""

    def vectors(self) -> dict[str, Tensor]:
        """Codebooks, from which the rows of codes begin."""
        sound = self.stream.audio.content.quantizer
        levels = range(len(sound.codebook_sizes))
        codes = torch.cat([_alone(sound.codebook_sizes[0], level, len(levels)) for level in levels])
        picture = self.stream.image.content.quantizer
        return {
            IMAGE: picture.dequantize(torch.arange(picture.codebook_sizes[0]).unsqueeze(1)),
            AUDIO: sound.look_up(codes),
        }

    def judge(self, name: str, signals: Sequence[Signal]) -> list[int]:
        """The digit that each picture or sound shows, by one of the judges."""
        return [int(n) for n in self.judges[name].predict(_seen(signals))]


def data() -> Data:
    """Learn the tokenizers and the judges from what is known."""
    pictures, spoken = _pictures(), recordings()
    stream = UnifiedStream(image=PICTURES, audio=SOUNDS, controls=CONTROLS)
    stream.fit([[image for image, _, known in pictures if known], [r.sound for r in spoken if r.known]])
    known = {kind: Digits(kind) for kind in (IMAGE, AUDIO, TEXT)}
    asked = {kind: Digits(kind) for kind in (IMAGE, AUDIO, TEXT)}
    new_voice = Digits(AUDIO)
    for image, digit, is_known in track(pictures, "pictures"):
        (known if is_known else asked)[IMAGE].of[digit] += stream.segments([image])
    for r in track(spoken, "sounds"):
        if r.known or r.number < ASKED:
            where = known[AUDIO] if r.known else new_voice if r.voice == NEW_VOICE else asked[AUDIO]
            where.of[r.digit] += stream.segments([r.sound])
    for digit, word in enumerate(WORDS):
        for words in (known, asked):
            words[TEXT].of[digit] += stream.segments([word])
    judges = _judges(stream, known, pictures, spoken)
    trust = _trust(judges, stream, asked, new_voice, pictures, spoken)
    return Data(stream, known, asked, new_voice, judges, trust)


def row_of(ids: Tensor) -> TokenSequence:
    """Ids alone as a sequence of tokens: nothing is known of where they stand."""
    return TokenSequence(
        ids=ids, source=torch.full_like(ids, -1), spans=torch.zeros(len(ids), 6, dtype=torch.long), sources=()
    )


def _pictures() -> list[Picture]:
    found = load_digits()
    grey = (torch.tensor(found.images) * 255 / 16).round().to(torch.uint8).unsqueeze(-1).expand(-1, -1, -1, 3)
    return [
        (Image(g.contiguous()), int(d), i % EVERY > 0) for i, (g, d) in enumerate(zip(grey, found.target, strict=True))
    ]


def _alone(size: int, level: int, levels: int) -> Tensor:
    """The codes of one level, without those of the others."""
    codes = torch.full((size, levels), -1)
    codes[:, level] = torch.arange(size)
    return codes


def _judges(
    stream: UnifiedStream, known: dict[str, Digits], pictures: list[Picture], spoken: list[Recording]
) -> dict[str, Pipeline]:
    """Two of each kind."""
    real: dict[str, list[Named]] = {
        IMAGE: [(image, digit) for image, digit, is_known in pictures if is_known],
        AUDIO: [(r.sound, r.digit) for r in spoken if r.known],
    }
    judges = {f"real {kind}": _judge(signals) for kind, signals in real.items()}
    return judges | {
        kind: _judge([copy for named in signals + _shown(stream, known[kind]) for copy in _copies(*named)])
        for kind, signals in real.items()
    }


def _trust(
    judges: dict[str, Pipeline], stream: UnifiedStream, asked: dict[str, Digits], new_voice: Digits,
    pictures: list[Picture], spoken: list[Recording],
) -> dict[str, float]:  # fmt: skip
    """How well each judge knows what none has learned from."""
    heard = [r for r in spoken if r.number < ASKED]
    tried: dict[str, dict[str, list[Named]]] = {
        IMAGE: {
            "as they are": [(image, digit) for image, digit, is_known in pictures if not is_known],
            "as codes show them": _shown(stream, asked[IMAGE]),
        },
        AUDIO: {
            "as they are": [(r.sound, r.digit) for r in heard if r.voice != NEW_VOICE],
            "as codes show them": _shown(stream, asked[AUDIO]),
            "a new voice": [(r.sound, r.digit) for r in heard if r.voice == NEW_VOICE],
            "a new voice, as codes show it": _shown(stream, new_voice),
        },
    }
    return {
        f"{name}: {how}": _score(judges[name], signals)
        for kind, by in tried.items()
        for name in (kind, f"real {kind}")
        for how, signals in by.items()
    }


def _shown(stream: UnifiedStream, digits: Digits) -> list[Named]:
    """Signals as their codes show them."""
    return [
        (signal, digit)
        for digit, segments in enumerate(digits.of)
        for s in segments
        for signal in stream.decode(row_of(stream.stream.pack([s])))
    ]


def _judge(signals: Sequence[Named]) -> Pipeline:
    """What tells signals apart."""
    shown, digits = zip(*signals, strict=True)
    return make_pipeline(StandardScaler(), SVC(C=10)).fit(_seen(shown), digits)


def _score(judge: Pipeline, signals: Sequence[Named]) -> float:
    """Share of signals that a judge knows."""
    shown, digits = zip(*signals, strict=True)
    return float(judge.score(_seen(shown), digits))


def _copies(signal: Signal, digit: int) -> list[Named]:
    """A sound also earlier and later."""
    if isinstance(signal, Sound):
        return [(Sound(signal.samples.roll(by), signal.rate), digit) for by in (-MOVED, 0, MOVED)]
    return [(signal, digit)]


def _seen(signals: Iterable[Signal]) -> np.ndarray:
    """What a judge looks at, a row for each signal."""
    return np.stack([_numbers(signal) for signal in signals])


def _numbers(signal: Signal) -> np.ndarray:
    if isinstance(signal, Image):
        return (signal.pixels[..., 0].float() / 255).flatten().numpy()
    assert isinstance(signal, Sound)
    samples = pad(signal.samples[:SAMPLES], (0, max(0, SAMPLES - len(signal.samples))))
    return HEARD.frames(HEARD.framed(samples)).flatten().numpy()
