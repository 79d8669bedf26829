"""Open a SentencePiece `.model`: pieces with scores, read by the library itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tokenry.core.errors import StorageError, UnsupportedModel
from tokenry.core.needs import need
from tokenry.core.vocabulary import Merge, Vocabulary
from tokenry.models.files.protobuf import fields
from tokenry.models.files.vocabularies.opened import LARGEST_ID, Kind, Opened, Scored
from tokenry.models.text.vocabulary import by_rank

_KINDS: dict[int, Kind] = {1: "unigram", 2: "bpe"}
# Numbers of the fields in sentencepiece_model.proto.
_PIECE, _TRAINER, _NORMALISER = 1, 2, 3
_PIECE_TYPE = 3
_NORMAL, _CONTROL, _USER, _BYTE = 1, 3, 4, 6
_MODEL_TYPE = 3
_NAME, _PREFIX, _REMOVE_SPACES = 1, 3, 4


def read_sentencepiece(name: str, file: Path) -> Opened:
    """The tokenizer in a file.

    Raises:
        StorageError: damaged, or no model of SentencePiece.
        UnsupportedModel: a model of words or characters.
    """
    library = need("sentencepiece", str(file))
    data = file.read_bytes()
    try:
        specs = {number: dict(fields(value)) for number, value in fields(data) if number in (_TRAINER, _NORMALISER)}
        if _TRAINER not in specs:
            raise ValueError("it does not say what it is")
        processor = library.SentencePieceProcessor(model_proto=data)
    except (RuntimeError, ValueError, IndexError, TypeError, OSError) as error:
        raise StorageError(f"{file}: must be a whole SentencePiece model; {error}; fetch it again.") from error
    kind = _KINDS.get(int(specs.get(_TRAINER, {}).get(_MODEL_TYPE, 1)))
    if kind is None:
        raise UnsupportedModel(f"{file}: must be a unigram or BPE model; models of words or characters are not opened.")
    rule = specs.get(_NORMALISER, {})
    pieces = tuple(map(_speller(processor), range(_size(processor, file))))
    content = Scored(
        data,
        bytes(rule.get(_NAME, b"")).decode("utf-8", "replace") or "identity",
        bool(rule.get(_PREFIX, 1)),
        not rule.get(_REMOVE_SPACES, 1),
    )
    # What SentencePiece writes for marks is nothing, and no text makes one; for what is unknown it writes a sign.
    surfaces = tuple(
        (b"" if piece is None else piece) if not processor.is_unknown(i) else processor.decode([i]).encode()
        for i, piece in enumerate(pieces)
    )
    types = [int(dict(fields(value)).get(_PIECE_TYPE, _NORMAL)) for number, value in fields(data) if number == _PIECE]
    added = {processor.id_to_piece(i): i for i, type in enumerate(types) if type in (_CONTROL, _USER)}
    merging = partial(_merges, processor, pieces, types) if kind == "bpe" else None
    vocabulary = Vocabulary(pieces, added, merging)
    return Opened(name, kind, "sentencepiece", vocabulary, surfaces, {}, content)


def _size(processor: Any, file: Path) -> int:
    size = int(processor.get_piece_size())
    if not 0 < size < LARGEST_ID:
        raise StorageError(f"{file}: must hold between 1 and {LARGEST_ID} pieces; got {size}.")
    return size


def _merges(processor: Any, pieces: Sequence[bytes | None], types: Sequence[int]) -> Iterable[Merge]:
    """Two pieces merge where their whole is a piece, the one with the best score first."""
    ids = {piece: i for i, (piece, type) in enumerate(zip(pieces, types, strict=True)) if piece and type != _BYTE}
    scores = {piece: processor.get_score(i) for piece, i in ids.items()}
    ranks = {score: rank for rank, score in enumerate(sorted(set(scores.values()), reverse=True))}
    return by_rank({piece: ranks[score] for piece, score in scores.items()}, ids.__getitem__)


def _speller(processor: Any) -> Any:
    def spelled(i: int) -> bytes | None:
        if processor.is_control(i) or processor.is_unknown(i) or processor.is_unused(i):
            return None
        piece = processor.id_to_piece(i)
        return bytes([int(piece[3:-1], 16)]) if processor.is_byte(i) else piece.replace("▁", " ").encode()

    return spelled
