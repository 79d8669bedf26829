"""Roots and affixes with one id for all their forms, in two languages; what comes back, and what is refused."""

from __future__ import annotations

import json
import shutil
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.growth import growth
from tokenry import Bpe, LessIsBetter, MorphHybrid
from tokenry.core.errors import InvalidValue, UnreadableInput
from tokenry.segment.languages.pack import LANGUAGES, Unit, pack
from tokenry.segment.languages.reading import written

REST = "sample-unigram"
TURKISH, FINNISH = pack("turkish"), pack("finnish")


def made(**more):
    return MorphHybrid(rest=REST, **more)


def names(text, **more):
    return made(**more).shown(text)


def affix(known, name):
    return next(unit for unit in known.affixes if unit.name == name)


def root(known, name):
    return next(unit for unit in known.roots if unit.name == name)


def paradigm(known, roots, *groups):
    """All words of a root and one affix of each group, written by the rules."""
    for name, *affixes in product(roots, *groups):
        yield written(known, [root(known, name), *(affix(known, a) for a in affixes if a)])


def test_forms_share_their_ids():
    assert names("kitabı")[0] == names("kitaplar")[0] == names("kitap")[0] == "kitap"
    assert names("evler")[1] == names("arabalar")[1] == "-lAr"
    assert names("evlerimizden") == ["ev", "-lAr", "-(I)mIz", "-DAn"]
    assert names("Evler KİTAPLAR") == ["<uppercase>", "ev", "-lAr", " ", "<capitals>", "kitap", "-lAr"]
    assert names("bekliyor") == ["bekle", "-(I)yor"]
    assert names("gördüğü")[:2] == ["gör", "-DIk"]
    assert names("burnu")[0] == names("burunda")[0] == "burun"


def test_a_second_language():
    assert LANGUAGES == ("finnish", "turkish")
    assert names("kaupassa", language="finnish") == ["kauppa", "-ssA"]
    assert names("pöydällä kadulla", language="finnish") == ["pöytä", "-llA", " ", "katu", "-llA"]
    assert names("Kirjastoissamme", language="finnish") == ["<uppercase>", "kirjasto", "-i", "-ssA", "-mme"]


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (TURKISH, lambda: paradigm(TURKISH, ("ev", "araba", "göz", "kitap", "burun", "renk", "ağaç", "çocuk", "su"),
                           ("", "lAr"), ("", "(I)m", "(I)mIz", "(s)I"), ("", "DA", "DAn", "(y)lA"))),
        (TURKISH, lambda: paradigm(TURKISH, ("gel", "oku", "bekle", "git", "sor"), ("", "mA"),
                           ("(y)AcAk", "mIş", "DIk"), ("", "(I)m", "lAr"))),
        (FINNISH, lambda: paradigm(FINNISH, ("talo", "kauppa", "katu", "pöytä", "kylä", "tieto"),
                           ("ssA", "stA", "llA", "lle", "n"), ("", "kO", "kin"))),
    ],
)  # fmt: skip
@pytest.mark.parametrize("reading", ["best", "greedy"])
def test_paradigms_come_back_without_pieces(known, words, reading):
    tokenizer = made(language=known.language, reading=reading)
    found = list(words())
    assert len(found) > 15
    for word in found:
        for cased in (word, known.upper(word[0]) + word[1:], known.upper(word)):
            assert tokenizer.decode(tokenizer.encode(cased)) == cased.encode()
    if reading == "best":
        whole = [word for word in found if (tokenizer.encode(word).ids >= tokenizer._first).all()]
        assert len(whole) > 0.9 * len(found)


def test_the_fewest_parts_and_the_longest_first(tmp_path):
    (tmp_path / "roots").write_text("kartalev\n", encoding="utf-8")
    assert names("kartal") == ["kartal"]
    assert names("kartalevler", roots=str(tmp_path / "roots")) == ["kartalev", "-lAr"]
    assert len(names("açıklanmayan")) <= len(names("açıklanmayan", reading="greedy"))


def test_of_as_many_parts_the_longer_affixes():
    assert names("yıllar") == ["yıl", "-lAr"]
    assert names("gelen") == ["gelen"]
    assert names("benden") == ["ben", "-DAn"]


