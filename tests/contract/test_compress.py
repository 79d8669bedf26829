"""Every compressor, found through the registry: what any of them must hold to."""

from __future__ import annotations

import warnings
from dataclasses import fields, replace

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from tests.compress.compress_rows import batch, characters, free, row
from tests.contract.cases import cases
from tokenry.compress.kept.text import text_of
from tokenry.core.budget import Budget
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.core.tokens import TokenBatch
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny

ASK = "Who paid for the lighthouse lamp?"
LONG = (
    "Mr. Keeper climbed the lighthouse in 1903. The lamp was broken, and nobody knew why! Rain fell on the harbour.\n\n"
    "The town paid $1,250.75 for a new lamp; it wasn't cheap. Dr. J. Moss lit it again. Ships came. Then it rained."
)
SHORT = "Bees make honey. The lamp was paid for by the town, not by the state. Honey keeps."
METHODS = cases("compress")


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(tiny("llama"), characters(), "tiny", 512)


@pytest.fixture(params=METHODS, ids=[c.name for c in METHODS])
def case(request):
    if any(f.name == "encoder" for f in fields(request.param.method)):
        request.getfixturevalue("minilm")
    return request.param


def methods(case, **settings):
    """The method with the settings of its card, once for each kind of unit of which tokens are taken out."""
    return [case.method(**{**case.entry.card.trial, "units": u, **settings}) for u in ("sentence", "word", "token")]


def ends(case, **settings):
    """The same for its smallest and its largest kind of unit: what is between is cut by the same code."""
    found = methods(case, **settings)
    return found if len(found) < 2 else [found[0], found[-1]]


def snapshot(tokens: TokenBatch):
    return [t.clone() for t in (tokens.ids, tokens.mask, tokens.positions, tokens.protected, tokens.fate.index)]


def same(a: TokenBatch, b: TokenBatch, rows_a=slice(None), rows_b=slice(None)) -> None:
    """Equal real tokens, whatever the padding."""
    for mine, theirs in zip(_real(a)[rows_a], _real(b)[rows_b], strict=True):
        assert mine == theirs


def _real(tokens: TokenBatch):
    return [
        list(zip(tokens.ids[i][m].tolist(), tokens.positions[0, i][m].tolist(), strict=True))
        for i, m in enumerate(tokens.mask)
    ]


def test_budgets_units_and_kinds_that_there_are_not(case):
    for settings in ({"budget": 0.0}, {"budget": 1.5}, {"units": "page"}, {"force": ("verbs",)}):
        with pytest.raises(InvalidValue, match="must be"):
            case.method(**settings)
    with pytest.raises(InvalidValue, match="no sink"):
        case.method(budget=Budget(tokens=8, sink=2))


def test_exact_order_kept_one_fate_each_inputs_unchanged(case, model):
    tokens = batch(LONG, SHORT)
    before = snapshot(tokens)
    for units in methods(case):
        ranking = units.rank(tokens, ASK, model=model)
        for budget in (0.1, 0.5, 0.9, 1, 7, 23):
            method = replace(units, budget=budget)
            out = method.fit(tokens, ranking)
            assert free(out) == [method.budget.count(n) for n in free(tokens)]
            assert out.shape[1] == max(free(out))
            survival = out.survival()
            assert set(survival.unique().tolist()) <= {0.0, 1.0}
            assert survival.sum(1).tolist() == free(out)
            for i in range(2):
                kept = survival[i].bool()
                assert torch.equal(tokens.ids[i][kept], out.ids[i][out.mask[i]])
                assert out.positions[0, i][out.mask[i]].tolist() == list(range(int(out.mask[i].sum())))
                assert bool((out.mask[i].long().diff() >= 0).all()), "padding stands on the left"
    for old, new in zip(before, snapshot(tokens), strict=True):
        assert torch.equal(old, new)


def test_full_budget_is_identity(case, model):
    tokens = batch(LONG, SHORT)
    for method in (*case.identities(), *methods(case, budget=10_000)):
        out = method.compress(tokens, ASK, model=model)
        for old, new in zip(snapshot(tokens), snapshot(out), strict=True):
            assert torch.equal(old, new)
        assert text_of(out, 0) == LONG
        assert text_of(out, 1) == SHORT


def test_same_seed_same_result_and_global_random_state_untouched(case, model):
    tokens = batch(LONG, SHORT)
    for method in ends(case):
        state = torch.get_rng_state()
        first = method.compress(tokens, ASK, model=model)
        assert torch.equal(state, torch.get_rng_state())
        torch.manual_seed(7)
        same(first, method.compress(tokens, ASK, model=model))


def test_rows_and_padding_do_not_matter(case, model):
    """A row gives the same whether it stands alone or left-padded beside a longer one."""
    both = batch(LONG, SHORT)
    for method in ends(case):
        together = method.compress(both, ASK, model=model)
        same(together, method.compress(batch(LONG), ASK, model=model), slice(0, 1))
        same(together, method.compress(batch(SHORT), ASK, model=model), slice(1, 2))
        swapped = method.compress(batch(SHORT, LONG), ASK, model=model)
        same(together, swapped, slice(0, 1), slice(1, 2))


def test_short_documents(case, model):
    for text, n in (("", 0), ("a", 1), ("a b", 2), ("   ", 1)):
        for parts in ([row(text)], [row(("template", "<user>"), text, ("question", ASK))], [row(text), row(LONG)]):
            tokens = batch(*parts)
            assert free(tokens)[0] == n
            for method in ends(case):
                out = method.compress(tokens, ASK, model=model)
                assert free(out) == [method.budget.count(k) for k in free(tokens)]


