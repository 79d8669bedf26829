"""Contrastive relevance: both likelihoods, the rank of documents, their shares of the budget, and their order."""

from __future__ import annotations

import re
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compress.compress_rows import batch, characters, free, row
from tokenry.compress import contrastive_relevance as module
from tokenry.compress.contrastive_relevance import RESTRICT, ContrastiveRelevance
from tokenry.compress.kept.fit import fit
from tokenry.compress.kept.recover import recover
from tokenry.compress.kept.sources import reordered, shares
from tokenry.compress.kept.text import text_of
from tokenry.compress.random import RandomUnits
from tokenry.compress.scores.likelihood import log_likelihood
from tokenry.compress.scores.scorer import spread
from tokenry.core.budget import Budget
from tokenry.core.errors import InvalidValue
from tokenry.data import is_correct, questions, read
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny
from tokenry.models.text.document import Document
from tokenry.models.text.prompt import plain

ASK = "Who lit it?"
ONE = "Mr. Keeper climbed up in 1903. The lamp was broken, and nobody knew why!"
TWO = "The town paid $1,250.75 for a lamp. It was not cheap. Dr. Moss lit it again; ships came."
THREE = "Bees make honey. Honey keeps for years. A baker gets up before dawn, as bakers do."
UNITS = ("sentence", "word", "token")
EDGES = ".,;:!?—-\"“”'()"


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(tiny("llama"), characters(), "tiny", 512)


def ids_of(text: str) -> torch.Tensor:
    return torch.tensor(characters()(text)["input_ids"], dtype=torch.long)


