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
from tokenry.core.origin import NOWHERE, Source
from tokenry.core.sequence import Modality, TokenSequence
from tokenry.data.sound import MOST_SAMPLES, Sound
from tokenry.data.sound_file import HIGHEST_RATE
from tokenry.signal.base import SegmentTokenizer
from tokenry.signal.parts.mel_codes import MelCodes
from tokenry.signal.parts.sound_content import SoundContent
from tokenry.signal.sounds.frame_stream import FrameStream
from tokenry.signal.sounds.resampling import Resampler
from tokenry.signal.sounds.sample_grid import SampleGrid, grid_of
from tokenry.signal.streams.code_order import books_of, placed, told


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
        causal, `stream` gives the ids of the whole sound, bit for bit, however it is cut. Decoding reads the rate of
        the original off the spans; one or two of them may fit several rates, and then it is `rate`.
    Raises
        InvalidValue: no sound, ids or spans that are none of its own, a content that does not work at the rate.
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
            "of them where the codes stand at other times (benchmarks/audio_frames.py)",
            "histograms of 200 units of Whisper know a spoken ordinal by its cardinal more often than histograms of "
            "log-mel codes do, and those more often than random units (benchmarks/audio_frames.py)",
        ),
        deviations=(
            "coarse and fine tokens are contents to choose from, not stages of one model",
            "log-mel frames and Griffin-Lim stand where the paper has a neural codec; the content `codec` is one",
            "units are of Whisper, which was trained on texts, where the paper has w2v-BERT, which was not",
        ),
        training=True,
    )
    takes: ClassVar[type] = Sound

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
        source = Source("audio", self._checked(signal), signal.name)
        if self.content.causal:
            parts = list(self._streamed([signal], source))
            return TokenSequence(
                ids=torch.cat([p.ids for p in parts]),
                source=torch.cat([p.source for p in parts]),
                spans=torch.cat([p.spans for p in parts]),
                sources=(source,),
                modality=torch.cat([p.shows for p in parts]),
            )
        samples, hop = self._resampled(signal), self._hop("encode")
        codes = self.content.codes(pad(samples, (0, -len(samples) % hop)), self.rate)
        first = torch.arange(len(codes))
        if self.content.merges:
            codes, first = _merged(codes)
        ends = torch.cat((first[1:], torch.tensor([-(-len(samples) // hop)])))
        return self._sequence(
            codes, SampleGrid(hop, self.rate, signal.rate).spans(first, ends, len(signal.samples)), source
        )

    def size_of(self, signal: Sound) -> tuple[int, ...]:
        sound = self._checked(signal)
        return len(sound.samples), sound.rate

    def count(self, size: tuple[int, ...]) -> int | None:
        length, original = self._told(size)
        frames = -(-length * self.rate // (self.content.hop(self.rate) * original))
        return None if self.content.merges else frames * len(self.content.codebook_sizes)

    def places(self, size: tuple[int, ...], count: int) -> Int[Tensor, "N 6"]:
        wanted, (length, original) = self.count(size), self._told(size)
        if wanted is None:
            raise Incompatible(
                f"{self.name()}: places must follow from the size; those of {self.content.name()} do not."
            )
        if count != wanted:
            raise InvalidValue(f"{self.name()}: a sound of size {size} must have {wanted} tokens; got {count}.")
        books = len(self.content.codebook_sizes)
        grid = SampleGrid(self.content.hop(self.rate), self.rate, original)
        return self._boxes(_neighbours(grid, 0, count // books, length), books)

    def stream(self, chunks: Iterable[Sound]) -> Iterator[TokenSequence]:
        """Tokens of a sound that arrives in pieces, each as soon as its frame is whole; at the end those of the rest.

        Spans count from the beginning of the first piece. Tokens have no source, since the sound is not kept.

        Raises:
            Incompatible: the content needs the whole sound.
            InvalidValue: a piece that is no sound, or of another rate than the first.
        """
        if not self.content.causal:
            raise Incompatible(
                f"{self.name()}: a content that is streamed must be causal; {self.content.name()} reads the whole "
                "sound; encode it at once."
            )
        return self._streamed(chunks)

    def decode(self, tokens: TokenSequence) -> Sound:
        hop = self._hop("decode")
        ids, spans = tokens.ids.cpu(), tokens.spans[:, :2].cpu()
        told(self.name(), ids, spans, self.vocab_size)
        if len(tokens.source[tokens.source >= 0].unique()) > 1:
            raise InvalidValue(f"{self.name()}: tokens must be of one sound; got several sources; decode each alone.")
        grid = grid_of(spans, books_of(ids, self.content), hop, self.rate, self.content.merges)
        codes = placed(ids, grid.frames(spans), self.content)
        length = -(-int(spans[:, 1].max()) * self.rate // grid.original)
        return Sound(self.content.sound(codes, self.rate)[:length].float().cpu(), self.rate)

    def save(self, folder: Any) -> None:
        if not self.built and not isinstance(self.content, LearnedPart):
            self.build(width=1)
        super().save(folder)

    def _streamed(self, chunks: Iterable[Sound], source: Source | None = None) -> Iterator[TokenSequence]:
        hop = self._hop("encode")
        frames, done, rate = FrameStream(self.content, self.rate), 0, None
        for chunk in chunks:
            if rate is None:
                rate = self._checked(chunk).rate
                resampler, grid = Resampler(rate, self.rate), SampleGrid(hop, self.rate, rate)
            elif self._checked(chunk).rate != rate:
                raise InvalidValue(f"{self.name()}: pieces must be of one rate; got {rate} and {chunk.rate}.")
            found = frames.feed(resampler.feed(chunk.samples))
            if len(found):
                yield self._sequence(found, _neighbours(grid, done, len(found), resampler.taken), source)
            done += len(found)
        if rate is not None:
            rest = torch.cat((frames.feed(resampler.finish()), frames.finish()))
            if len(rest):
                yield self._sequence(rest, _neighbours(grid, done, len(rest), resampler.taken), source)

    def _sequence(self, codes: Int[Tensor, "F R"], spans: Int[Tensor, "F 2"], source: Source | None) -> TokenSequence:
        sizes = torch.tensor(self.content.codebook_sizes)
        ids = (codes + (sizes.cumsum(0) - sizes)).flatten()
        return TokenSequence(
            ids=ids,
            source=torch.full_like(ids, NOWHERE if source is None else 0),
            spans=self._boxes(spans, len(sizes)),
            sources=() if source is None else (source,),
            modality=torch.full_like(ids, int(Modality.AUDIO)),
        )

    def _boxes(self, spans: Int[Tensor, "F 2"], books: int) -> Int[Tensor, "N 6"]:
        return pad(spans.repeat_interleave(books, 0), (0, 4))

    def _told(self, size: tuple[int, ...]) -> tuple[int, int]:
        if len(size) != 2 or not 0 <= size[0] <= MOST_SAMPLES or not 1 <= size[1] <= HIGHEST_RATE:
            raise InvalidValue(f"{self.name()}: size must be samples and a rate that a sound may have; got {size}.")
        return size[0], size[1]

    def _checked(self, signal: Any) -> Sound:
        if not isinstance(signal, Sound):
            raise InvalidValue(
                f"{self.name()}: a sound must be a Sound; got {type(signal).__name__}; open it with read_sound."
            )
        return signal

    def _resampled(self, signal: Any) -> Float[Tensor, "T"]:
        resampler = Resampler(self._checked(signal).rate, self.rate)
        return torch.cat((resampler.feed(signal.samples), resampler.finish()))

    def _hop(self, wanted: str) -> int:
        if isinstance(self.content, LearnedPart) and not self.built:
            raise self._unbuilt(wanted)
        return self.content.hop(self.rate)

    def _unbuilt(self, wanted: str) -> Unbuilt:
        return Unbuilt(f"{self.name()}: must be fitted before {wanted!r} is used; call fit(sounds) or load a folder.")


def _neighbours(grid: SampleGrid, first: int, count: int, length: int) -> Int[Tensor, "F 2"]:
    """Spans of frames one after the other."""
    frames = torch.arange(first, first + count)
    return grid.spans(frames, frames + 1, length)


def _merged(codes: Int[Tensor, "F R"]) -> tuple[Int[Tensor, "N R"], Int[Tensor, "N"]]:
    """The first frame of every run of equal ones, and where it stands."""
    new = torch.ones(len(codes), dtype=torch.bool)
    new[1:] = (codes[1:] != codes[:-1]).any(1)
    return codes[new], new.nonzero()[:, 0]