def test_protected_tokens_stay_and_are_not_counted(case, model):
    plain = batch(SHORT, LONG)
    framed = batch(
        row(("template", "<user>\n"), SHORT, ("template", "\n\n"), ("question", ASK), ("template", "<end>")),
        row(("template", "<user>\n"), LONG),
    )
    for method in ends(case):
        out = method.compress(framed, ASK, model=model)
        assert free(out) == [method.budget.count(n) for n in free(plain)]
        for i in range(2):
            protected = framed.protected[i]
            assert bool((out.survival()[i][protected] == 1).all())
        assert text_of(out, 0, kinds=("question",)) == ASK
        for i in range(2):
            assert text_of(out, i) == text_of(method.compress(plain, ASK, model=model), i), "the frame changes nothing"


def test_protected_words_inside_a_document(case, model):
    tokens = batch(row(LONG, protect="rain"), row(LONG, protect="Rain"))
    assert int(tokens.protected.sum()) > 0
    for method in ends(case, budget=5):
        out = method.compress(tokens, ASK, model=model)
        assert free(out) == [5, 5]
        assert bool((out.survival()[tokens.protected] == 1).all())


def test_several_sources(case, model):
    tokens = batch(row(SHORT, ("template", "\n\n"), LONG, "Third."), row(LONG))
    for method in ends(case):
        out = method.compress(tokens, ASK, model=model)
        assert free(out) == [method.budget.count(n) for n in free(tokens)]
        ranking = method.rank(tokens, ASK, model=model)
        for document in ranking.documents:
            for units in (document.tokens, document.words, document.sentences):
                spans = tokens.spans()[0 if document is ranking.documents[0] else 1, document.columns, 0]
                for u in range(len(units)):
                    assert len(set(spans[torch.from_numpy(units.of == u)].tolist())) == 1


def test_compressing_twice(case, model):
    tokens = batch(LONG, SHORT)
    for method in ends(case):
        once = method.compress(tokens, ASK, model=model)
        twice = method.compress(once, ASK, model=model)
        assert free(twice) == [method.budget.count(n) for n in free(once)]
        assert twice.fate.shape[2] == tokens.shape[1]
        assert bool((once.survival() >= twice.survival()).all())
        ranking = method.rank(once, ASK, model=model)
        assert torch.equal(ranking.originals(once).isfinite(), once.survival() > 0)


def test_tokens_without_text_are_refused(case, model):
    tokens = TokenBatch.from_ids(torch.randint(3, 100, (2, 9), generator=torch.Generator().manual_seed(0)))
    with pytest.raises(Incompatible, match=f"{case.entry.name}: every token that may be dropped must come from a text"):
        case.trial().compress(tokens, ASK, model=model)
    protected = replace(tokens, protected=tokens.mask)
    assert case.trial().compress(protected, ASK, model=model) is protected


def test_a_text_is_shortened_without_gradients(case, model):
    """Nothing is kept for a backward pass that nobody asks for; a method that needs one says so on its card."""
    with_gradients = []

    def before(module, _):
        if torch.is_grad_enabled():
            with_gradients.append(type(module).__name__)

    hook = register_module_forward_pre_hook(before)
    try:
        for method in ends(case):
            method.shorten(LONG, model.tokenizer, ASK, model=model)
    finally:
        hook.remove()
    assert not with_gradients


def test_a_text_is_shortened_without_warnings(case, model):
    for method in ends(case):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = method.shorten(LONG, model.tokenizer, ASK, model=model)
        assert found.tokens_out <= method.budget.count(found.tokens_in)


def test_inverted_scores_differ(case, model):
    tokens = batch(LONG)
    for method in methods(case):
        ranking = method.rank(tokens, ASK, model=model)
        best, worst = method.fit(tokens, ranking), method.fit(tokens, ranking.inverted())
        assert free(best) == free(worst)
        assert text_of(best) != text_of(worst)


def test_importance_covers_the_document(case, model):
    tokens = batch(row(("template", "<user>"), LONG), row(SHORT))
    for method in methods(case):
        importance = method.rank(tokens, ASK, model=model).originals(tokens)
        assert importance.shape == tokens.shape
        assert torch.equal(importance.isfinite(), tokens.mask & ~tokens.protected)


def test_a_query_is_asked_for_where_it_is_needed(case, model):
    method = case.trial()
    if not method.needs_query:
        assert free(method.compress(batch(LONG), model=model)) == [method.budget.count(free(batch(LONG))[0])]
        return
    for query in (None, "", "  "):
        with pytest.raises(InvalidValue, match=f"{case.entry.name}: ask must be given"):
            method.compress(batch(LONG), query, model=model)


def test_forced_words_survive(case, model):
    for method in methods(case, force=("numbers", "negations", "names"), budget=0.9):
        text = text_of(method.compress(batch(LONG), ASK, model=model))
        for word in ("1903.", "$1,250.75", "wasn't", "nobody", "Moss"):
            assert word in text
    for method in methods(case, force=("numbers",), budget=1):
        with pytest.raises(InvalidValue, match=r"budget must hold the \d+ tokens of row 0 that force=numbers keeps"):
            method.compress(batch(LONG), ASK, model=model)


def test_two_uses_do_not_see_each_other(case, model):
    method = case.trial()
    a, b = batch(LONG), batch(SHORT)
    ranking_a = method.rank(a, ASK, model=model)
    ranking_b = method.rank(b, "honey", model=model)
    same(method.fit(a, ranking_a), method.compress(a, ASK, model=model))
    same(method.fit(b, ranking_b), method.compress(b, "honey", model=model))
