"""The texts a vocabulary is learnt from: files are read piece by piece, so that none has to fit into memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenry.core.errors import InvalidValue, UnreadableInput
from tokenry.segment.training.progress import Progress

PIECE = 1 << 20
"""Bytes of a file that are read at once."""


def texts(corpus: Iterable[str | Path], progress: Progress) -> Iterator[str]:
    """All texts in pieces; a piece of a file ends after a line, or after a space where there is no line.

    Raises:
        InvalidValue: there is no text at all, something that is none, or half a surrogate pair.
        UnreadableInput: a file is missing or no UTF-8 text.
    """
    if isinstance(corpus, str | Path):
        raise InvalidValue(f"corpus: must be a list of texts and paths; got one {type(corpus).__name__}; write [it].")
    parts = list(corpus) if not isinstance(corpus, Iterator) else corpus
    total = 0 if isinstance(parts, Iterator) else sum(map(_size, parts))
    done, some = 0, False
    for part in parts:
        for text in _pieces(part) if isinstance(part, Path) else (part,):
            some = some or bool(text)
            size = _size(text)
            yield text
            done += size
            progress("reading", done, total)
    if not some:
        raise InvalidValue("corpus: must hold some text; got none.")


def twice(corpus: Iterable[str | Path]) -> Iterable[str | Path]:
    """A corpus that is read two times."""
    if isinstance(corpus, Iterator):
        raise InvalidValue("corpus: must be a list, since it is read twice; got something that can be read once.")
    return corpus


def _pieces(file: Path) -> Iterator[str]:
    decoder, left = codecs.getincrementaldecoder("utf-8")(), ""
    try:
        with file.open("rb") as stream:
            while data := stream.read(PIECE):
                left += decoder.decode(data)
                if "\0" in left:
                    raise UnreadableInput(f"{file}: must be text; got binary data with zero bytes; leave it out.")
                cut = max(left.rfind("\n") + 1, 0) or max(left.rfind(" "), 0) or len(left)
                yield left[:cut]
                left = left[cut:]
            yield left + decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise UnreadableInput(f"{file}: must be UTF-8; {error.reason}; convert it, or leave it out.") from error
    except OSError as error:
        raise UnreadableInput(f"{file}: must be a readable file; {error.strerror}.") from error


def _size(part: str | Path) -> int:
    """Bytes of a text or a file."""
    try:
        return part.stat().st_size if isinstance(part, Path) else len(part.encode())
    except OSError as error:
        raise UnreadableInput(f"{part}: must be a readable file; {error.strerror}.") from error
    except UnicodeEncodeError as error:
        raise InvalidValue(
            f"corpus: texts must hold whole characters; got half a surrogate pair at {error.start}; leave it out."
        ) from None
    except AttributeError:
        raise InvalidValue(f"corpus: must hold texts and paths; got {type(part).__name__}.") from None
