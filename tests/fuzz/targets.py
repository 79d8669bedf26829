"""What must hold for any bytes: a reader refuses a file in a sentence, or what it opened keeps its promises.

Each target takes bytes, and raises where a promise is broken.
"""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import torch

from tests.contract.cases import Case, cases
from tests.contract.test_hierarchies import built
from tests.fuzz import wholes
from tests.fuzz.damage import Draws, damaged, damaged_json
from tests.segment.respelled import vocabulary
from tokenry.compress.folding.folded import fold, is_folded, unfold
from tokenry.core.errors import InvalidValue, TokenryError
from tokenry.models.files.vocabularies.find import open_vocabulary
from tokenry.segment.base import Tokenizer
from tokenry.segment.engines.opening import CLASSES
from tokenry.segment.hierarchy.chunks import Chunks
from tokenry.segment.hierarchy.model import HierarchicalLM
from tokenry.segment.merging.pairs import merge_all
from tokenry.segment.spelling.respeller import Respeller

Target = Callable[[bytes], None]

READ = ("the hat  and\n\tthe sand 1975 naïve \U0001f937", "", "\0<m>th\u0301e", b"th\xffe\xc3", "thethethe" * 9)
"""What is encoded with a vocabulary that opened."""


def readers() -> dict[str, Target]:
    """One for each format of vocabularies."""
    found: dict[str, Target] = {
        "tokenizer.json": lambda data: opens({"tokenizer.json": damaged_json(wholes.tokenizer_jsons(), data)}),
        "merges.txt": merges_txt,
        "tiktoken": lambda data: opens({"r50k_base.tiktoken": damaged(wholes.tiktokens(), data)}),
        "tekken": lambda data: opens({"tekken.json": damaged_json(wholes.tekkens(), data)}),
        "gguf": lambda data: opens({"model.gguf": damaged(wholes.ggufs(), data)}),
        "sentencepiece": lambda data: opens({"tokenizer.model": damaged(wholes.sentencepieces(), data)}),
    }
    return found


def segmenters() -> dict[str, Target]:
    """One for each tokenizer, respeller and model of chunks of the room, found through the registry."""
    found: dict[str, Target] = {}
    for case in cases("segment"):
        if issubclass(case.method, Tokenizer):
            found[case.entry.name] = partial(encodes, case)
        elif issubclass(case.method, Respeller):
            found[case.entry.name] = partial(respells, case)
        elif issubclass(case.method, HierarchicalLM):
            found[case.entry.name] = partial(cuts, case)
    return found


def all_targets() -> Mapping[str, Target]:
    """All by name."""
    return readers() | segmenters() | {"fold": folds, "unfold": unfolds, "dynamic_bpe": merges}


def opens(files: Mapping[str, bytes]) -> None:
    """A folder of files is refused in a sentence, or its tokenizer keeps its promises."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        try:
            tokenizer = CLASSES[open_vocabulary(folder).kind](source=folder)
            for text in READ:
                holds(tokenizer, text)
        except TokenryError as refused:
            _is_a_sentence(str(refused))


def merges_txt(data: bytes) -> None:
    """Three files of one folder."""
    draws = Draws(data)
    sizes = [draws.below(64), draws.below(64)]
    first, second = (draws.take(size) for size in sizes)
    opens(
        {
            "vocab.json": damaged_json(wholes.vocab_jsons(), first),
            "merges.txt": damaged(wholes.MERGES_TXT, second),
            "tokenizer_config.json": damaged_json(wholes.CONFIGS, draws.rest()),
        }
    )


def holds(tokenizer: Tokenizer, raw: str | bytes) -> None:
    """Spans cover the text in order, ids are of the vocabulary, and what is promised comes back."""
    data = raw if isinstance(raw, bytes) else raw.encode()
    found = tokenizer.encode(raw)
    low, high = found.spans[:, 0], found.spans[:, 1]
    assert bool((low <= high).all())
    assert low[1:].tolist() == high[:-1].tolist()
    assert not len(found) or (int(low[0]), int(high[-1])) == (0, len(data))
    if not isinstance(tokenizer, Chunks):
        assert all(0 <= i < tokenizer.vocab_size for i in found.ids.tolist())
    back = tokenizer.decode(found)
    assert not tokenizer.lossless or back == data


def encodes(case: Case, data: bytes) -> None:
    """Text or bytes through a tokenizer at its trial setting, marks read or not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = _tokenizer(case, bool(data[:1] and data[0] & 1))
        _text_or_bytes(tokenizer, data)