def direct(model: LanguageModel, *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """log p of every token of each part in one plain forward after the beginning mark."""
    ids = torch.cat(parts)
    with torch.no_grad():
        logits = model.model(torch.cat((torch.tensor([1]), ids))[None]).logits[0]
    found = logits[:-1].log_softmax(-1)[torch.arange(len(ids)), ids]
    return found.split([len(p) for p in parts])


def brute(model: LanguageModel, ids: torch.Tensor, ask: str = ASK) -> tuple[torch.Tensor, float]:
    """s_j and r_k of a document by their equations."""
    alone, _, question = direct(model, ids, ids_of("\n\n"), ids_of(f"{ask} {RESTRICT}"))
    _, asked = direct(model, ids_of(ask + "\n\n"), ids)
    return asked - alone, -float(question.mean())


@pytest.mark.parametrize("units", UNITS)
def test_scores_and_ranks_equal_two_plain_forwards(model, units):
    tokens = batch(row(("template", "<user>"), ONE, ("template", "\n\n"), TWO, THREE, ("question", "?")), row(TWO))
    ranking = ContrastiveRelevance(units=units).rank(tokens, ASK, model=model)
    for r, texts in enumerate(([ONE, TWO, THREE], [TWO])):
        document, parts = ranking.documents[r], ranking.parts[r]
        expected = [brute(model, row(t).ids) for t in texts]
        contrast = torch.cat([s for s, _ in expected])
        of = torch.from_numpy(document.units.of)
        mean = torch.stack([contrast[of == u].mean() for u in range(len(document.units))])
        torch.testing.assert_close(ranking.scores[r], mean, atol=2e-5, rtol=1e-4)
        order = np.argsort([value for _, value in expected], kind="stable")
        assert [p.document.text for p in parts] == [texts[k] for k in order]
        for part in parts:
            value = ContrastiveRelevance().read(part.document, ASK, model)[1]
            assert value == pytest.approx(expected[texts.index(part.document.text)][1], rel=1e-5)


def test_scoring_one_document_is_ranking_it(model):
    ranking = ContrastiveRelevance().rank(batch(ONE), ASK, model=model)
    scores = ContrastiveRelevance().score(ranking.documents[0], ASK, model)
    torch.testing.assert_close(scores, ranking.scores[0])


def test_windows_equal_one_pass_within_each(model):
    ids = torch.randint(3, 128, (100,), generator=torch.Generator().manual_seed(0))
    before, after = ids_of("Why?\n\n"), ids_of("\n\nWhy?")
    windows = [(0, 0, 40), (30, 40, 70), (60, 70, 100)]
    text, following = log_likelihood(model, ids, windows, before=before, after=after)
    for w, (start, fresh, end) in enumerate(windows):
        _, inside, behind = direct(model, before, ids[start:end], after)
        torch.testing.assert_close(text[fresh:end], inside[fresh - start :], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(following[w], behind, atol=1e-5, rtol=1e-4)


def test_a_document_that_fits_is_read_at_once_and_a_longer_one_in_windows(model):
    method = ContrastiveRelevance(units="token", window=200, stride=150)
    (short,) = method.rank(batch(ONE), ASK, model=model).scores
    torch.testing.assert_close(short, brute(model, row(ONE).ids)[0], atol=2e-5, rtol=1e-4)
    document = ContrastiveRelevance().rank(batch(" ".join([ONE, TWO, THREE] * 4)), ASK, model=model).documents[0]
    contrast, value = method.read(document, ASK, model)
    fixed = 1 + len(ids_of(f"\n\n{ASK} {RESTRICT}"))
    body, step = 200 - fixed, 150 - fixed
    last = len(document.ids) - body
    fresh, ranks = 0, []
    for start in (*range(0, last, step), last):
        s, r = brute(model, document.ids[start : start + body])
        torch.testing.assert_close(contrast[fresh : start + body], s[fresh - start :], atol=2e-5, rtol=1e-4)
        fresh = start + body
        ranks.append(r)
    assert len(ranks) > 2
    assert value == pytest.approx(min(ranks), rel=1e-5)


def test_a_scorer_with_other_tokens_reads_the_text(model, monkeypatch):
    other = LanguageModel(tiny("llama", seed=1), characters(), "other", 512)
    monkeypatch.setattr(module, "scorer_for", lambda name, model, who: other)
    ranking = ContrastiveRelevance(units="token", scorer="other").rank(batch(row(ONE, TWO)), ASK, model=model)
    for part in ranking.parts[0]:
        document = part.document
        contrast, value = brute(other, ids_of(document.text))
        places = np.stack((np.arange(len(document.text)), np.arange(1, len(document.text) + 1)), 1)
        mine = ranking.scores[0][torch.from_numpy(part.tokens)]
        torch.testing.assert_close(mine, spread(contrast, places, document), atol=5e-5, rtol=1e-4)
        assert ContrastiveRelevance().read(document, ASK, model)[1] == pytest.approx(value, rel=1e-5)


def test_it_needs_a_question_that_fits_and_a_model(model):
    with pytest.raises(InvalidValue, match="ask must be given"):
        ContrastiveRelevance().compress(batch(ONE), model=model)
    with pytest.raises(InvalidValue, match="scorer must be named where no model answers"):
        ContrastiveRelevance().compress(batch(ONE), ASK)
    fixed = 1 + len(ids_of(f"\n\n{ASK} {RESTRICT}"))
    with pytest.raises(InvalidValue, match=f"window must hold the {fixed} tokens of the question"):
        ContrastiveRelevance(window=fixed, stride=1).compress(batch(ONE), ASK, model=model)
    ContrastiveRelevance(window=fixed + 1, stride=1).compress(batch("One two."), ASK, model=model)
    with pytest.raises(InvalidValue, match="stride must be below window=64"):
        ContrastiveRelevance(window=64, stride=64)


SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=7)


@settings(max_examples=300, deadline=None)
@given(SIZES, st.data(), st.floats(0, 1), st.floats(1, 4))
def test_shares_add_up_and_stay_within_bounds(sizes, data, delta, coarse):
    needs = [data.draw(st.integers(0, n)) if data.draw(st.booleans()) else 0 for n in sizes]
    count = data.draw(st.integers(sum(needs), sum(sizes)))
    found = shares(sizes, needs, count, delta=delta, coarse=coarse)
    assert found.sum() == count
    assert all(need <= n <= size for need, n, size in zip(needs, found, sizes, strict=True))
    held = np.cumsum(sizes) - sizes
    assert all(n == need for n, need, h in zip(found, needs, held, strict=True) if h >= coarse * count)


def test_shares_follow_the_ramp_of_the_paper():
    """Between the bounds, each rank keeps 2 delta / K of its tokens less than the one before it."""
    assert shares([100] * 4, [0] * 4, 200, delta=0.2, coarse=10).tolist() == [65, 55, 45, 35]
    assert shares([100] * 4, [0] * 4, 200, delta=0.0, coarse=10).tolist() == [50] * 4
    assert shares([50, 100, 200], [0] * 3, 175, delta=0.3, coarse=10).tolist() == [39, 59, 77]
    assert shares([7], [0], 3, delta=0.3, coarse=2).tolist() == [3]


def test_shares_are_clipped_and_what_is_clipped_goes_to_the_others():
    assert shares([10, 10], [0, 0], 15, delta=1.0, coarse=2).tolist() == [10, 5]
    assert shares([10, 10, 10], [0, 0, 0], 3, delta=1.0, coarse=9).tolist() == [3, 0, 0]
    assert shares([10, 10, 10], [0, 0, 8], 15, delta=1.0, coarse=9).tolist() == [7, 0, 8]


def test_the_coarse_step_drops_whole_documents():
    assert shares([10] * 4, [0] * 4, 10, delta=0.0, coarse=1.0).tolist() == [10, 0, 0, 0]
    assert shares([10] * 4, [0] * 4, 10, delta=0.0, coarse=2.0).tolist() == [5, 5, 0, 0]
    assert shares([10] * 4, [0, 0, 0, 3], 10, delta=0.0, coarse=2.0).tolist() == [4, 3, 0, 3]


@pytest.mark.parametrize("units", UNITS)
def test_a_lone_document_has_the_whole_budget(model, units):
    tokens = batch(row(("template", "<u>"), ONE, ("question", ASK)))
    ranking = ContrastiveRelevance(units=units).rank(tokens, ASK, model=model)
    document, scores = ranking.documents[0], ranking.scores[0]
    for n in range(1, document.size + 1):
        out = ContrastiveRelevance(units=units, budget=n, reorder=True).fit(tokens, ranking)
        assert free(out) == [n]
        assert out.survival()[0][document.columns].bool().tolist() == fit(document, scores, n).tolist()


@pytest.mark.parametrize("units", UNITS)
def test_budgets_of_documents_add_up(model, units):
    tokens = batch(row(ONE, ("template", "\n\n"), TWO, THREE), row(THREE, ONE))
    ranking = ContrastiveRelevance(units=units).rank(tokens, ASK, model=model)
    source = tokens.origin.source
    for n in (1, 2, 9, 20, 33, 60):
        method = ContrastiveRelevance(units=units, budget=n)
        out = method.fit(tokens, ranking)
        assert free(out) == [method.budget.count(k) for k in free(tokens)]
        for r, parts in enumerate(ranking.parts):
            expected = shares([p.document.size for p in parts], [0] * len(parts), free(out)[r], delta=0.3, coarse=2.0)
            kept = out.survival()[r].bool() & ~tokens.protected[r]
            assert [int((kept & (source[r] == p.source)).sum()) for p in parts] == expected.tolist()


def test_forced_words_stay_in_documents_that_are_dropped(model):
    tokens = batch(row(ONE, TWO, THREE))
    method = ContrastiveRelevance(budget=14, force=("numbers",), coarse=1.0, units="word")
    ranking = method.rank(tokens, ASK, model=model)
    for ordered in (ranking, ranking.inverted()):
        out = method.fit(tokens, ordered)
        assert free(out) == [14]
        assert "1903." in text_of(out)
        assert "$1,250.75" in text_of(out)


def test_full_budget_is_the_identity(model):
    tokens = batch(row(("template", "<u>"), ONE, TWO, THREE, ("question", ASK)), row(TWO, ONE))
    for units in UNITS:
        assert ContrastiveRelevance(units=units, budget=1.0).compress(tokens, ASK, model=model) is tokens


def test_inverted_ranks_turn_documents_around(model):
    ranking = ContrastiveRelevance().rank(batch(row(ONE, TWO, THREE)), ASK, model=model)
    turned = ranking.inverted()
    assert turned.parts[0] == ranking.parts[0][::-1]
    assert torch.equal(turned.scores[0], -ranking.scores[0])


def framed(*texts: str, last: bool = True):
    """A prompt whose documents stand apart by blank lines, also the last one from the question."""
    parts = [p for t in texts for p in (t, ("template", "\n\n"))]
    return row(("template", "<u>"), *(parts if last else parts[:-1]), ("question", ASK), ("template", "<e>"))


def runs(tokens, r: int = 0) -> list[str]:
    """The texts of the sources of one row, in the order in which they stand."""
    spans = tokens.spans()[r][tokens.mask[r]]
    return [tokens.origin.sources[s].data for s in torch.unique_consecutive(spans[:, 0]).tolist()]


def test_sources_change_places_and_the_rest_stays():
    tokens = batch(framed(ONE, TWO, THREE), framed(THREE, ONE))
    out = reordered(tokens, [[5, 1, 3], [12, 10]])
    assert runs(out, 0) == ["<u>", THREE, "\n\n", ONE, "\n\n", TWO, "\n\n", ASK, "<e>"]
    assert runs(out, 1) == ["<u>", ONE, "\n\n", THREE, "\n\n", ASK, "<e>"]
    assert text_of(out, 0) == "\n\n".join([THREE, ONE, TWO])
    assert torch.equal(out.mask, tokens.mask)
    assert torch.equal(out.positions, tokens.positions)
    assert reordered(tokens, [[1, 3, 5], [10, 12]]) is tokens


def test_blank_lines_between_sources_stay_between_them():
    """Also where the last source has none of its own, and where a source ends with one."""
    assert runs(reordered(batch(framed(ONE, TWO, last=False)), [[3, 1]])) == ["<u>", TWO, "\n\n", ONE, ASK, "<e>"]
    ends = f"{ONE}\n\n"
    mixed = batch(row(("template", "<u>"), ends, TWO, ("template", "\n\n"), ("question", ASK)))
    assert runs(reordered(mixed, [[2, 1]])) == ["<u>", TWO, "\n\n", ends, ASK]


@pytest.mark.parametrize("budget", [1.0, 0.6, 0.2])
def test_reordering_changes_the_order_and_not_the_choice(model, budget):
    rows = [framed(ONE, TWO, THREE), framed(THREE, ONE)]
    tokens = batch(*rows)
    method = ContrastiveRelevance(budget=budget, reorder=True, units="word")
    ranking = method.rank(tokens, ASK, model=model)
    ranking = replace(ranking, parts=(tuple(ranking.parts[0][i] for i in (2, 0, 1)), ranking.parts[1][::-1]))
    out = method.fit(tokens, ranking)
    still = ContrastiveRelevance(budget=budget, units="word").fit(tokens, ranking)
    assert torch.equal(out.survival(), still.survival())
    for r in range(2):
        left = set(out.spans()[r, :, 0].tolist())
        assert [t for t in runs(out, r) if t in (ONE, TWO, THREE)] == [
            p.document.text for p in ranking.parts[r] if p.source in left
        ]
        originals = [out.fate.originals(r, c) for c in out.mask[r].nonzero()[:, 0].tolist()]
        assert {len(o) for o in originals} == {1}
        assert torch.equal(out.ids[r][out.mask[r]], tokens.ids[r][torch.tensor(originals)[:, 0]])
        assert out.positions[0, r][out.mask[r]].tolist() == list(range(int(out.mask[r].sum())))
        alone = method.compress(batch(rows[r]), ASK, model=model)
        both = method.compress(tokens, ASK, model=model)
        assert torch.equal(alone.ids[0], both.ids[r][both.mask[r]]), "other rows and padding do not matter"
    again = ContrastiveRelevance(budget=0.5).compress(out, ASK, model=model)
    assert free(again) == [Budget(share=0.5).count(n) for n in free(out)]


@pytest.mark.parametrize("units", ["word", "sentence"])
def test_copies_of_reordered_text_lead_back_to_the_original(model, units):
    """recover(compress(x), answer copied from the compressed text) are original spans of what was copied."""
    texts = [read("in_the_year_2889")[:900], read("sotu_1930")[:800], read("moby_dick")[:900]]
    tokens = batch(framed(*texts))
    ranking = ContrastiveRelevance(units=units).rank(tokens, ASK, model=model)
    parts = tuple(sorted(ranking.parts[0], key=lambda p: -p.source))
    out = ContrastiveRelevance(units=units, reorder=True, coarse=9).fit(tokens, replace(ranking, parts=(parts,)))
    assert [t for t in runs(out) if t in texts] == texts[::-1]
    seen = 0
    for part in parts:
        shown = text_of(out.take((out.spans()[..., 0] == part.source).nonzero()[None, :, 1]))
        assert shown in text_of(out)
        found = list(re.finditer(r"\S+", shown))
        for first in range(0, len(found) - 8, 8):
            copied = shown[found[first].start() : found[first + 7].end()].strip(EDGES)
            for recovered in recover(out, f"I read: {copied}"):
                assert recovered.source == part.source
                assert part.document.text.encode()[slice(*recovered.span)].decode() == recovered.text
                assert recovered.text.split() == f"I read: {copied}"[slice(*recovered.answer)].split()
                seen += 1
    assert seen > 12


@pytest.mark.claim
@pytest.mark.slow
def test_the_passage_that_answers_is_ranked_first_and_its_answer_stays(smollm2):
    """Eight passages of one document, of which one answers: every third of the 24 questions with such a passage.

    Over all 24, 21 are ranked first, and 22 answers stay, by chance 6.
    """
    asked = [(q, found) for q in questions() if (found := passages(q))][::3]
    first = ours = chance = 0
    for q, texts in asked:
        tokens = plain(smollm2.tokenizer, [Document(t) for t in texts])
        method = ContrastiveRelevance(budget=0.25)
        ranking = method.rank(tokens, q.ask, model=smollm2)
        first += q.evidence in ranking.parts[0][0].document.text
        ours += is_correct(q, text_of(method.fit(tokens, ranking)))
        chance += sum(is_correct(q, text_of(RandomUnits(budget=0.25, seed=s).compress(tokens))) for s in range(4)) / 4
    assert first >= 0.6 * len(asked), "by chance an eighth"
    assert ours >= 0.75 * len(asked)
    assert ours >= 2 * chance


def passages(question) -> list[str]:
    """Eight passages of about 100 tokens, one of which holds the evidence; none where it is not in one passage."""
    found, current = [], ""
    for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z\"“‘])|\n\n", read(question.document)):
        if len(current) + len(sentence) > 500 and current:
            found.append(current)
            current = ""
        current = f"{current} {sentence}".strip()
    holds = [p for p in found if question.evidence in p]
    if not holds:
        return []
    draw = Random(question.id)
    chosen = [holds[0], *draw.sample([p for p in found if p != holds[0]], 7)]
    draw.shuffle(chosen)
    return chosen