def test_realised_affixes():
    for behind, form, wanted in (
        ("ev", "lAr", "ler"), ("araba", "lAr", "lar"), ("araba", "(y)I", "yı"), ("göz", "(I)mIz", "ümüz"),
        ("kitap", "DA", "ta"), ("ev", "DA", "de"), ("", "lAr", "ler"), ("okul", "(n)In", "un"), ("su", "CI", "cu"),
        ("ev'", "lAr", "ler"),
    ):  # fmt: skip
        assert TURKISH.realised(form, behind) == wanted
    assert FINNISH.realised("ssA", "tie") == "ssä"
    assert FINNISH.realised("ssA", "talo") == "ssa"


def test_capital_letters_are_turkish():
    assert TURKISH.lower("IĞDIR İZMİR") == "ığdır izmir"
    assert TURKISH.upper("ığdır izmir") == "IĞDIR İZMİR"
    tokenizer = made()
    for text in ("IŞIK ışık İŞÇİ Işık", "DNAlar GPTs iPhone OpenAI'ın CAFé A Ab AB aB'C", "İİi̇", "ǅ ß ŉ"):
        assert tokenizer.decode(tokenizer.encode(text)) == text.encode()


@settings(max_examples=300, deadline=None, database=None)
@given(st.text("evlrğıİIiöĞaAbkKpt'’ .é🤷", max_size=24))
def test_nothing_is_changed(text):
    for language in LANGUAGES:
        for reading in ("best", "greedy"):
            tokenizer = made(language=language, reading=reading)
            found = tokenizer.encode(text)
            assert tokenizer.decode(found) == text.encode()
            assert found.spans[-1:, 1].tolist() == ([len(text.encode())] if text else [])


@settings(max_examples=100, deadline=None, database=None)
@given(st.data())
def test_any_ids_write_something(data):
    tokenizer = made()
    ids = st.one_of(st.integers(0, 300), st.integers(tokenizer._first, tokenizer._first + 400))
    assert isinstance(tokenizer.decode(data.draw(st.lists(ids, max_size=10))), bytes)


def test_roots_that_are_none(tmp_path):
    for text in ("Büyük\n", "a b c\n", "ev-ler\n"):
        (tmp_path / "roots").write_text(text, encoding="utf-8")
        with pytest.raises(InvalidValue, match="must be a root in small letters"):
            names("ev", roots=str(tmp_path / "roots"))
    with pytest.raises(UnreadableInput):
        names("ev", roots=str(tmp_path / "gone"))
    with pytest.raises(InvalidValue, match="rest must be a tokenizer whose pieces spell"):
        MorphHybrid(rest="minilm").encode("ev")


@pytest.mark.filterwarnings("ignore:.*how many ids there shall be")
def test_a_rest_that_was_trained_anew_is_read_anew(tmp_path):
    """By another method even, and looked at anew, also where it is named by its method."""
    folder = tmp_path / "rest"
    Bpe.train(["a text of evler"], vocab_size=270, out=folder)
    by_folder, by_method = MorphHybrid(rest=str(folder)), MorphHybrid(rest=f"bpe:source={folder}")
    assert by_folder.decode(by_folder.encode("ev é")) == by_method.decode(by_method.encode("ev é")) == "ev é".encode()
    shutil.rmtree(folder)
    LessIsBetter.train(["a text of evler. " * 40], vocab_size=300, out=folder)
    assert by_folder.decode(by_folder.encode("evler é")) == "evler é".encode()
    assert by_folder._rest.name() == "less_is_better"
    shutil.rmtree(folder)
    Bpe.train(["a text of evler"], vocab_size=258, out=folder)
    found = json.loads((folder / "tokenizer.json").read_text())
    found["normalizer"] = {"type": "Prepend", "prepend": " "}
    (folder / "tokenizer.json").write_text(json.dumps(found))
    for tokenizer in (by_folder, by_method):
        with pytest.raises(InvalidValue, match="rest must"):
            tokenizer.encode("ev")


def test_a_unit_of_one_form():
    assert TURKISH.form(Unit("root", ("ev",)), "", affix(TURKISH, "lAr")) == "ev"
    assert TURKISH.form(Unit("root", ("kitap", "kitab")), "", None) == "kitap"


@pytest.mark.parametrize("piece", ["e", "evler", "evler ", "E", "'", "ı", "aB"])
def test_time_grows_with_the_length(piece):
    assert growth(lambda n: made().encode((piece * n)[:n]), 80_000, 16) < 5
