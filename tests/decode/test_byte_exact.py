"""A prompt that ends inside a token: what is said has the distribution of bytes, and rows do not see each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.decode.byte_models import reads
from tokenry.core.errors import InvalidValue
from tokenry.decode.base import View
from tokenry.decode.byte_exact import ByteExact
from tokenry.decode.bytes.reader import ByteReader

SIDE = 12


def ids(language, text):
    return torch.tensor([[0, *language.tokenizer(text)["input_ids"]]])


def generate(method, language, given, **options):
    """With a mask: the mark before a text is also the one that ends it, and would be taken for padding."""
    return method.generate(language, **{"input_ids": given, "attention_mask": torch.ones_like(given)} | options)


def said(language, text, **settings):
    """The bytes behind a prompt."""
    given = ids(language, text)
    out = generate(ByteExact(**settings), language, given, max_new_tokens=4)
    vocabulary = ByteReader.of(language).spelling.vocabulary
    assert torch.equal(out[:, : given.shape[1]], given)
    return vocabulary.spell(out[0, given.shape[1] :].tolist())


@pytest.mark.parametrize(("kind", "text"), [("split", "a"), ("split", "ab a"), ("fallback", "a"), ("whole", "aa")])
def test_the_first_byte_is_drawn_from_the_distribution_of_bytes(kind, text, monkeypatch):
    """Chance is spread evenly: the first number chooses a cover, the second one what follows it."""
    language = reads(kind)
    grid = (torch.arange(SIDE) + 0.5) / SIDE
    chances = iter((grid.repeat_interleave(SIDE), grid.repeat(SIDE)))
    monkeypatch.setattr(View, "uniform", lambda _: next(chances))
    method = ByteExact(temperature=1.0, invalid="removed")
    out = generate(method, language, ids(language, text).repeat(SIDE**2, 1), max_new_tokens=1)
    pieces = ByteReader.of(language).spelling.vocabulary
    first = [(pieces[i] or b"\x00")[0] for i in out[:, -1].tolist()]
    wanted = np.exp(ByteReader.of(language, text.encode(), exact=True).next())
    for byte in np.argsort(-wanted[:256])[:3]:
        assert abs(first.count(int(byte)) / SIDE**2 - wanted[byte]) < 1.5 / SIDE


def test_a_row_alone_is_the_row_in_a_batch():
    language = reads("split")
    both = torch.tensor([[0, 0, *ids(language, "ab")[0, 1:].tolist()], ids(language, "a bb")[0].tolist()[:3]])
    mask = torch.tensor([[0] + [1] * (both.shape[1] - 1), [1] * both.shape[1]])
    for settings in ({}, {"temperature": 1.0}):
        method = ByteExact(**settings)
        out = generate(method, language, both, attention_mask=mask, max_new_tokens=5, seed=2)
        for row, start in ((0, 1), (1, 0)):
            alone = generate(method, language, both[row : row + 1, start:], max_new_tokens=5, seed=2 + row)
            new = alone[0, both.shape[1] - start :]
            assert torch.equal(new, out[row, both.shape[1] :][: len(new)])


def test_a_prompt_of_marks_or_of_one_id_is_read_as_it_is():
    language = reads("split")
    for given in ([[0]], [[0, 0]]):
        inputs = {"input_ids": torch.tensor(given), "attention_mask": torch.ones_like(torch.tensor(given))}
        out = ByteExact().generate(language, **inputs, max_new_tokens=3)
        plain = language.model.generate(**inputs, do_sample=False, max_new_tokens=3)
        assert torch.equal(out, plain)


def test_nobody_knows_the_bytes_without_a_tokenizer():
    language = reads("split")
    with pytest.raises(InvalidValue, match="needs the model's tokenizer"):
        ByteExact().generate(language.model, input_ids=ids(language, "a"), max_new_tokens=2)


def test_the_likeliest_cover_is_read():
    """What greedy reading chooses among covers is the likeliest sequence."""
    language = reads("split")
    found = []
    for text in ("a", "ab", "aa", "ab a", "bb"):
        reader = ByteReader.of(language, text.encode())
        covers = [(log, (reader.spelling.vocabulary[i] or b"")[len(c.rest) :]) for c in reader.covers() if c.rest
                  for i, log in zip(c.ids.tolist(), c.logs.tolist(), strict=True)]  # fmt: skip
        whole = max(reader.log(c.before) for c in reader.covers() if not c.rest)
        best = max(covers, default=(-np.inf, b""))
        found.append(best[0] > whole)
        if found[-1]:
            assert said(language, text).startswith(best[1])
    assert any(found)
