"""Unified stream: text, pictures, sounds and clips as ids of one vocabulary, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import natural, part, positive, setting
from tokenry.core.origin import NOWHERE, Source
from tokenry.core.sequence import Modality, TokenSequence
from tokenry.data.image import Image
from tokenry.data.sound import Sound
from tokenry.data.video import Video
from tokenry.models.files.load import LanguageModel, load_tokenizer
from tokenry.models.text.document import Document
from tokenry.models.text.prompt import plain
from tokenry.signal.audio_frames import AudioFrames
from tokenry.signal.base import SegmentTokenizer, SignalTokenizer
from tokenry.signal.parts.patch_codes import Codes
from tokenry.signal.patches import Patches
from tokenry.signal.streams.grammar import StreamGrammar
from tokenry.signal.streams.new_rows import extended
from tokenry.signal.streams.stream import CONTROL, Segment, Stream

TEXT, IMAGE, AUDIO, VIDEO = "text", "image", "audio", "video"
NUMBERS = {IMAGE: 2, AUDIO: 2, VIDEO: 4}
"""Height and width; samples and rate; frames, height, width and thousandths of frames a second."""

Signal = str | Image | Sound | Video


@dataclass(eq=False, repr=False, kw_only=True)
class UnifiedStream(SignalTokenizer):
    """Lay signals of several kinds end to end, as ids of one vocabulary.

    What it does
        Each kind has a range of ids of its own: text those of a language model, behind them controls, pictures, clips
        and sounds. A segment is a mark, its sizes as digits, its content and a mark.
    Where it acts
        Before the embeddings of one model that reads and says all kinds; `extend` gives a model the new rows, and
        `grammar` keeps what it says whole.
    Shapes
        segments -> ids (N), spans (N, 6) in bytes, pixels and frames, or samples.
    Guarantees
        Packing and unpacking are inverse, from ids alone. Ranges never overlap. Text cannot spell a mark. What the
        model says of text stays as it was, bit for bit, where new ids are masked.
    Raises
        InvalidValue: a segment of no kind, ids that are no stream.
        Unbuilt: a member must be fitted first.
    Deviations
        See the card.
    Relations
        `patches` and `audio_frames` make the content; any other method of the room may stand in their places.
    """

    card = Card(
        title="Chameleon: Mixed-Modal Early-Fusion Foundation Models",
        year=2024,
        url="https://arxiv.org/abs/2405.09818",
        summary="text, pictures, sounds and clips as ids of one vocabulary",
        trial={"image": "patches[size=4]", "audio": "audio_frames[rate=8000,content=mu_law]"},
        deviations=(
            "text keeps the ids of its model, and new ids stand behind them, so that trained models can be extended",
            "sizes stand in the stream, since pictures are not all of one size",
            "a clip is its frames one after the other, without codes in time",
        ),
        claims=(
            "SmolLM2 with new rows and LoRA learns in 400 steps to map digits as pictures, words and sounds to each "
            "other: held-out ones come out rightly in 84 to 98 % on all six ways; a judge of sounds that learned from "
            "recordings alone calls 77 % right from pictures to sounds; trained on wrong pairs at most 30 %, and the "
            "perplexity of text with new ids masked rises by less than 3 % (benchmarks/signal/unified_digits.py)",
        ),
        training=True,
    )
    takes: ClassVar[type] = list

    text: str = setting("smollm2", doc="whose tokenizer text has: an alias, a folder or a hub id")
    texts: int = natural(0, doc="ids of text; 0 for as many as the tokenizer has")
    controls: int = positive(64, doc="ids of marks, digits and tasks")
    image: SegmentTokenizer = part(Patches(size=14, content=Codes()), doc="what makes ids of pictures")
    audio: SegmentTokenizer = part(AudioFrames(), doc="what makes ids of sounds")

    def make(self) -> None:
        """Everything that is learnt is learnt by the members, which must be ready."""

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """What cuts text."""
        return load_tokenizer(self.text)

    @cached_property
    def stream(self) -> Stream:
        """The layout of ids."""
        pictures = self.image.vocab_size
        sizes = (
            (TEXT, self.texts or len(self.tokenizer)), (CONTROL, self.controls), (IMAGE, pictures), (VIDEO, pictures),
            (AUDIO, self.audio.vocab_size),
        )  # fmt: skip
        books = {IMAGE: self.image.books, VIDEO: self.image.books, AUDIO: self.audio.books}
        return Stream(sizes, NUMBERS, books)

    @property
    def vocab_size(self) -> int:
        return len(self.stream.vocabulary)

    def fit(self, signals: Sequence[Sequence[Signal]], *, seed: int = 0) -> Self:
        rows = list(signals) if isinstance(signals, list | tuple) else []
        if not rows or not all(isinstance(row, list | tuple) for row in rows):
            raise InvalidValue(f"{self.name()}: signals must be lists of segments, at least one; got {signals!r:.80}.")
        every = [signal for segments in rows for signal in segments]
        pictures = [s for s in every if isinstance(s, Image)]
        pictures += [frame for s in every if isinstance(s, Video) for frame in _frames(s)]
        for member, found in ((self.image, pictures), (self.audio, [s for s in every if isinstance(s, Sound)])):
            if found:
                member.fit(found, seed=seed)
        if not self.built:
            self.build(generator=torch.Generator().manual_seed(seed))
        return self.eval()

    def encode(self, signal: Sequence[Signal]) -> TokenSequence:
        if isinstance(signal, str) or not isinstance(signal, Sequence):
            raise InvalidValue(f"{self.name()}: must be a list of segments; got {type(signal).__name__}.")
        return TokenSequence.joined([_controls([]), *(self._segment(part) for part in signal)])

    def decode(self, tokens: TokenSequence) -> list[Signal]:
        return [self._signal(segment) for segment in self.stream.unpack(tokens.ids.cpu())]

    def segments(self, signals: Sequence[Signal]) -> list[Segment]:
        """Each signal as the ids of its own tokenizer, and its sizes."""
        return [Segment(kind, tokens.ids, size) for kind, tokens, size in map(self._told, signals)]

    def extend(
        self, language: LanguageModel, vectors: Mapping[str, Float[Tensor, "C D"]] | None = None, *, seed: int = 0
    ) -> LanguageModel:
        """The language model with rows for all ids that are no text.

        Args:
            vectors: of codebooks, by the kind whose first ids they are; other rows begin at the mean of the old ones.
            seed: of what is drawn.

        Raises:
            InvalidValue: a model with another number of ids than text has here.
        """
        have, ranges = language.model.get_input_embeddings().weight.shape[0], self.stream.vocabulary.ranges
        if have != len(ranges[TEXT]):
            raise InvalidValue(f"{self.name()}: texts must be {have}, as the model has it; got {len(ranges[TEXT])}.")
        placed = {ranges[kind].first - have: rows for kind, rows in (vectors or {}).items()}
        return extended(language, len(self.stream.vocabulary) - have, vectors=placed, seed=seed)

    def grammar(
        self, kinds: tuple[str, ...] = (), *, sizes: Mapping[str, tuple[int, ...]] | None = None,
        stop: tuple[int, ...] = (), start: int = 0,
    ) -> StreamGrammar:  # fmt: skip
        """What keeps a model's output whole: see `StreamGrammar`. A segment of a size that cannot be stays empty."""
        return StreamGrammar(self.stream, kinds=kinds, sizes=sizes, count=self._count, stop=stop, start=start)

    def _segment(self, signal: Signal) -> TokenSequence:
        kind, tokens, size = self._told(signal)
        ahead = [self.stream.begin(kind), *self.stream.header(kind, size)]
        content = TokenSequence(
            ids=self.stream.vocabulary.lift(kind, tokens.ids), source=tokens.source, spans=tokens.spans,
            sources=tokens.sources, protected=tokens.protected, modality=tokens.modality,
        )  # fmt: skip
        return TokenSequence.joined([_controls(ahead), content, _controls([self.stream.end(kind)])])

    def _told(self, signal: Signal) -> tuple[str, TokenSequence, tuple[int, ...]]:
        if isinstance(signal, str):
            return TEXT, plain(self.tokenizer, [Document(signal)]).sequence(0) if signal else _controls([]), ()
        if isinstance(signal, Image):
            return IMAGE, self.image.encode(signal), self.image.size_of(signal)
        if isinstance(signal, Sound):
            return AUDIO, self.audio.encode(signal), self.audio.size_of(signal)
        if isinstance(signal, Video):
            frames = _frames(signal)
            parts = [_at(self.image.encode(frame), t) for t, frame in enumerate(frames)]
            whole, size = (
                TokenSequence.joined(parts),
                (len(frames), *signal.frames.shape[1:3], round(signal.rate * 1000)),
            )
            clip = TokenSequence(
                ids=whole.ids, source=whole.source * 0, spans=whole.spans,
                sources=(Source("video", signal, signal.name, size),),
                modality=torch.full_like(whole.ids, int(Modality.VIDEO)),
            )  # fmt: skip
            return VIDEO, clip, size
        raise InvalidValue(
            f"{self.name()}: a segment must be a text, an Image, a Sound or a Video; got {type(signal).__name__}."
        )

    def _signal(self, segment: Segment) -> Signal:
        if segment.kind == TEXT:
            return str(self.tokenizer.decode(segment.ids, clean_up_tokenization_spaces=False))
        if segment.kind == VIDEO:
            count, *size, rate = segment.size
            if not count or not rate or len(segment.ids) % count:
                raise InvalidValue(f"{self.name()}: a clip must have frames of equal length; got {segment.size}.")
            frames = [self.image.placed(ids, tuple(size)) for ids in segment.ids.split(len(segment.ids) // count)]
            return Video(torch.stack([self.image.decode(frame).pixels for frame in frames]), rate / 1000)
        member = self.image if segment.kind == IMAGE else self.audio
        return member.decode(member.placed(segment.ids, segment.size))

    def _count(self, kind: str, size: tuple[int, ...]) -> int | None:
        """How many tokens a segment has, where its size says so."""
        if kind == TEXT:
            return None
        try:
            if kind == VIDEO:
                frame = self.image.count(size[1:3])
                return None if frame is None else frame * size[0]
            return (self.image if kind == IMAGE else self.audio).count(size)
        except InvalidValue:
            return 0


def _controls(ids: list[int]) -> TokenSequence:
    row = torch.tensor(ids, dtype=torch.long)
    return TokenSequence(
        ids=row, source=torch.full_like(row, NOWHERE), spans=torch.zeros(len(row), 6, dtype=torch.long), sources=(),
        protected=torch.ones(len(row), dtype=torch.bool), modality=torch.full_like(row, int(Modality.CONTROL)),
    )  # fmt: skip


def _frames(video: Video) -> list[Image]:
    return [Image(frame) for frame in video.frames]


def _at(tokens: TokenSequence, t: int) -> TokenSequence:
    """Tokens of one picture as those of frame t."""
    spans = tokens.spans.clone()
    spans[:, 0], spans[:, 1] = t, t + 1
    return TokenSequence(ids=tokens.ids, source=tokens.source, spans=spans, sources=tokens.sources)
