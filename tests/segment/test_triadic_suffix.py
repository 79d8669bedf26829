"""Numbers in triads: exact text, exact value, and what is left alone."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from tests.embed.embed_models import OLD_TEXT, trained
from tests.growth import growth
from tokenry import TriadicSuffix
from tokenry.core.errors import InvalidValue
from tokenry.segment.numbers.literals import literals

BASE = "sample-unigram"
LITERALS = (
    "12345678.1234", "0.0045", "0.1", "0.10", "0.100", "1,234,567", "1 234 567", "1_000_000.5", "1'234'567", "007",
    "000", "00012", "-5.50", "+3", "−12", "$1,234.50", "45%", "€1,000", "1.5e10", "2.50E-3", "1e999", "(3.14)", "0",
    "999999999999999999", "999999999999999999.999999999999999", "0.000000000000001", "1" * 19, "0." + "1" * 16,
    "3.11.2", "192.168.0.1", "2026-11-30", "30/11/2026", "10:45", "+1 555-0100", "GPT-4", "0x1F", "v2.0", "3rd", ".5",
    "1,23,4", "12,34", "0,500", "5.", "1, 2, 3", "5-7", "1e5e5", "1.e5", "٣٤", "½",
)  # fmt: skip
UNTOUCHED = LITERALS[LITERALS.index("1" * 19) :][:15]


def made(form="fused", **more):
    return TriadicSuffix(base=BASE, form=form, **more)


@pytest.fixture(params=["fused", "marked"])
def form(request):
    return request.param


@pytest.mark.parametrize("text", LITERALS)
def test_every_literal_comes_back(form, text):
    for around in (text, f"x {text} y", f"{text} {text}\n{text}"):
        assert made(form).decode(made(form).encode(around)) == around.encode()
    once = made(form, exact=False).decode(made(form, exact=False).encode(text))
    assert made(form, exact=False).decode(made(form, exact=False).encode(once)) == once


def test_the_signs_of_the_paper():
    assert made().shown("12345678.1234") == "12m 345k 678 . 123p 400pp ⟨-2⟩"
    assert made(exact=False).shown("12345678.1234") == "12m 345k 678 . 123p 400pp"
    assert made(exact=False).shown("0.0045") == "0 . 004p 500pp"
    assert made(exact=False).shown("1,005,000") == "1m 005k 000"
    assert made(exact=False).shown("1.5e10") == "15b 000m 000k 000"
    assert made("marked", exact=False).shown("12005.5").replace(" ", "") == "12k005.500p"


def test_the_value_of_numbers_over_33_orders(form):
    numbers, tokenizer, draw = [], made(form, exact=False), random.Random(0)
    for _ in range(100_000 if form == "fused" else 10_000):
        whole, fraction = draw.randrange(10 ** draw.randint(1, 18)), draw.choices("0123456789", k=draw.randint(0, 15))
        numbers.append(f"{whole}" + ("." + "".join(fraction) if fraction else ""))
    text = " ".join(numbers)
    back = tokenizer.decode(tokenizer.encode(text)).decode().split()
    assert all(Decimal(a) == Decimal(b) for a, b in zip(numbers, back, strict=True))
    assert made(form).decode(made(form).encode(text)).decode() == text


def test_other_numbers_have_other_ids():
    """Of canonical forms: no leading zeros, whole groups behind the point."""
    draw = random.Random(1)
    forms = {str(draw.randrange(10 ** draw.randint(1, 18))) for _ in range(3000)}
    forms |= {f"{n}.{draw.randrange(1000):03}" for n in list(forms)[:1000]}
    for form in ("fused", "marked"):
        tokenizer = made(form, exact=False)
        assert len({tuple(tokenizer.encode(n).ids.tolist()) for n in forms}) == len(forms)


@pytest.mark.parametrize(
    ("number", "count"), [("5", 1), ("999", 1), ("1000", 2), ("1234567", 3), ("1.5", 3), ("0.1234", 4)]
)
def test_one_id_for_three_digits_begun_and_one_for_the_point(number, count):
    assert len(made(exact=False).encode(number)) == count


@pytest.mark.parametrize("text", UNTOUCHED)
def test_what_is_no_number_or_too_long_is_left_to_the_base(form, text):
    tokenizer = made(form)
    first = tokenizer.vocab_size - len(list(tokenizer._table.pieces()))
    if text not in ("+1 555-0100",):
        assert not (tokenizer.encode(text).ids >= first).any()


def test_decimal_commas():
    german = made(decimal=",", exact=False)
    assert german.shown("1.234,56") == "1k 234 , 560p"
    assert made(decimal=",").decode(made(decimal=",").encode("1.234,56 3,14 1,234")) == b"1.234,56 3,14 1,234"


def test_more_labels_reach_further():
    wide = made(orders=12, depth=8, exact=False)
    assert wide.decode(wide.encode("1" * 36 + "." + "2" * 24)) == ("1" * 36 + "." + "2" * 24).encode()


def test_a_sign_is_a_token_of_its_own():
    spans = made().encode("x = -5").spans[:, :2].tolist()
    assert [4, 5] in spans
    assert [5, 6] in spans


def test_rows_for_new_ids():
    for form in ("fused", "marked"):
        tokenizer = made(form)
        first = tokenizer._base.vocab_size
        rows = torch.randn(first + 3, 8, generator=torch.Generator().manual_seed(0))
        found = tokenizer.extended(rows)
        assert found.shape == (tokenizer.vocab_size, 8)
        assert torch.equal(found[:first], rows[:first])
        assert torch.equal(found, tokenizer.extended(rows))
        with pytest.raises(InvalidValue, match="rows must be"):
            tokenizer.extended(rows[:10])
    found = made().extended(rows)
    digit = {d: rows[made()._base.encode(d).ids].mean(0) for d in "12"}
    label = found[first + 11] - digit["1"]
    torch.testing.assert_close(found[first + 12] - (digit["1"] + digit["2"]) / 2, label)


def test_a_base_that_does_not_spell_is_refused():
    with pytest.raises(InvalidValue, match="pieces spell the text"):
        TriadicSuffix(base="minilm").encode("text")


@pytest.mark.parametrize("change", ["strip", "prefix"])
def test_a_base_that_spells_parts_otherwise_is_refused(change, tmp_path):
    """Between numbers it would lose spaces, or put some in."""
    library = Tokenizer.from_str(trained(OLD_TEXT).backend_tokenizer.to_str())
    if change == "strip":
        library.normalizer = normalizers.Strip()
    else:
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    library.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InvalidValue, match="must spell the parts of a text as the text"):
        TriadicSuffix(base=str(tmp_path)).encode("a 5 b")


@pytest.mark.filterwarnings("ignore::tokenry.segment.engines.encoding.LostBytes")
@pytest.mark.parametrize("text", ["1,234\x045678", "1,234,567\x048901", "0012\x04345", "1,234\x045,678", "\x041,234"])
def test_numbers_that_only_a_lost_byte_parts(form, text):
    tokenizer = TriadicSuffix(base="smollm2", form=form)
    assert tokenizer.decode(tokenizer.encode(text)) == text.replace("\x04", "").encode()


@settings(max_examples=300, deadline=None, database=None)
@given(st.text("0123456789.,-+eE_' \u00a0x%$/:", max_size=30))
def test_no_text_of_digits_and_signs_is_changed(text):
    for form in ("fused", "marked"):
        for decimal in ".,":
            assert made(form, decimal=decimal).decode(made(form, decimal=decimal).encode(text)) == text.encode()


@settings(max_examples=100, deadline=None, database=None)
@given(st.data())
def test_any_ids_write_something(data):
    for form in ("fused", "marked"):
        tokenizer = made(form)
        low = data.draw(st.sampled_from([0, tokenizer.vocab_size - 30]))
        ids = data.draw(st.lists(st.integers(low, tokenizer.vocab_size - 1), max_size=12))
        assert isinstance(tokenizer.decode(ids), bytes)
        tokenizer.shown(tokenizer.decode(ids).decode("utf-8", "ignore"))


@pytest.mark.parametrize("piece", ["7", "1,", "1.", "123,", "1e", "1-", " ", "5 "])
def test_time_grows_with_the_length(piece):
    assert growth(lambda n: list(literals((piece * n)[:n], ".", 6, 5)), 320_000, 16) < 5
