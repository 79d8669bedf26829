"""Vocabularies in bytes."""

from tokenry.core.vocabulary import Vocabulary

PIECES = Vocabulary((None, b"a", b"b", b"ab", b"a", b"\xc3"))


def test_what_is_missing_double_and_no_text():
    assert PIECES.ids == {b"a": 1, b"b": 2, b"ab": 3, b"\xc3": 5}
    assert PIECES.duplicates == {b"a": (1, 4)}
    assert PIECES.marks == {0}
    assert PIECES.missing_bytes == tuple(b for b in range(256) if b not in b"ab\xc3")
    assert PIECES.spell([3, 0, 5]) == b"ab\xc3"


def test_the_fingerprint_is_of_pieces_and_order():
    same = Vocabulary((None, b"a", b"b", b"ab", b"a", b"\xc3"))
    assert same.fingerprint == PIECES.fingerprint
    others = [(b"", b"a", b"b", b"ab", b"a", b"\xc3"), (None, b"ab", b"", b"ab", b"a", b"\xc3"), (b"a", None)]
    assert len({Vocabulary(o).fingerprint for o in others} | {PIECES.fingerprint}) == 4
