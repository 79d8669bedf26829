"""Less is better: a lexicon of subwords, words and expressions, learnt online by remembering and forgetting."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from tokenry.core.card import Card
from tokenry.core.errors import StorageError
from tokenry.core.fields import setting
from tokenry.core.origin import Source
from tokenry.core.saving import read_json
from tokenry.core.sequence import TokenSequence
from tokenry.core.vocabulary import Vocabulary
from tokenry.models.files.vocabularies.find import find_vocabulary
from tokenry.segment.base import Tokenizer
from tokenry.segment.engines.encoding import checked, known_ids
from tokenry.segment.engines.lossless import Lossless
from tokenry.segment.lexicon.chunks import Chunks
from tokenry.segment.lexicon.learner import MOST, Learner
from tokenry.segment.training.corpus import texts
from tokenry.segment.training.progress import Progress
from tokenry.segment.training.trained import END, Learnt

_BYTES = 256
_FIRST = _BYTES + 1
"""The id of the best chunk; before it stand the bytes and the end of a text."""


@dataclass(frozen=True, kw_only=True)
class LessIsBetter(Tokenizer):
    """Read text with a lexicon of chunks that reach over words, learnt by remembering and forgetting.

    What it does
        From left to right the longest chunk of the lexicon is taken off the text; characters that are in no chunk
        become bytes. `train` reads sentences once: where two chunks begin at a place, both readings go on until they
        meet, the one of fewer chunks wins, its chunk moves up by a share of its rank and the other one down. Two
        chunks side by side become a new one with probability `remember`, on probation: it goes when it lost so often
        as it has lives, or when the same always stands beside it. The last ranks are put on probation again and again.
    Where it acts
        On raw text, before everything else. No word boundary is known to it.
    Shapes
        N tokens: ids (N), spans (N, 6) of which the first two are bytes of the text.
    Guarantees
        Every byte of any text comes back. Without `compare` the tokens are the greedy longest matches, and the saved
        folder gives the same ids in transformers. Time grows with the length of a text. The same texts in the same
        order and the same seed give the same file; another order gives another one.
    Raises
        UnknownModel: no folder has this name.
        StorageError: a file that holds no lexicon.
        InvalidValue: half a surrogate pair, an id that there is not; in training too few ids, no text, or a folder that
        exists.
    Deviations
        See the card.
    Relations
        `Learner` in `tokenry.segment.lexicon.learner` reads on where it stopped, with other rates. `parts` opens a
        chunk into its own best reading, which gives a hierarchy.
    """

    card = Card(
        title="Rethinking Tokenization: Crafting Better Tokenizers for Large Language Models",
        year=2024,
        url="https://arxiv.org/abs/2403.00417",
        summary="an online lexicon of subwords, words and expressions: remembered by chance, forgotten without use",
        trial={"source": "sample-lexicon"},
        claims=(
            "greedy longest matches, the same as by trying every length, and the same in transformers",
            "with remembering and forgetting off the lexicon stays as it is",
            "on English held out 16,384 entries need 8 % fewer tokens than byte pairs, and 8,192 only 4 %; that there "
            "are fewer types as well was not found: 32 % and 9 % more (benchmarks/segment/words.py)",
        ),
        deviations=(
            "a chunk's rank is a number of its own that moves; the others do not move to make room",
            "texts are encoded by longest matches unless `compare` asks for both readings, as in learning",
            "two readings that have not met after 48 chunks are equal, so that no text takes time with its square",
            "chunks hold at most 32 characters and end with a sentence; bytes stand in for unknown characters",
            "where more chunks were learnt than ids were asked for, those that save most tokens are kept",
        ),
        exempt={"interleaved_values_do_not_see_each_other": "its lexicon is read here, and is no opened vocabulary"},
    )

    fewest: ClassVar[int] = _FIRST + 1
    used_up: ClassVar[str] = "no more chunks were chosen when it was read once"

    source: str = setting("sample-lexicon", doc="a folder that training wrote, or the small lexicon that comes along")
    special: bool = setting(False, doc="whether marks such as <|endoftext|> in a text become ids of their own")
    compare: bool = setting(False, doc="whether two readings are compared at each place, as in learning")

    def encode(self, raw: str | bytes) -> TokenSequence:
        text = checked(raw)
        read = text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")
        ids, ends = self._ids(read)
        spans = torch.zeros(len(ids), 6, dtype=torch.long)
        spans[:, 1] = torch.tensor(ends, dtype=torch.long)
        spans[1:, 0] = spans[:-1, 1]
        return TokenSequence(
            ids=torch.tensor(ids, dtype=torch.long),
            source=torch.zeros(len(ids), dtype=torch.long),
            spans=spans,
            sources=(Source("text", text),),
        )

    def decode(self, tokens: Iterable[int] | TokenSequence) -> bytes:
        ids = known_ids(tokens, self.vocab_size)
        pieces = self.vocabulary.pieces
        return b"".join(END.encode() if i == _BYTES else pieces[i] or b"" for i in ids)

    def parts(self, id: int) -> list[int]:
        """The ids a chunk is made of: the longest matches in it when the chunk itself is not known."""
        piece = self.vocabulary[id]
        text = piece.decode() if piece is not None and id >= _FIRST else ""
        if len(text) < 2:
            return [id]
        head = self._lexicon.longest(text[:-1], 0)
        first = [head[1]] if head[0] else list(text[0].encode())
        return first + self._ids(text[max(head[0], 1) :])[0]

    @property
    def vocabulary(self) -> Vocabulary:
        return _opened(self.source, _stamp(self.source))[1]

    @property
    def lossless(self) -> Lossless:
        return Lossless("bytes")

    def learn(self, corpus: Iterable[str | Path], vocab_size: int, seed: int, progress: Progress) -> Learnt:
        """Read all texts once, in their order; `seed` decides what is remembered."""
        learner = Learner(seed=seed)
        for text in texts(corpus, progress):
            learner.read(text)
        progress("choosing chunks", 0, 0)
        return learnt(learner.known(vocab_size - _FIRST))

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        return cls(source=str(folder))

    @property
    def _lexicon(self) -> Chunks:
        return _opened(self.source, _stamp(self.source))[0]

    def _ids(self, text: str) -> tuple[list[int], list[int]]:
        """Ids and the bytes at which each ends."""
        ids: list[int] = []
        ends: list[int] = []
        done = 0
        for i, part in enumerate(text.split(END) if self.special else [text]):
            if i:
                done += len(END)
                ids.append(_BYTES)
                ends.append(done)
            for begin, end, id in self._matches(part):
                data = part[begin:end].encode("utf-8", "surrogateescape")
                if id < 0:
                    ids += data
                    ends += range(done + 1, done + len(data) + 1)
                else:
                    ids.append(id)
                    ends.append(done + len(data))
                done += len(data)
        return ids, ends

    def _matches(self, text: str) -> Iterator[tuple[int, int, int]]:
        lexicon = self._lexicon
        if self.compare:
            yield from lexicon.readings(text, MOST)
            return
        at = 0
        while at < len(text):
            end, id = lexicon.longest(text, at)
            end = max(end, at + 1)
            yield at, end, id
            at = end


def learnt(chunks: list[str]) -> Learnt:
    """A lexicon as `tokenizer.json` holds it.

    Marks that a text may hold are found by the longest match there, so chunks are marks that are not special, and
    what is left over is spelled by bytes.
    """
    from tokenizers import Tokenizer, decoders, models

    table = {f"<0x{b:02X}>": b for b in range(_BYTES)} | {END: _BYTES}
    library = Tokenizer(models.BPE(table, [], byte_fallback=True))
    library.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    marks = {"eos_token": END, "bos_token": END}
    return Learnt(json.loads(library.to_str()), marks, [END], [chunk for chunk in chunks if chunk not in table])


def _stamp(source: str) -> tuple[str, int]:
    file = find_vocabulary(source)
    return str(file), file.stat().st_mtime_ns


@lru_cache(maxsize=4)
def _opened(name: str, stamp: tuple[str, int]) -> tuple[Chunks, Vocabulary]:
    found = read_json(Path(stamp[0]))
    try:
        added: list[dict[str, Any]] = sorted(found["added_tokens"], key=lambda a: int(a["id"]))
        chunks = [(str(a["content"]), int(a["id"])) for a in added if not a["special"]]
        fits = (
            len(found["model"]["vocab"]) == _FIRST
            and [i for _, i in chunks] == list(range(_FIRST, _FIRST + len(chunks)))
            and all(c for c, _ in chunks)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"{stamp[0]}: must hold a lexicon; {type(error).__name__} {error}; train it again."
        ) from error
    if not fits:
        raise StorageError(f"{stamp[0]}: must hold a lexicon, chunks with ids from {_FIRST} on; train it again.")
    pieces = (*(bytes([b]) for b in range(_BYTES)), None, *(chunk.encode() for chunk, _ in chunks))
    return Chunks(chunks), Vocabulary(pieces)
