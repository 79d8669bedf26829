"""Room: segment. Text becomes ids and ids become text again, with the bytes that every token stands for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from tokenry.core.errors import InvalidValue
from tokenry.core.fields import setting
from tokenry.core.method import Method
from tokenry.core.sequence import TokenSequence
from tokenry.core.vocabulary import Vocabulary
from tokenry.models.files.vocabularies.find import open_vocabulary
from tokenry.models.files.vocabularies.opened import Kind, Opened
from tokenry.segment.engines.encoding import decode, encode, runner
from tokenry.segment.engines.lossless import Lossless
from tokenry.segment.training.progress import Progress, silent
from tokenry.segment.training.trained import Learnt, enough, new_folder, save, say_fewer, trained_by
from tokenry.segment.training.words import Count, Words


@dataclass(frozen=True, kw_only=True)
class Tokenizer(Method):
    """A method that turns text into ids of a vocabulary, and ids into bytes.

    Tokens of one text have spans of bytes that follow each other and cover the text from its first to its last byte.
    What is read from files is kept per file, never on the method.
    """

    room: ClassVar[str] = "segment"
    fewest: ClassVar[int] = 1
    """Ids that every trained vocabulary of the kind has."""
    used_up: ClassVar[str] = "no two pieces are left in the corpus that stand side by side in a word"
    """Why a corpus gives no more pieces."""

    @abstractmethod
    def encode(self, raw: str | bytes) -> TokenSequence:
        """The tokens of a text, with their bytes in it.

        No frame is added: neither a mark for the beginning nor one for the end.

        Raises:
            InvalidValue: half a surrogate pair, which is no character.
        """

    @abstractmethod
    def decode(self, tokens: Iterable[int] | TokenSequence) -> bytes:
        """The bytes that some ids stand for.

        Raises:
            InvalidValue: an id that the vocabulary does not have.
        """

    @property
    @abstractmethod
    def vocabulary(self) -> Vocabulary:
        """What every id spells, in bytes."""

    @property
    @abstractmethod
    def lossless(self) -> Lossless:
        """What decoding gives back of a text that was encoded; true where it is every byte of any text."""

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return len(self.vocabulary)

    @classmethod
    def train(
        cls,
        corpus: Iterable[str | Path],
        *,
        vocab_size: int,
        out: str | Path,
        seed: int = 0,
        progress: Progress = silent,
        count: Count | None = None,
        **fields: Any,
    ) -> Self:
        """Learn a vocabulary, write it to a new folder whole or not at all, and open it.

        Args:
            corpus: texts, and paths of text files, which are read piece by piece.
            vocab_size: ids there shall be; a small corpus may not give so many.
            out: a folder that does not exist yet; `tokenizer.json` in it loads in transformers too.
            seed: of whatever is drawn.
            progress: is told of what goes on.
            count: counts the words of the corpus elsewhere; the file is the same.
            fields: of the method, which say how it learns; the folder remembers them.

        Raises:
            InvalidValue: too few ids, an empty corpus, a folder that exists, or a field it does not have.
            UnreadableInput: a file that is missing or no text.

        Warns:
            FewerIds: the corpus gave fewer ids than were asked for.
        """
        method = cls.from_dict(fields)
        enough(cls.name(), vocab_size, method.fewest_ids)
        folder = new_folder(cls.name(), out)
        if count is None:
            learnt = method.learn(corpus, vocab_size, seed, progress)
        else:
            learnt = method.learn_words(count(method.words, corpus, progress), vocab_size, progress)
        save(folder, learnt, str(method))
        say_fewer(cls.name(), vocab_size, learnt, cls.used_up)
        return cls.from_folder(folder)

    @property
    def fewest_ids(self) -> int:
        """Ids that every vocabulary has that is trained with these fields."""
        return self.fewest

    def learn(self, corpus: Iterable[str | Path], vocab_size: int, seed: int, progress: Progress) -> Learnt:
        """What `train` writes; a method that cannot be trained refuses."""
        raise InvalidValue(f"{self.name()}: must be a tokenizer that can be trained; use bpe, unigram or wordpiece.")

    def words(self, text: str) -> Words:
        """The words that pieces are learnt from; a method that does not learn from counts refuses."""
        raise InvalidValue(f"{self.name()}: must be learnt in one process; it does not learn from counted words.")

    def learn_words(self, words: Words, vocab_size: int, progress: Progress) -> Learnt:
        """What `learn` learns, from words that were counted."""
        raise InvalidValue(f"{self.name()}: must be learnt in one process; it does not learn from counted words.")

    @classmethod
    @abstractmethod
    def from_folder(cls, folder: Path) -> Self:
        """Open what `train` wrote."""


@dataclass(frozen=True, kw_only=True)
class FromFile(Tokenizer):
    """A tokenizer that opens a vocabulary that exists, and gives the ids that its own library gives."""

    kind: ClassVar[Kind]

    source: str
    special: bool = setting(False, doc="whether marks such as <|endoftext|> in a text become ids of their own")

    def encode(self, raw: str | bytes) -> TokenSequence:
        return encode(self.opened, raw, self.special)

    def ids(self, raw: str | bytes) -> list[int]:
        """Only the ids, without their places."""
        return runner(self.opened, self.special).ids(raw).tolist()

    def decode(self, tokens: Iterable[int] | TokenSequence) -> bytes:
        return decode(self.opened, tokens, self.special)

    @property
    def vocabulary(self) -> Vocabulary:
        return self.opened.vocabulary

    @property
    def lossless(self) -> Lossless:
        return runner(self.opened, self.special).lossless

    @property
    def engine(self) -> str:
        """The library that long texts are encoded with: the fastest one installed that gave the right ids."""
        return runner(self.opened, self.special).engine

    @property
    def opened(self) -> Opened:
        """The file, read once for as long as it does not change."""
        opened = open_vocabulary(self.source, self._pattern())
        if opened.kind != self.kind:
            raise InvalidValue(
                f"{self.name()}: source must be a vocabulary of the kind {self.kind}; {self.source} is {opened.kind}; "
                f"use {opened.kind}."
            )
        return opened

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        method = trained_by(folder)
        return replace(method, source=str(folder)) if isinstance(method, cls) else cls(source=str(folder))

    def _pattern(self) -> str | None:
        return None
