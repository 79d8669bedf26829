"""How many tokens texts have in any vocabulary, without torch and without transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from tokenry.core.errors import InvalidValue, StorageError
from tokenry.core.needs import need
from tokenry.models.files.vocabularies.find import ENCODINGS, find_vocabulary, open_vocabulary
from tokenry.models.files.vocabularies.opened import Described, Ranked, Scored
from tokenry.models.text.text_bytes import sound

Counts = Callable[[Sequence[str]], Int[np.ndarray, "T"]]


class Counter:
    """Counts tokens of texts as one vocabulary has them; marks of the vocabulary that a text spells are text.

    Args:
        name: what the vocabulary is called.
        counts: the number of tokens of each text.
    """

    def __init__(self, name: str, counts: Counts) -> None:
        self.name, self._counts = name, counts

    @classmethod
    def of(cls, tokenizer: Any) -> Counter:
        """A counter for whatever names or is a tokenizer.

        Args:
            tokenizer: an alias of `tokenry models list`, a file, a folder, an encoding such as `cl100k_base` or
                `o200k_base`, a hub id; a `tiktoken.Encoding`, a `tokenizers.Tokenizer`, a tokenizer of transformers or
                of tokenry, or a model that holds one.

        Raises:
            InvalidValue: something that is no tokenizer.
            UnknownModel: nothing is found under this name.
        """
        if isinstance(tokenizer, Counter):
            return tokenizer
        if isinstance(tokenizer, str | Path):
            return _named(str(tokenizer))
        for kind, counts in ((_tiktoken, "encode_ordinary_batch"), (_tokenizers, "encode_batch_fast")):
            if hasattr(tokenizer, counts):
                return cls(str(getattr(tokenizer, "name", type(tokenizer).__name__)), kind(tokenizer))
        name = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
        if getattr(tokenizer, "backend_tokenizer", None) is not None:
            return cls(name, _tokenizers(tokenizer.backend_tokenizer))
        if hasattr(tokenizer, "tokenizer"):
            return cls.of(tokenizer.tokenizer)
        if isinstance(getattr(tokenizer, "source", None), str):
            return _named(tokenizer.source)
        if callable(tokenizer):
            return cls(name, lambda texts: _lengths(tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts))
        raise InvalidValue(
            f"tokenizer: must be a name, a file, a folder, or a tokenizer of tiktoken, tokenizers, transformers or "
            f"tokenry; got {type(tokenizer).__name__}."
        )

    def counts(self, texts: Sequence[str]) -> Int[np.ndarray, "T"]:
        """Tokens of each text by itself."""
        return self._counts([sound(t) for t in texts]) if len(texts) else np.zeros(0, dtype=np.int64)

    def __call__(self, text: str) -> int:
        """Tokens of one text."""
        return int(self.counts([text])[0])


@lru_cache(maxsize=8)
def _named(name: str) -> Counter:
    if name in ENCODINGS and not Path(name).exists():
        return Counter(name, _encoding(name))
    file = find_vocabulary(name)
    if file.name == "tokenizer.json":
        return Counter(name, _tokenizers(_from_file(file)))
    opened = open_vocabulary(name)
    content = opened.content
    if isinstance(content, Ranked):
        marks = {mark: i - content.first for mark, i in opened.marks.items()}
        library = need("tiktoken", name)
        return Counter(name, _tiktoken(library.Encoding(
            name, pat_str=content.pattern, mergeable_ranks=dict(content.ranks), special_tokens=marks
        )))  # fmt: skip
    if isinstance(content, Scored):
        pieces = need("sentencepiece", name).SentencePieceProcessor(model_proto=content.data)
        return Counter(name, lambda texts: _lengths(pieces.encode(list(texts))))
    assert isinstance(content, Described)
    import json

    from tokenizers import Tokenizer

    return Counter(name, _tokenizers(Tokenizer.from_str(json.dumps(content.description))))


def _encoding(name: str) -> Counts:
    """An encoding by its name: from a library that carries it, else from tiktoken, which fetches it once."""
    try:
        import splintr

        carried = splintr.Tokenizer.from_pretrained(name)
    except (ImportError, ValueError):
        return _tiktoken(need("tiktoken", name).get_encoding(name))
    return lambda texts: _lengths(carried.encode_ordinary(t) for t in texts)


def _from_file(file: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:
        raise StorageError(f"{file}: must be a whole tokenizer.json; {str(error)[:160]}; fetch it again.") from error


def _tiktoken(library: Any) -> Counts:
    return lambda texts: _lengths(library.encode_ordinary_batch(list(texts), num_threads=1))


def _tokenizers(library: Any) -> Counts:
    # Marks that a text spells are text; what a file says of cutting and filling up is not for counting.
    own = type(library).from_str(library.to_str())
    own.no_truncation()
    own.no_padding()
    own.encode_special_tokens = True
    return lambda texts: _lengths(e.ids for e in own.encode_batch_fast(list(texts), add_special_tokens=False))


def _lengths(found: Any) -> Int[np.ndarray, "T"]:
    return np.fromiter((len(ids) for ids in found), dtype=np.int64)
