"""Saliency pruning: gradient times input, completeness along the way, windows, and a model left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.compress.compress_rows import batch, row
from tests.compress.passages import Pieces, compared, held_out, lower_end
from tests.compress.test_attention_pruning import condition
from tokenry.compress import saliency_pruning
from tokenry.compress.saliency_pruning import SaliencyPruning, _Loss
from tokenry.compress.scores import scorer as scoring
from tokenry.compress.scores.information import information
from tokenry.compress.scores.integrated_gradients import attributions, radau
from tokenry.compress.scores.scorer import BETWEEN, plain_ids
from tokenry.core.errors import InvalidValue
from tokenry.models.attention.rest import at_rest
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny

TEXT = "Honey keeps for years in a closed jar. The car would not start because its battery was flat. Rain fell."
ASK = "Why did the car not start?"
NONE = torch.zeros(0, dtype=torch.long)


@pytest.fixture(scope="module", params=["llama", "gpt_neox"])
def model(request):
    return language(tiny(request.param))


def language(model) -> LanguageModel:
    return LanguageModel(model, Pieces(), "tiny", 512)


def some_ids(n: int) -> torch.Tensor:
    return torch.randint(3, 128, (n,), generator=torch.Generator().manual_seed(n))


def test_radau_places_are_those_of_the_tables():
    for steps, places, weights in (
        (1, [1], [1]),
        (2, [1 / 3, 1], [3 / 4, 1 / 4]),
        (3, [(4 - 6**0.5) / 10, (4 + 6**0.5) / 10, 1], [(16 - 6**0.5) / 36, (16 + 6**0.5) / 36, 1 / 9]),
    ):
        np.testing.assert_allclose(radau(steps), (places, weights), atol=1e-14)
    for steps in (4, 16, 64):
        at, weight = radau(steps)
        assert all(abs(weight @ at**d - 1 / (d + 1)) < 1e-12 for d in range(2 * steps - 1))
        assert at.min() > 0
        assert at.max() == 1


def test_a_linear_loss_is_complete_at_any_number_of_steps():
    x, w = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    for steps in (1, 2, 9):
        torch.testing.assert_close(attributions(lambda e: (w * e).sum(), x, steps), (w * x).sum(-1))


def test_one_step_is_gradient_times_input_and_more_are_right_for_polynomials():
    x, w = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    cubic = lambda e: ((w * e).sum() ** 3) / 10 + (e**2).sum()  # noqa: E731
    point = x.clone().requires_grad_()
    gradient = torch.autograd.grad(cubic(point), point)[0]
    assert torch.equal(attributions(cubic, x, 1), (x * gradient).sum(-1))
    whole = float(cubic(x) - cubic(torch.zeros_like(x)))
    assert float(attributions(cubic, x, 2).sum()) == pytest.approx(whole, rel=1e-5)
    assert abs(float(attributions(cubic, x, 1).sum()) - whole) > 0.5


def plain_gradient(model: LanguageModel, row_ids: torch.Tensor, targets: slice) -> torch.Tensor:
    """e_j · d(-log p of the targets) / d e_j of a whole row, taken at the output of the embedding."""
    held = []

    def keep(_, __, out):
        held.append(out.requires_grad_())

    hook = model.model.get_input_embeddings().register_forward_hook(keep)
    with torch.enable_grad():
        logits = model.model(row_ids[None]).logits[0]
        logp = logits[:-1].log_softmax(-1).gather(1, row_ids[1:, None])[:, 0]
        nll = -torch.cat((torch.zeros(1), logp))[targets].sum()
        (gradient,) = torch.autograd.grad(nll, held[0])
    hook.remove()
    return (gradient[0] * held[0][0]).sum(-1).detach()


@pytest.mark.parametrize("unit", ["token", "word", "sentence"])
def test_one_step_scores_are_absolute_gradient_times_input(model, unit):
    tokens = batch(row(("template", "<user>"), TEXT, ("question", "?")))
    document = SaliencyPruning(units=unit, target="text").rank(tokens, model=model).documents[0]
    n, gap = len(document.ids), plain_ids(model, BETWEEN)
    ask, answer = plain_ids(model, ASK), plain_ids(model, "Flat battery")
    head = torch.cat((torch.tensor([1]), document.ids))
    for settings, after, told in (
        ({"target": "text"}, NONE, n),
        ({}, torch.cat((gap, ask)), len(ask)),
        ({"reference": "Flat battery"}, torch.cat((gap, ask, gap, answer)), len(answer)),
    ):
        whole = torch.cat((head, after))
        expected = plain_gradient(model, whole, slice(len(whole) - told, None))[1 : 1 + n].abs()
        found = SaliencyPruning(units=unit, **settings).rank(tokens, ASK, model=model).scores[0]
        torch.testing.assert_close(found, document.units.mean(expected), atol=1e-6, rtol=1e-3)


def test_a_reference_needs_no_question(model):
    found = SaliencyPruning(units="token", reference="Flat").rank(batch(TEXT), model=model)
    ids, answer = found.documents[0].ids, plain_ids(model, "Flat")
    whole = torch.cat((torch.tensor([1]), ids, plain_ids(model, BETWEEN), answer))
    expected = plain_gradient(model, whole, slice(-len(answer), None))[1 : 1 + len(ids)].abs()
    torch.testing.assert_close(found.scores[0], expected, atol=1e-6, rtol=1e-3)


def test_the_loss_of_a_text_is_its_information(model):
    ids = some_ids(40)
    with at_rest(model.model):
        loss = _Loss(model, torch.cat((torch.tensor([1]), ids)), 1, 41, 40)
        value = float(loss(loss.embeddings))
    assert value == pytest.approx(float(information(model, ids, window=64, stride=32).sum()), rel=1e-5)


@pytest.mark.parametrize(("family", "goal"), [("llama", 0), ("gpt_neox", 6)])
def test_attributions_sum_to_the_loss_that_is_explained(family, goal, monkeypatch):
    """The more exactly the more steps there are; over several windows too."""
    model, ids, question = language(tiny(family)), some_ids(20), some_ids(50)[:goal]
    losses: list[_Loss] = []

    class Watched(_Loss):
        def __init__(self, *given):
            super().__init__(*given)
            losses.append(self)

    monkeypatch.setattr(saliency_pruning, "_Loss", Watched)

    def error(steps, window):
        losses.clear()
        method = SaliencyPruning(steps=steps, window=window, stride=15)
        with torch.no_grad():
            found = method.attributions(model, ids, question[:1], question[1:])
            change = sum(float(f(f.embeddings) - f(torch.zeros_like(f.embeddings))) for f in losses)
        assert len(losses) == {128: 1, 20: 2}[window]
        return abs(float(found.sum()) - change) / abs(change)

    errors = [error(steps, 128) for steps in (8, 16, 48)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3
    assert error(48, 20) < 1e-2


def test_a_text_that_fits_is_read_at_once_and_a_longer_one_in_windows(model):
    ids = some_ids(60)
    whole = SaliencyPruning(window=61, stride=30).attributions(model, ids, NONE, NONE)
    assert torch.equal(whole, SaliencyPruning(window=400, stride=30).attributions(model, ids, NONE, NONE))
    parts = SaliencyPruning(window=31, stride=20).attributions(model, ids, NONE, NONE)
    expected = torch.zeros(60)
    for start, new, end in ((0, 0, 30), (20, 30, 50), (30, 50, 60)):
        part = torch.cat((torch.tensor([1]), ids[start:end]))
        expected[start:end] += plain_gradient(model, part, slice(1 + new - start, None))[1:]
    torch.testing.assert_close(parts, expected, atol=1e-6, rtol=1e-3)
    gap, question = some_ids(1), some_ids(5)
    halves = SaliencyPruning(window=37, stride=20).attributions(model, ids, gap, question)
    expected = []
    for start, end in ((0, 30), (30, 60)):
        part = torch.cat((torch.tensor([1]), ids[start:end], gap, question))
        expected.append(plain_gradient(model, part, slice(-5, None))[1:31])
    torch.testing.assert_close(halves, torch.cat(expected), atol=1e-6, rtol=1e-3)


def test_without_a_begin_mark_the_first_token_is_given():
    bare = language(tiny("llama", bos_token_id=None))
    ids = some_ids(9)
    found = SaliencyPruning().attributions(bare, ids, NONE, NONE)
    torch.testing.assert_close(found, plain_gradient(bare, ids, slice(1, None)), atol=1e-6, rtol=1e-3)
    assert torch.equal(SaliencyPruning().attributions(bare, ids[:1], NONE, NONE), torch.zeros(1))


def test_the_model_is_left_as_it_was(monkeypatch):
    scorer = language(tiny("llama", attention_dropout=0.5).train())
    scorer.model.model.layers[0].eval()
    for p in list(scorer.model.parameters())[::2]:
        p.requires_grad_(False)
    before = condition(scorer.model)
    sure = [SaliencyPruning().rank(batch(TEXT), ASK, model=scorer).scores[0] for _ in range(2)]
    assert torch.equal(*sure), "no dropout"
    assert condition(scorer.model) == before
    assert torch.is_grad_enabled()

    def fails(*_, **__):
        assert not any(p.requires_grad for p in scorer.model.parameters())
        assert not scorer.model.training
        raise RuntimeError("out of memory")

    monkeypatch.setattr(saliency_pruning, "cross_entropy", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        SaliencyPruning().compress(batch(TEXT), ASK, model=scorer)
    assert condition(scorer.model) == before
    assert torch.is_grad_enabled()


def test_frozen_models_and_callers_without_gradients_change_nothing(model):
    expected = SaliencyPruning(steps=2).rank(batch(TEXT), ASK, model=model).scores[0]
    frozen = language(tiny(model.model.config.model_type).requires_grad_(False))
    with torch.inference_mode():
        found = SaliencyPruning(steps=2).rank(batch(TEXT), ASK, model=frozen).scores[0]
        assert torch.is_inference_mode_enabled()
    torch.testing.assert_close(found, expected)


def test_bfloat16_finds_nearly_the_same(model):
    half = language(tiny(model.model.config.model_type).bfloat16())
    ours, theirs = (SaliencyPruning(units="token").rank(batch(TEXT), ASK, model=m).scores[0] for m in (model, half))
    assert float(torch.corrcoef(torch.stack((ours, theirs)))[0, 1]) > 0.98


def test_another_tokenizer_that_cuts_alike_finds_the_same(model, monkeypatch):
    monkeypatch.setattr(scoring, "_load", lambda name: model)
    other = language(tiny("qwen3"))
    for settings in ({}, {"target": "text"}, {"reference": "Flat"}):
        ours = SaliencyPruning(**settings).rank(batch(TEXT), ASK, model=model).scores[0]
        theirs = SaliencyPruning(scorer="other", **settings).rank(batch(TEXT), ASK, model=other).scores[0]
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_a_question_is_needed_where_it_is_explained(model):
    with pytest.raises(InvalidValue, match="saliency_pruning: ask must be given"):
        SaliencyPruning().compress(batch(TEXT), model=model)
    SaliencyPruning(target="text").compress(batch(TEXT), model=model)
    with pytest.raises(InvalidValue, match="scorer must be named where no model answers"):
        SaliencyPruning().compress(batch(TEXT), ASK)
    with pytest.raises(InvalidValue, match="stride must be below window=64"):
        SaliencyPruning(window=64, stride=64)
    with pytest.raises(InvalidValue, match=r"window must hold the \d+ tokens of the question"):
        SaliencyPruning(window=6, stride=4).compress(batch(TEXT), ASK, model=model)
    with pytest.raises(InvalidValue, match="steps must be at least 1"):
        SaliencyPruning(steps=0)


@pytest.mark.claim
@pytest.mark.slow
def test_half_of_the_words_keep_right_answers_likelier_than_chance(smollm2):
    """Sixteen questions over passages of 300 tokens, on documents that chose no setting."""
    found = compared(SaliencyPruning(budget=0.5), smollm2, held_out())
    assert lower_end(found["best"] - found["random"]) > 0.0
    assert lower_end(found["best"] - found["worst"]) > 0.3
