"""LLMLingua: every segment is read after the compressed text before it, and the numbers add up to the budget."""

from __future__ import annotations

import re
from typing import Any, cast

import numpy as np
import pytest
import torch

from tests.compress.compress_rows import batch, free, row
from tests.compress.passages import compared, held_out, lower_end
from tokenry.compress.kept.text import text_of
from tokenry.compress.llmlingua import LLMLingua
from tokenry.compress.scores import prefix_reader
from tokenry.compress.scores.information import information
from tokenry.compress.scores.prefix_reader import PrefixReader
from tokenry.core.errors import InvalidValue
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny

TEXT = (
    "Mr. Keeper climbed the lighthouse in 1903. The lamp was broken, and nobody knew why! Rain fell on the harbour.\n\n"
    "The town paid $1,250.75 for a new lamp; it wasn't cheap. Dr. Moss lit it again. Ships came. Then it rained."
)


def language(family: str = "llama", tokenizer: Any = None, **changes: Any) -> LanguageModel:
    return LanguageModel(tiny(family, **changes), cast(Any, tokenizer), f"tiny {family}", 512)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return language()


def surprise(model: LanguageModel, before: list[int], ids: list[int]) -> torch.Tensor:
    """-log p of `ids` in one plain forward after the beginning mark and what stands before."""
    whole = torch.tensor([[1, *before, *ids]])
    with torch.no_grad():
        logp = model.model(whole).logits[0].log_softmax(-1)
    return torch.stack([-logp[len(before) + i, x] for i, x in enumerate(ids)])


