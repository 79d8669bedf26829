"""Attention pruning: streamed column sums against whole maps, who reads, windows, and a model left as it was."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from tests.compress.compress_rows import batch, row
from tests.compress.passages import Pieces, compared, held_out, lower_end
from tokenry.compress.attention_pruning import AttentionPruning
from tokenry.compress.scores import scorer as scoring
from tokenry.compress.scores.received import layers, received
from tokenry.compress.scores.scorer import BETWEEN, plain_ids, side_by_side, sliding
from tokenry.core.errors import InvalidValue
from tokenry.models.attention import site as sites
from tokenry.models.attention.site import Site
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny

TEXT = "Honey keeps for years in a closed jar. The car would not start because its battery was flat. Rain fell."
ASK = "Why did the car not start?"
FAMILIES = ("llama", "gpt_neox", "gemma3_text")


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request):
    """A scorer, and the same model with whole maps."""
    return language(tiny(request.param)), eager(request.param)


@pytest.fixture(scope="module")
def model():
    return language(tiny("llama"))


def language(model) -> LanguageModel:
    return LanguageModel(model, Pieces(), "tiny", 512)


@lru_cache
def eager(family: str):
    """The model of the same name, with whole maps."""
    whole = tiny(family)
    whole.set_attn_implementation("eager")
    return whole


def some_ids(n: int) -> torch.Tensor:
    return torch.randint(3, 128, (n,), generator=torch.Generator().manual_seed(n))


@torch.no_grad()
def maps(model, ids: torch.Tensor) -> torch.Tensor:
    """Attention of later tokens (L, H, Q, K) from one eager forward."""
    found = torch.stack(model(input_ids=ids[None], output_attentions=True).attentions)[:, 0]
    return found.tril(-1)


def visible(model, n: int) -> torch.Tensor:
    """Who may see whom among later tokens (L, Q, K)."""
    far = torch.arange(n)[:, None] - torch.arange(n)
    kinds = getattr(model.config, "layer_types", None) or ["full_attention"] * model.config.num_hidden_layers
    reach = [16 if kind == "sliding_attention" else n for kind in kinds]
    return torch.stack([(far > 0) & (far < r) for r in reach])


@pytest.mark.parametrize("slice_", [sites.PROBABILITIES, 500])
def test_streamed_sums_are_those_of_whole_maps(pair, slice_, monkeypatch):
    monkeypatch.setattr(sites, "PROBABILITIES", slice_)
    scorer, whole = pair
    for n, readers in ((2, range(2)), (40, range(40)), (40, range(33, 40)), (41, range(40, 41))):
        ids = some_ids(n)
        sums, counts = received(scorer, ids, layers=layers(scorer), readers=readers)
        rows = slice(readers.start, readers.stop)
        torch.testing.assert_close(sums, maps(whole, ids)[:, :, rows].sum(2), atol=1e-5, rtol=1e-4)
        assert torch.equal(counts, visible(whole, n)[:, rows].sum(1))


def test_no_map_of_all_pairs_exists(model, monkeypatch):
    """Slices stay within their bound, and attention itself asks for none."""
    n, heads, seen, whole = 120, 4, [], sites.PROBABILITIES
    original = Site.probs

    def watched(site, rows=slice(None)):
        found = original(site, rows)
        seen.append(found.numel())
        return found

    monkeypatch.setattr(Site, "probs", watched)
    for bound in (1, 10 * heads * n):
        monkeypatch.setattr(sites, "PROBABILITIES", bound)
        received(model, some_ids(n), layers=layers(model), readers=range(n))
        assert max(seen) <= max(bound, heads * n) < heads * n * n
        seen.clear()
    assert whole == 1 << 22, "16 MiB of 32-bit floats"


def by_formula(whole, ids, gap, question, readers, chosen=slice(None), heads="mean", begin=(1,)):
    """The score of every token of a document from whole maps of one forward."""
    row_ids = torch.cat((torch.tensor(begin, dtype=torch.long), ids, gap, question))
    first, end = len(begin), len(begin) + len(ids)
    rows = {"text": slice(first, end), "question": slice(end + len(gap), None), "last": slice(-1, None)}[readers]
    sums = maps(whole, row_ids)[chosen][:, :, rows, first:end].sum(2)
    counts = visible(whole, len(row_ids))[chosen][:, rows, first:end].sum(1)
    if not begin:
        counts[:, 0] = 0
    each = sums / counts.clamp_min(1)[:, None]
    by_layer = each.mean(1) if heads == "mean" else each.amax(1)
    s = (by_layer * (counts > 0)).sum(0) / (counts > 0).sum(0).clamp_min(1)
    unread = counts.amax(0) == 0
    s[unread] = s[~unread].mean()
    return s


@pytest.mark.parametrize("readers", ["text", "question", "last"])
@pytest.mark.parametrize("heads", ["mean", "max"])
def test_scores_equal_their_formula(pair, readers, heads):
    scorer, whole = pair
    tokens = batch(row(("template", "<user>"), TEXT, ("question", "?")))
    gap, question = (plain_ids(scorer, part if readers != "text" else "") for part in (BETWEEN, ASK))
    for unit in ("token", "word", "sentence"):
        method = AttentionPruning(units=unit, readers=readers, heads=heads, shallowest=0.0, deepest=1.0)
        ranking = method.rank(tokens, ASK, model=scorer)
        document = ranking.documents[0]
        s = by_formula(whole, document.ids, gap, question, readers, heads=heads)
        torch.testing.assert_close(ranking.scores[0], document.units.mean(s), atol=1e-5, rtol=1e-4)


def test_the_last_token_reads_where_nothing_is_asked(model):
    tokens = batch(TEXT)
    found = AttentionPruning(units="token", readers="last", shallowest=0.0, deepest=1.0).rank(tokens, model=model)
    none = torch.zeros(0, dtype=torch.long)
    s = by_formula(eager("llama"), found.documents[0].ids, none, none, "last")
    torch.testing.assert_close(found.scores[0], s, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("shallowest", "deepest", "chosen"),
    [(0.0, 1.0, [0, 1, 2]), (0.0, 0.3, [0]), (0.5, 0.85, [2]), (0.6, 1.0, [2]), (0.99, 1.0, [2]), (0.3, 0.31, [1])],
)
def test_layers_between_two_depths(model, shallowest, deepest, chosen):
    method = AttentionPruning(units="token", readers="text", shallowest=shallowest, deepest=deepest)
    assert method._chosen(layers(model)) == chosen
    ids = some_ids(30)
    none = ids[:0]
    s = by_formula(eager("llama"), ids, none, none, "text", chosen=chosen)
    torch.testing.assert_close(method._received(model, ids, none, none), s, atol=1e-5, rtol=1e-4)


def test_windows_hold_a_text_that_fits_and_count_every_reader_once(model):
    assert list(sliding(7, 7, 3)) == [(0, 0, 7)]
    assert list(sliding(10, 4, 3)) == [(0, 0, 4), (3, 4, 7), (6, 7, 10)]
    assert list(sliding(9, 4, 3)) == [(0, 0, 4), (3, 4, 7), (5, 7, 9)]
    assert list(side_by_side(7, 7)) == [(0, 0, 7)]
    assert list(side_by_side(10, 4)) == [(0, 0, 3), (3, 3, 6), (6, 6, 10)]
    ids, begin = some_ids(100), torch.tensor([1])
    none = ids[:0]
    whole = AttentionPruning(readers="text", window=101, stride=50)._received(model, ids, none, none)
    wide = AttentionPruning(readers="text", window=400, stride=50)._received(model, ids, none, none)
    assert torch.equal(whole, wide)
    method = AttentionPruning(readers="text", window=41, stride=30, shallowest=0.0, deepest=1.0)
    got, able = torch.zeros(100), torch.zeros(100)
    for start, new, end in ((0, 0, 40), (30, 40, 70), (60, 70, 100)):
        a = maps(eager("llama"), torch.cat((begin, ids[start:end]))).mean((0, 1))[1 + new - start :, 1:]
        got[start:end] += a.sum(0)
        able[start:end] += visible(model.model, end - start)[0, new - start :].sum(0)
    expected = got / able.clamp_min(1)
    expected[-1] = expected[:-1].mean()
    torch.testing.assert_close(method._received(model, ids, none, none), expected, atol=1e-5, rtol=1e-4)


def test_the_question_reads_every_token_in_one_window(model):
    ids, gap, question = some_ids(50), some_ids(1), some_ids(6)
    method = AttentionPruning(window=33, stride=20, shallowest=0.0, deepest=1.0)
    parts = [by_formula(eager("llama"), ids[a:b], gap, question, "question") for a, b in ((0, 25), (25, 50))]
    torch.testing.assert_close(method._received(model, ids, gap, question), torch.cat(parts), atol=1e-5, rtol=1e-4)
    with pytest.raises(InvalidValue, match="window must hold the 8 tokens of the question and the begin mark"):
        AttentionPruning(window=8, stride=4)._received(model, ids, gap, question)


def test_without_a_begin_mark_the_first_token_gets_the_mean():
    bare = language(tiny("llama", bos_token_id=None))
    whole = tiny("llama", bos_token_id=None)
    whole.set_attn_implementation("eager")
    ids, gap, question = some_ids(20), some_ids(1), some_ids(4)
    method = AttentionPruning(shallowest=0.0, deepest=1.0)
    found = method._received(bare, ids, gap, question)
    s = by_formula(whole, ids, gap, question, "question", begin=())
    torch.testing.assert_close(found, s, atol=1e-5, rtol=1e-4)
    assert float(found[0]) == pytest.approx(float(found[1:].mean()))


def test_another_tokenizer_that_cuts_alike_finds_the_same(model, monkeypatch):
    monkeypatch.setattr(scoring, "_load", lambda name: language(tiny("llama")))
    for readers in ("text", "question", "last"):
        ours = AttentionPruning(readers=readers).rank(batch(TEXT), ASK, model=model).scores[0]
        theirs = AttentionPruning(readers=readers, scorer="other").rank(batch(TEXT), ASK, model=model).scores[0]
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_bfloat16_finds_nearly_the_same(model):
    half = language(tiny("llama").bfloat16())
    ours, theirs = (AttentionPruning().rank(batch(TEXT), ASK, model=m).scores[0] for m in (model, half))
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0.1)


def test_a_question_is_needed_where_it_reads(model):
    with pytest.raises(InvalidValue, match="attention_pruning: ask must be given"):
        AttentionPruning().compress(batch(TEXT), model=model)
    for readers in ("text", "last"):
        AttentionPruning(readers=readers).compress(batch(TEXT), model=model)
    with pytest.raises(InvalidValue, match="scorer must be named where no model answers"):
        AttentionPruning().compress(batch(TEXT), ASK)
    with pytest.raises(InvalidValue, match=r"shallowest must be below deepest=0\.5"):
        AttentionPruning(shallowest=0.5, deepest=0.5)
    with pytest.raises(InvalidValue, match="stride must be below window=64"):
        AttentionPruning(window=64, stride=64)


def test_the_model_is_left_as_it_was(monkeypatch):
    scorer = language(tiny("llama").train())
    before = condition(scorer.model)
    AttentionPruning().compress(batch(TEXT), ASK, model=scorer)
    assert condition(scorer.model) == before

    def fails(site, rows=slice(None)):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Site, "probs", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        AttentionPruning().compress(batch(TEXT), ASK, model=scorer)
    assert condition(scorer.model) == before


def condition(model) -> list:
    """What a method must not change."""
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()]
    parameters = [(p.requires_grad, p.grad is None, float(p.detach().sum())) for p in model.parameters()]
    return [hooks, parameters, [m.training for m in model.modules()], model.config._attn_implementation]


@pytest.mark.claim
@pytest.mark.slow
def test_half_of_the_words_keep_right_answers_likelier_than_chance(smollm2):
    """Sixteen questions over passages of 300 tokens, on documents that chose no setting."""
    found = compared(AttentionPruning(budget=0.5), smollm2, held_out())
    assert lower_end(found["best"] - found["random"]) > 0.3
    assert lower_end(found["best"] - found["worst"]) > 1.0