def cuts(case: Case, data: bytes) -> None:
    """Text or bytes in the chunks of a model."""
    with torch.no_grad():
        _text_or_bytes(_chunks(case), data)


def _text_or_bytes(tokenizer: Tokenizer, data: bytes) -> None:
    if data[:1] and data[0] & 2:
        return holds(tokenizer, data[1:])
    text = data[1:].decode("utf-8", "surrogateescape" if data[:1] and data[0] & 4 else "replace")
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            tokenizer.encode(text)
        except InvalidValue:
            return None
        raise AssertionError("half a surrogate pair must be refused") from None
    return holds(tokenizer, text)


def respells(case: Case, data: bytes) -> None:
    """Tokens spelled otherwise spell the same."""
    pieces = vocabulary()
    ids = torch.tensor([b % len(pieces) for b in data[1:]], dtype=torch.long)
    new = case.trial().respell(ids, pieces, torch.Generator().manual_seed(sum(data[:1])))
    assert new.parent.tolist() == sorted(new.parent.tolist())
    for i, group in enumerate(new.ids.split(new.parent.bincount(minlength=len(ids)).tolist())):
        assert pieces.spell(group.tolist()) == pieces.spell([int(ids[i])])


def merges(data: bytes) -> None:
    """Pairs that are merged spell what was there, and none is left that could be merged."""
    pieces = list(vocabulary())
    rows = [[b % (len(pieces) + 1) - 1 for b in part] for part in data[1:].split(b"\0")]
    longest = 2 + sum(data[:1]) % 9
    found = merge_all(rows, pieces, vocabulary().ids.get, lambda spelled: len(spelled) <= longest)
    assert found.lengths == sorted(found.lengths, reverse=True)
    for row, after in zip(rows, found.after(len(found.made)), strict=True):
        assert _spelled(row, pieces) == _spelled([symbol for symbol, _ in after], found.pieces)
        for (left, _), (right, _) in itertools.pairwise(after):
            both = left >= 0 and right >= 0 and found.pieces[left] and found.pieces[right]
            assert not both or len(found.pieces[left] + found.pieces[right]) > longest  # type: ignore[operator]


def _spelled(row: Sequence[int], pieces: Sequence[bytes | None]) -> list[bytes]:
    """What stands between symbols that are not merged."""
    found = [b""]
    for symbol in row:
        piece = pieces[symbol] if symbol >= 0 else None
        if piece:
            found[-1] += piece
        else:
            found.append(b"")
    return found


def folds(data: bytes) -> None:
    """A text said twice is folded and comes back."""
    draws = Draws(data)
    times = 1 + draws.below(3)
    text = "\n".join([draws.rest().decode("utf-8", "replace")] * times)
    found = fold(text)
    assert len(found) <= len(text)
    assert is_folded(text) or unfold(found) == text


def unfolds(data: bytes) -> None:
    """What looks folded is unfolded, or refused in a sentence."""
    whole = fold("\n".join(f"2026-11-30 10:00:{i:02d} INFO step {i} of {i * 7:x} the same words" for i in range(9)))
    try:
        unfold(damaged([whole.encode()], data).decode("utf-8", "replace"))
    except TokenryError as refused:
        _is_a_sentence(str(refused))


def _is_a_sentence(refused: str) -> None:
    assert refused.endswith("."), refused
    assert len(refused) < 1000, refused


@cache
def _tokenizer(case: Case, special: bool) -> Tokenizer:
    marking = {"special": True} if special and hasattr(case.trial(), "special") else {}
    tokenizer = case.method(**case.entry.card.trial | marking)
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.vocab_size
    return tokenizer


@cache
def _chunks(case: Case) -> Chunks:
    return Chunks(model=built(case.trial()))