def some_ids(n: int, seed: int = 0) -> list[int]:
    return torch.randint(3, 128, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text", "gpt_neox"])
def test_the_reader_equals_a_plain_forward_whatever_its_cache_holds(family, monkeypatch):
    model = language(family)
    monkeypatch.setattr(prefix_reader, "CHUNK", 13)
    reader = PrefixReader(model, piece=64, window=512)
    standing: list[int] = []
    for turn in range(6):
        ids = some_ids(40, turn)
        found = reader.read(standing, torch.tensor(ids))
        torch.testing.assert_close(found, surprise(model, standing, ids), atol=2e-5, rtol=1e-4)
        standing = standing + [x for x in ids if x % (turn + 2) == 0] if turn != 2 else standing


def test_the_reader_without_a_beginning_mark():
    bare = language(bos_token_id=None)
    with torch.no_grad():
        found = PrefixReader(bare, piece=64, window=512).read([], torch.tensor(some_ids(9)))
        logp = bare.model(torch.tensor([some_ids(9)])).logits[0].log_softmax(-1)
    assert float(found[0]) == pytest.approx(np.log(128))
    torch.testing.assert_close(found[1:], -logp[range(8), some_ids(9)[1:]], atol=2e-5, rtol=1e-4)


def test_the_reader_keeps_the_latest_part_of_what_outgrows_its_window(model):
    reader = PrefixReader(model, piece=16, window=60)
    standing, start = [], 0
    for turn in range(12):
        ids = some_ids(16, turn)
        found = reader.read(standing, torch.tensor(ids))
        if 1 + len(standing) - start + 16 > 60:
            start = len(standing) - 43 // 2
        torch.testing.assert_close(found, surprise(model, standing[start:], ids), atol=2e-5, rtol=1e-4)
        assert len(reader.held) <= 60
        standing = standing + ids[::2]
    long = reader.read(standing, torch.tensor(some_ids(200)))
    assert long.shape == (200,)
    assert bool(long.isfinite().all())


def test_the_cache_is_used_again(model):
    """Each token is read once, each kept one at most once more, and nothing else."""
    read = []
    hook = model.model.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    tokens = batch(TEXT * 3)
    LLMLingua(segment=20).compress(tokens, model=model)
    hook.remove()
    n, kept = tokens.shape[1], LLMLingua().budget.count(tokens.shape[1])
    assert n < sum(read) <= 1 + n + kept + len(read)


def reference(model: LanguageModel, ids: list[int], count: int, segment: int) -> list[bool]:
    """The method as it is written, with plain forwards: the compressed text before, then the segment."""
    kept: list[bool] = []
    for low in range(0, len(ids), segment):
        part = ids[low : low + segment]
        before = [x for x, k in zip(ids, kept, strict=False) if k]
        nats = surprise(model, before, part)
        passed = low + len(part)
        allowed = int(count * passed / len(ids) + 0.5) - sum(kept)
        threshold = nats.sort(descending=True).values[allowed - 1] if allowed else torch.inf
        kept += (nats >= threshold).tolist()
    return kept


@pytest.mark.parametrize("segment", [7, 16, 200])
@pytest.mark.parametrize("budget", [0.1, 0.35, 0.5, 0.9])
def test_what_stays_is_what_the_segments_chose(model, segment, budget):
    tokens = batch(TEXT)
    method = LLMLingua(budget=budget, segment=segment)
    ids = tokens.ids[0].tolist()
    expected = reference(model, ids, method.budget.count(len(ids)), segment)
    assert sum(expected) == method.budget.count(len(ids))
    assert (method.compress(tokens, model=model).survival()[0] > 0).tolist() == expected
    scores = method.rank(tokens, model=model).scores[0]
    assert float(scores[torch.tensor(expected)].min()) >= 1 > float(scores[~torch.tensor(expected)].max())


def test_it_differs_from_reading_the_text_itself(model):
    """Later segments see another text before them."""
    tokens = batch(TEXT)
    method = LLMLingua(budget=0.3, segment=10)
    alone = information(model, tokens.ids[0], window=512, stride=256)
    assert bool((method.rank(tokens, model=model).scores[0][:10].argsort() == alone[:10].argsort()).all())
    kept = method.compress(tokens, model=model).survival()[0] > 0
    nearest = torch.cat([part >= part.sort(descending=True).values[2] for part in alone.split(10)])
    assert bool((kept != nearest).any())


def test_protected_and_forced_tokens_stand_in_the_compressed_text(model):
    tokens = batch(row(TEXT, protect="lamp"))
    method = LLMLingua(budget=0.4, segment=12, force=("numbers",))
    document = method.rank(tokens, model=model).documents[0]
    ids, fixed = document.ids.tolist(), ~document.free
    for w, (start, end) in enumerate(document.words.bounds):
        if re.search(r"\d", document.text[start:end]):
            fixed = fixed | (document.words.of == w)
    assert int((~document.free).sum()) == 2
    share = method.budget.count(document.size) - int((fixed & document.free).sum())
    loose, kept = ~fixed, fixed.copy()
    for low in range(0, len(ids), 12):
        part = slice(low, min(low + 12, len(ids)))
        nats = surprise(model, [x for x, k in zip(ids[:low], kept, strict=False) if k], ids[part]).numpy()
        allowed = int(share * loose[: part.stop].sum() / loose.sum() + 0.5) - int((kept & loose).sum())
        order = [low + i for i in np.argsort(-nats, kind="stable") if loose[low + i]]
        kept[order[:allowed]] = True
    out = method.compress(tokens, model=model)
    assert (out.survival()[0] > 0).tolist() == kept.tolist()
    assert free(out) == [method.budget.count(document.size)]


def test_a_word_that_is_partly_protected_has_no_better_chance(model):
    """Its free tokens are judged, not the protected one, which stays anyway."""
    tokens = batch(row(TEXT, protect="light"))
    document = LLMLingua().rank(tokens, model=model).documents[0]
    assert document.texts_of(document.words)[document.words.of[np.flatnonzero(~document.free)[0]]] == "lighthouse"
    ranking = LLMLingua(units="word", budget=2).rank(tokens, model=model)
    assert int((ranking.scores[0] >= 1).sum()) <= 2


def test_words_stay_whole_but_for_the_last_tokens(model):
    tokens = batch(TEXT * 2)
    method = LLMLingua(units="word", budget=0.4, segment=15)
    ranking = method.rank(tokens, model=model)
    document, chosen = ranking.documents[0], ranking.scores[0].numpy() >= 1
    size = np.bincount(document.words.of)
    count = method.budget.count(document.size)
    assert count - size.max() < size[chosen].sum() <= count
    held = np.bincount(document.words.of, weights=method.compress(tokens, model=model).survival()[0].numpy())
    assert int(held.sum()) == count
    assert int(((held > 0) & (held < size)).sum()) <= 1
    assert int((chosen & (held == 0)).sum()) <= 1


def test_sources_are_taken_by_perplexity(model):
    parts = [TEXT, TEXT[:60], TEXT[40:160], TEXT[100:], TEXT[20:90]]
    tokens = batch(row(parts[0], ("template", "\n"), *parts[1:], ("question", "Why?")))
    method = LLMLingua(budget=0.1, coarse=2.0, segment=20)
    ranking = method.rank(tokens, model=model)
    document = ranking.documents[0]
    source = tokens.spans()[0, document.columns, 0]
    mean = {s: float(information(model, document.ids[source == s], window=512, stride=256).mean())
            for s in source.unique().tolist()}  # fmt: skip
    taken: list[int] = []
    for s in sorted(mean, key=lambda s: -mean[s]):
        if sum(int((source == t).sum()) for t in taken) > 2 * method.budget.count(document.size):
            break
        taken.append(s)
    assert len(taken) < len(mean) == len(parts)
    scores = ranking.scores[0]
    outside = ~torch.isin(source, torch.tensor(taken))
    assert float(scores[outside].max()) <= 0 <= float(scores[~outside].min())
    out = method.compress(tokens, model=model)
    assert free(out) == [method.budget.count(document.size)]
    kept = out.survival()[0, document.columns] > 0
    assert set(source[kept].tolist()) <= set(taken)
    assert set(source[LLMLingua(budget=0.1, coarse=100.0).compress(tokens, model=model).survival()[0, document.columns]
               > 0].tolist()) == set(mean)  # fmt: skip


def test_forced_words_of_a_dropped_source_stay(model):
    parts = ["Bees make honey. " * 12, TEXT, "Honey keeps. " * 12]
    method = LLMLingua(budget=0.25, coarse=1.0, segment=20, force=("numbers",))
    out = method.compress(batch(row(*parts)), model=model)
    assert free(out) == [method.budget.count(free(batch(row(*parts)))[0])]
    for number in ("1903", "1,250.75"):
        assert number in text_of(out)


class Pieces:
    """A tokenizer that cuts by a pattern and knows its places."""

    bos_token_id = 1

    def __init__(self, pattern: str) -> None:
        self.pattern = re.compile(pattern, re.DOTALL)

    def __call__(self, text: str, **_: Any) -> dict[str, Any]:
        spans = [m.span() for m in self.pattern.finditer(text)]
        ids = {text[a:b]: i for i, (a, b) in enumerate(spans)}
        return {"input_ids": [3 + ids[text[a:b]] % 125 for a, b in spans], "offset_mapping": spans}


def test_a_scorer_with_the_same_pieces_gives_the_same_choice(monkeypatch):
    """Through the text, where every piece is one of the document's own, nothing changes."""
    scorer = language(tokenizer=Pieces(r"\s?[^\W_]{1,5}|\s+|."))
    tokens = batch(row(TEXT, TEXT[30:130]))
    own = LLMLingua(segment=16).rank(tokens, model=scorer)
    ids, tokenized = own.documents[0].ids.tolist(), scorer.tokenizer

    def with_these_ids(text: str, **options: Any) -> dict[str, Any]:
        found = tokenized(text, **options)
        spans = [s for s in found["offset_mapping"] if s[0] < len(TEXT) or s[0] >= len(TEXT) + 2]
        return {"input_ids": ids, "offset_mapping": spans}

    other = LanguageModel(scorer.model, cast(Any, with_these_ids), "other", 512)
    monkeypatch.setattr("tokenry.compress.scores.scorer._load", lambda name: other)
    monkeypatch.setattr("tokenry.compress.scores.prefix_reader.beginning", lambda model: torch.tensor([1]))
    monkeypatch.setattr("tokenry.compress.scores.information.beginning", lambda model: torch.tensor([1]))
    through = LLMLingua(segment=16, scorer="other").rank(tokens, model=scorer)
    torch.testing.assert_close(through.scores[0], own.scores[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pattern", [r"\s?\w+|.", r"."])
def test_a_scorer_with_longer_or_shorter_pieces(model, monkeypatch, pattern):
    other = language("qwen3", tokenizer=Pieces(pattern))
    monkeypatch.setattr("tokenry.compress.scores.scorer._load", lambda name: other)
    for units in ("token", "word"):
        method = LLMLingua(units=units, scorer="other", segment=16, budget=0.3)
        tokens = batch(row(TEXT, TEXT[50:150]), TEXT)
        out = method.compress(tokens, model=model)
        assert free(out) == [method.budget.count(n) for n in free(tokens)]


def test_a_word_longer_than_segment_and_window(model):
    text = "It said " + "x" * 900 + " and then 7 more words followed it."
    method = LLMLingua(units="word", segment=16, window=64, budget=0.3)
    out = method.compress(batch(text), model=model)
    assert free(out) == [method.budget.count(free(batch(text))[0])]


def test_it_says_what_is_missing(model):
    with pytest.raises(InvalidValue, match="segment must be below window=64"):
        LLMLingua(segment=64, window=64)
    with pytest.raises(InvalidValue, match="scorer must be named where no model answers"):
        LLMLingua().compress(batch(TEXT))


@pytest.mark.claim
@pytest.mark.slow
@pytest.mark.parametrize(("units", "over_worst"), [("token", 0.3), ("word", 0.1)])
def test_half_of_a_passage_keeps_right_answers_likelier_than_chance(smollm2, units, over_worst):
    """Sixteen questions over passages of 300 tokens."""
    found = compared(LLMLingua(budget=0.5, units=units), smollm2, held_out())
    assert lower_end(found["best"] - found["random"]) > 0.0
    assert lower_end(found["best"] - found["worst"]) > over_worst
