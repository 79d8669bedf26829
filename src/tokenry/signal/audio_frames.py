"""Audio frames: a sound becomes codes of its frames, and codes become a sound again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from tokenry.core.card import Card
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.core.fields import between, part
from tokenry.core.learned import LearnedPart, Unbuilt
from tokenry.core.origin import Source, SourceKind
from tokenry.core.sequence import Modality, TokenSequence
from tokenry.data.sound import MOST_SAMPLES, STEEPEST, Sound
from tokenry.data.sound_file import HIGHEST_RATE
from tokenry.signal.base import SegmentTokenizer
from tokenry.signal.parts.mel_codes import MelCodes
from tokenry.signal.parts.sound_content import SoundContent
from tokenry.signal.sounds.code_order import books_of, check_codes, codes_of
from tokenry.signal.sounds.frame_stream import FrameStream
from tokenry.signal.sounds.resampling import Resampler
from tokenry.signal.sounds.sample_grid import SampleGrid


@dataclass(eq=False, repr=False, kw_only=True)
class AudioFrames(SegmentTokenizer):
    """Cut a sound into frames and give each one a token for every code of it.

    What it does
        The sound is brought to one rate and cut into frames, the last one filled up with silence; a part says how
        long frames are and what their codes mean. An id is a code and the sizes of all codebooks before its own; the
        codes of a frame follow each other. T samples at rate r give ceil(ceil(T rate / r) / hop) frames.
    Where it acts
        On sounds of one channel, before they enter a vocabulary with other tokens.
    Shapes
        sound (T,) -> ids (F R,), or fewer where the content merges equal neighbours.
    Guarantees
        Spans are samples of the sound as it was given and follow each other without gaps to its end. Frames shorter
        than a sample, of a sound with fewer samples a second, have the span of their sample. Where the content is
        causal, `stream` gives the ids of the whole sound, bit for bit, however it is cut. Decoding gives as long a
        sound as was encoded, at `rate`, whichever tokens are left.
    Raises
        InvalidValue: no sound, ids or spans that are none of its own, no size, a content that does not work at the
        rate.
        Incompatible: `stream` with a content that needs the whole sound.
        Unbuilt: the content must be fitted first.
    Deviations
        See the card.
    Relations
        `patches` does the same for pictures. Quantizers come from room quantize.
    """

    card = Card(
        title="AudioLM: a Language Modeling Approach to Audio Generation",
        year=2022,
        url="https://arxiv.org/abs/2209.03143",
        summary="frames of sound as tokens: samples, codes of spectra or of a trained codec, or units of speech",
        trial={"rate": 8000, "content": "mel_codes[bands=16,quantizer=rvq[of=vq[codes=16],levels=2],iterations=2]"},
        claims=(
            "from 8 codes of 256 every 16 ms a Whisper hears the words that it hears in the original, and next to none "
            "of them where the codes stand at other times (benchmarks/signal/audio_frames.py)",
            "histograms of 200 units of Whisper know a spoken ordinal by its cardinal more often than histograms of "
            "log-mel codes do, and those more often than random units (benchmarks/signal/audio_frames.py)",
        ),
        deviations=(
            "coarse and fine tokens are contents to choose from, not stages of one model",
            "log-mel frames and Griffin-Lim stand where the paper has a neural codec; the content `codec` is one",
            "units are of Whisper, which was trained on texts, where the paper has w2v-BERT, which was not",
        ),
        training=True,
    )
    takes: ClassVar[type] = Sound
    kind: ClassVar[SourceKind] = "audio"

    rate: int = between(1000, 192_000, default=16_000, doc="samples a second that frames are made of")
    content: SoundContent = part(MelCodes(), doc="what frames become: mel_codes, codec, units, mu_law or pcm")

    def make(self, *, width: int) -> None:
        """Build the content for vectors of a width, which is 1 where samples become codes."""
        if isinstance(self.content, LearnedPart):
            self.content.build(width=width)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: only `fit` learns."""
        return super().train(False)

    @property
    def vocab_size(self) -> int:
        return sum(self.content.codebook_sizes)

    @property
    def books(self) -> tuple[int, ...]:
        return self.content.codebook_sizes

    def fit(self, signals: Sequence[Sound], *, seed: int = 0, progress: bool = True) -> Self:
        """Learn what must be learnt from sounds alone; then it is ready for use.

        Args:
            progress: show a bar on standard error, where it takes minutes.

        Raises:
            InvalidValue: no sounds, or a content that does not work at the rate.
        """
        sounds = [self._resampled(signal) for signal in signals]
        if not sounds:
            raise InvalidValue(f"{self.name()}: sounds must be at least one; got none.")
        self.content.hop(self.rate)
        if not self.built:
            self.build(generator=torch.Generator().manual_seed(seed), width=self.content.width(self.rate))
        with torch.no_grad():
            self.content.learn(sounds, self.rate, seed, progress=progress)
        return self.eval()

    def encode(self, signal: Sound) -> TokenSequence:
        source = Source(self.kind, self._checked(signal), signal.name, self.size_of(signal))
        self._check_ready("encode")
        grid = self._grid(source.size)
        if self.content.causal:
            parts = list(self._streamed([signal], source))
            return TokenSequence(
                ids=torch.cat([p.ids for p in parts]),
                source=torch.cat([p.source for p in parts]),
                spans=torch.cat([p.spans for p in parts]),
                sources=(source,),
                modality=torch.cat([p.shows for p in parts]),
            )
        if self.content.merges and grid.step < grid.rate:
            raise InvalidValue(
                f"{self.name()}: a sound for {self.content.name()} must have a sample for every frame, at a rate of at "
                f"least {-(-self.rate // grid.hop)}; got {signal.rate}."
            )
        samples = self._resampled(signal)
        codes = self.content.codes(pad(samples, (0, -len(samples) % grid.hop)), self.rate)
        first = torch.arange(len(codes))
        if self.content.merges:
            codes, first = _merged(codes)
        ends = torch.cat((first[1:], torch.tensor([grid.count])))
        return self._sequence(codes, grid.spans(first, ends), source)

    def size_of(self, signal: Sound) -> tuple[int, ...]:
        sound = self._checked(signal)
        return len(sound.samples), sound.rate

    def count(self, size: tuple[int, ...]) -> int | None:
        grid = self._grid(size)
        return None if self.content.merges else grid.count * len(self.content.codebook_sizes)

    def places(self, size: tuple[int, ...], count: int) -> Int[Tensor, "N 6"]:
        wanted = self.count(size)
        if wanted is None:
            raise Incompatible(
                f"{self.name()}: places must follow from the size; those of {self.content.name()} do not."
            )
        if count != wanted:
            raise InvalidValue(f"{self.name()}: a sound of size {size} must have {wanted} tokens; got {count}.")
        books = len(self.content.codebook_sizes)
        return self._boxes(_neighbours(self._grid(size), 0, count // books), books)

    def stream(self, chunks: Iterable[Sound]) -> Iterator[TokenSequence]:
        """Tokens of a sound that arrives in pieces, each as soon as its frame is whole; at the end those of the rest.

        Spans count from the beginning of the first piece. All have one source, which does not keep the sound.

        Raises:
            Incompatible: the content needs the whole sound.
            InvalidValue: a piece that is no sound, or of another rate than the first.
        """
        if not self.content.causal:
            raise Incompatible(
                f"{self.name()}: a content that is streamed must be causal; {self.content.name()} reads the whole "
                "sound; encode it at once."
            )
        self._check_ready("encode")
        return self._streamed(chunks)

    def decode(self, tokens: TokenSequence) -> Sound:
        self._check_ready("decode")
        ids, spans = tokens.ids.cpu(), tokens.spans[:, :2].cpu()
        size = tokens.size(self.name())
        check_codes(self.name(), ids, spans, self.vocab_size)
        if size[0] == 0:
            size = int(spans[:, 1].max()), *size[1:]
        grid = self._grid(size)
        grid.check(spans, books_of(ids, self.content), merged=self.content.merges)
        codes = codes_of(ids, grid.frames(spans), grid.count, self.content)
        samples = self.content.sound(codes, self.rate)[: -(-grid.length * self.rate // grid.original)]
        return Sound(samples.float().cpu(), self.rate)

    def save(self, folder: Any) -> None:
        if not self.built and not isinstance(self.content, LearnedPart):
            self.build(width=1)
        super().save(folder)

    def _streamed(self, chunks: Iterable[Sound], source: Source | None = None) -> Iterator[TokenSequence]:
        hop, frames, done, rate = self.content.hop(self.rate), FrameStream(self.content, self.rate), 0, None
        for chunk in chunks:
            if rate is None:
                rate = self._checked(chunk).rate
                resampler = Resampler(rate, self.rate)
                heard = source or Source(self.kind, None, chunk.name, (0, rate))
            elif self._checked(chunk).rate != rate:
                raise InvalidValue(f"{self.name()}: pieces must be of one rate; got {rate} and {chunk.rate}.")
            found = frames.feed(resampler.feed(chunk.samples))
            if len(found):
                grid = SampleGrid(hop, self.rate, rate, resampler.taken)
                yield self._sequence(found, _neighbours(grid, done, len(found)), heard)
            done += len(found)
        if rate is not None:
            rest = torch.cat((frames.feed(resampler.finish()), frames.finish()))
            if len(rest):
                grid = SampleGrid(hop, self.rate, rate, resampler.taken)
                yield self._sequence(rest, _neighbours(grid, done, len(rest)), heard)

    def _sequence(self, codes: Int[Tensor, "F R"], spans: Int[Tensor, "F 2"], source: Source) -> TokenSequence:
        sizes = torch.tensor(self.content.codebook_sizes)
        ids = (codes + (sizes.cumsum(0) - sizes)).flatten()
        return TokenSequence(
            ids=ids,
            source=torch.zeros_like(ids),
            spans=self._boxes(spans, len(sizes)),
            sources=(source,),
            modality=torch.full_like(ids, int(Modality.AUDIO)),
        )

    def _boxes(self, spans: Int[Tensor, "F 2"], books: int) -> Int[Tensor, "N 6"]:
        return pad(spans.repeat_interleave(books, 0), (0, 4))

    def _grid(self, size: tuple[int, ...]) -> SampleGrid:
        length, rate = size if len(size) == 2 else (0, 0)
        near = 1 <= rate <= HIGHEST_RATE and max(rate, self.rate) <= STEEPEST * min(rate, self.rate)
        if not near or length < 0 or max(length, length * self.rate // rate) > MOST_SAMPLES:
            raise InvalidValue(f"{self.name()}: size must be samples and a rate that a sound may have; got {size}.")
        return SampleGrid(self.content.hop(self.rate), self.rate, rate, length)

    def _checked(self, signal: Any) -> Sound:
        if not isinstance(signal, Sound):
            raise InvalidValue(
                f"{self.name()}: a sound must be a Sound; got {type(signal).__name__}; open it with read_sound."
            )
        return signal

    def _resampled(self, signal: Any) -> Float[Tensor, "T"]:
        resampler = Resampler(self._checked(signal).rate, self.rate)
        return torch.cat((resampler.feed(signal.samples), resampler.finish()))

    def _check_ready(self, wanted: str) -> None:
        if isinstance(self.content, LearnedPart) and not self.built:
            raise self._unbuilt(wanted)

    def _unbuilt(self, wanted: str) -> Unbuilt:
        return Unbuilt(f"{self.name()}: must be fitted before {wanted!r} is used; call fit(sounds) or load a folder.")


def _neighbours(grid: SampleGrid, first: int, count: int) -> Int[Tensor, "F 2"]:
    """Spans of frames one after the other."""
    frames = torch.arange(first, first + count)
    return grid.spans(frames, frames + 1)


def _merged(codes: Int[Tensor, "F R"]) -> tuple[Int[Tensor, "N R"], Int[Tensor, "N"]]:
    """The first frame of every run of equal ones, and where it stands."""
    new = torch.ones(len(codes), dtype=torch.bool)
    new[1:] = (codes[1:] != codes[:-1]).any(1)
    return codes[new], new.nonzero()[:, 0]
