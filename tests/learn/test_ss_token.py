"""ssToken: what its equations say, signal by signal."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.contract.test_learn import PROMPT, batch, gradient, learn, row
from tests.tinies import STRUCTURES
from tokenry.core.errors import Incompatible, InvalidValue, StorageError
from tokenry.learn.parts.history import AnotherModel, Beforehand, MovingAverage
from tokenry.learn.parts.scale import AsIs, MinMax, Rank
from tokenry.learn.selection.labels import Labelled
from tokenry.learn.selection.loss_table import LossTable
from tokenry.learn.ss_token import SsToken
from tokenry.models.attention import site as sites
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny


@pytest.fixture(params=STRUCTURES)
def model(request):
    return tiny(request.param)


@pytest.fixture
def history(tmp_path):
    """Losses of a model with other weights."""
    file = tmp_path / "history.safetensors"
    LossTable.measure(tiny("llama", seed=7), [batch()]).save(file)
    return Beforehand(file=str(file))


def scored(method, model, tokens, past=None):
    """Scores of the labels of each row."""
    with torch.no_grad(), method(model) as watch:
        watch.prepare([past or tokens])
        outputs = model(**watch.inputs(tokens))
        labelled = Labelled.of(tokens, "test")
        return method.score(labelled.losses(outputs.logits, "test"), labelled, watch)


def by_hand(model, tokens):
    """Losses and attention to the prompt from full maps, row by row, each list from left to right."""
    model.set_attn_implementation("eager")
    losses, attention = [], []
    for i in range(len(tokens["labels"])):
        alone = row(tokens, i)
        with torch.no_grad():
            out = model(input_ids=alone["input_ids"], output_attentions=True, use_cache=False)
        said = alone["labels"][0] != -100
        losses.append(cross_entropy(out.logits[0, :-1], alone["input_ids"][0, 1:], reduction="none")[said[1:]])
        attention.append(out.attentions[-1][0].mean(0)[:, ~said].sum(1)[said])
    model.set_attn_implementation("sdpa")
    return losses, attention


def test_streamed_attention_is_that_of_full_maps(model, monkeypatch):
    tokens = batch()
    expected = by_hand(model, tokens)[1]
    for elements in (1 << 22, 2000):
        monkeypatch.setattr(sites, "PROBABILITIES", elements)
        for found, wanted in zip(scored(SsToken(gamma=0.0), model, tokens), expected, strict=True):
            torch.testing.assert_close(found, wanted)


def test_a_window_hides_what_is_behind_it():
    model = tiny("mistral")
    tokens = batch(((PROMPT, 20), (9, 6)))
    found = scored(SsToken(gamma=0.0), model, tokens)
    for mine, wanted in zip(found, by_hand(model, tokens)[1], strict=True):
        torch.testing.assert_close(mine, wanted)
    # Sixteen columns, itself among them: the last tokens see nothing of the prompt.
    assert found[0][-4:].tolist() == [0.0] * 4


def test_score_is_the_weighted_sum_of_both_signals(model, history):
    tokens = batch()
    past = history.begin(model).losses(Labelled.of(tokens, "test"), {})
    losses, attention = by_hand(model, tokens)
    for gamma in (0.0, 0.3, 1.0):
        found = scored(SsToken(gamma=gamma, history=history), model, tokens)
        for i, score in enumerate(found):
            fallen = past[i][tokens["labels"][i] != -100] - losses[i]
            fallen = (fallen - fallen.min()) / (fallen.max() - fallen.min())
            torch.testing.assert_close(score, gamma * fallen + (1 - gamma) * attention[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rho", [0.01, 0.1, 0.5, 0.55, 0.6, 0.99])
def test_keeps_the_share_of_each_sample_rounded_up(rho, history):
    tokens = batch(((PROMPT, 20), (9, 7)))
    loss = learn(SsToken(rho=rho, gamma=0.0), tiny("llama"), tokens)[0]
    assert loss.token_weights.sum(1).tolist() == [math.ceil(round(rho * n, 9)) for n in (20, 7)]
    assert SsToken(rho=0.55).kept(20) == 11, "a product a little above 11 is 11"


def test_the_best_are_kept_and_their_losses_averaged(model, history):
    tokens = batch()
    method = SsToken(rho=0.4, history=history)
    scores = scored(method, model, tokens)
    (loss,) = learn(method, model, tokens)
    losses = by_hand(model, tokens)[0]
    kept = [score.topk(math.ceil(0.4 * len(score))).indices for score in scores]
    for i, best in enumerate(kept):
        weights = loss.token_weights[i][tokens["labels"][i] != -100]
        assert weights.nonzero()[:, 0].tolist() == sorted(best.tolist())
    mean = torch.cat([all_of[best] for all_of, best in zip(losses, kept, strict=True)]).mean()
    torch.testing.assert_close(loss.value.detach(), mean)


def test_only_kept_tokens_give_gradients(model, history):
    tokens = batch()
    method = SsToken(rho=0.4, history=history)
    with method(model) as watch:
        outputs = model(**watch.inputs(tokens))
        outputs.logits.retain_grad()
        loss = watch.loss(outputs, tokens)
    loss.value.backward()
    learned = outputs.logits.grad.abs().sum(-1)[:, :-1] > 0
    assert torch.equal(learned, loss.token_weights[:, 1:] > 0)


def test_scores_depend_on_the_sample_alone(model, history):
    tokens = batch()
    method = SsToken(history=history)
    both = scored(method, model, tokens)
    for i in range(2):
        alone = row(tokens, i)
        right = {
            name: torch.nn.functional.pad(values, (0, 5), value=-100 if name == "labels" else 0)
            for name, values in alone.items()
        }
        for other in (alone, right):
            torch.testing.assert_close(scored(method, model, other)[0], both[i], rtol=1e-4, atol=1e-5)


def test_a_history_that_is_the_model_leaves_the_choice_to_attention(model):
    tokens = batch()
    alone = [row(tokens, i) for i in range(2)]
    for history in (Beforehand(), MovingAverage()):
        for half in alone:
            # Measured in another batch, losses differ by rounding, which must decide nothing.
            mixed = scored(SsToken(history=history), model, half, past=tokens)[0]
            attention = scored(SsToken(gamma=0.0), model, half)[0]
            torch.testing.assert_close(mixed, attention / 2)


def test_warm_up_counts_samples_in_any_split(history):
    model, tokens = tiny("llama"), batch(((PROMPT, 11), (9, 6)))
    method = SsToken(rho=0.4, gamma=1.0, history=history, warm_up=1)
    attention = learn(SsToken(rho=0.4, gamma=0.0), model, tokens)[0].token_weights
    fallen = learn(SsToken(rho=0.4, gamma=1.0, history=history), model, tokens)[0].token_weights
    assert not torch.equal(attention[0], fallen[0])
    (whole,) = learn(method, model, tokens)
    assert torch.equal(whole.token_weights, torch.stack((attention[0], fallen[1])))
    halves = learn(method, model, row(tokens, 0), row(tokens, 1))
    assert torch.equal(halves[0].token_weights[0], attention[0])
    real = tokens["attention_mask"][1].bool()
    assert torch.equal(halves[1].token_weights[0], fallen[1][real])


def test_watches_only_what_it_needs(monkeypatch, history):
    def refuse(self, *_):
        raise AssertionError("attention was looked at")

    monkeypatch.setattr(sites.Site, "probs", refuse)
    for method in (SsToken(rho=1.0), SsToken(gamma=1.0, history=history)):
        learn(method, tiny("llama"), batch())
    with pytest.raises(AssertionError):
        learn(SsToken(), tiny("llama"), batch())


def test_later_turns_of_the_user_are_prompt(model):
    tokens = row(batch(), 0)
    tokens["labels"][0, 25:28] = -100
    with torch.no_grad():
        found = scored(SsToken(gamma=0.0), model, tokens)[0]
    for mine, wanted in zip([found], by_hand(model, tokens)[1], strict=True):
        torch.testing.assert_close(mine, wanted)


def test_gradient_checkpointing_gives_the_same(model, history):
    tokens, method = batch(), SsToken(history=history)
    (plain,) = learn(method, model, tokens)
    expected = gradient(model)
    model.zero_grad()
    model.train()
    model.activation_checkpointing_enable()
    (again,) = learn(method, model, tokens)
    assert torch.equal(again.token_weights, plain.token_weights)
    torch.testing.assert_close(gradient(model), expected)


def test_moving_average_follows_the_weights():
    model, tokens = tiny("llama"), batch()
    first = LossTable.measure(model, [tokens]).losses(Labelled.of(tokens, "test"), "test")
    past = {decay: MovingAverage(decay=decay).begin(model) for decay in (0.0, 0.8, 1.0)}
    name, weight = next(iter(model.named_parameters()))
    average = weight.detach().clone()
    for step in range(3):
        with torch.no_grad():
            for p in model.parameters():
                p += 0.01 * torch.randn(p.shape, generator=torch.Generator().manual_seed(step))
        average = 0.8 * average + 0.2 * weight.detach()
        for each in past.values():
            each.stepped()
    torch.testing.assert_close(past[0.8].weights[name], average)
    labelled, inputs = Labelled.of(tokens, "test"), {k: v for k, v in tokens.items() if k != "labels"}
    now = LossTable.measure(model, [tokens]).losses(labelled, "test")
    assert not torch.allclose(now, first, atol=1e-3)
    torch.testing.assert_close(past[1.0].losses(labelled, inputs), first)
    torch.testing.assert_close(past[0.0].losses(labelled, inputs), now)
    copy = MovingAverage(decay=0.8).begin(model)
    copy.restore(past[0.8].tensors())
    torch.testing.assert_close(copy.losses(labelled, inputs), past[0.8].losses(labelled, inputs))


def test_another_model_is_a_history(history):
    model, tokens = tiny("llama"), batch()
    other = LanguageModel(tiny("llama", seed=7), None, "other", 512)
    ours = scored(SsToken(history=AnotherModel(model=other)), model, tokens)
    for mine, table in zip(ours, scored(SsToken(history=history), model, tokens), strict=True):
        torch.testing.assert_close(mine, table, rtol=1e-4, atol=1e-5)
    large = LanguageModel(tiny("llama", vocab_size=256), None, "large", 512)
    with pytest.raises(Incompatible, match="vocabulary"):
        SsToken(history=AnotherModel(model=large)).watch(model)


def test_scales():
    values = torch.tensor([3.0, 1.0, 1.0, 100.0])
    assert MinMax().scale(values).tolist() == pytest.approx([2 / 99, 0.0, 0.0, 1.0])
    assert Rank().scale(values).tolist() == pytest.approx([2 / 3, 0.0, 0.0, 1.0])
    assert AsIs().scale(values) is values
    for scale in (MinMax(), Rank()):
        assert scale.scale(torch.tensor([1.0, 1.0005])).tolist() == [0.0, 0.0]
        assert scale.scale(torch.tensor([5.0])).tolist() == [0.0]
        assert scale.scale(torch.zeros(0)).tolist() == []


def test_parts_are_named_in_one_line():
    method = SsToken.from_dict(SsToken(history="moving_average[decay=0.5]", scale="rank").to_dict())
    assert method == SsToken(history=MovingAverage(decay=0.5), scale=Rank())
    with pytest.raises(InvalidValue, match="history must be one of"):
        SsToken(history="rank")


def test_bad_input_is_refused(history, tmp_path):
    model, tokens = tiny("llama"), batch()
    blind = {**tokens, "labels": torch.where(tokens["attention_mask"].bool(), tokens["input_ids"], -100)}
    with pytest.raises(InvalidValue, match="row 0 has none; mask its prompt"):
        learn(SsToken(), model, blind)
    with pytest.raises(InvalidValue, match="row 1 has none"):
        learn(SsToken(), model, {**blind, "labels": torch.stack((tokens["labels"][0], blind["labels"][1]))})
    (loss,) = learn(SsToken(rho=0.99, gamma=1.0, history=MovingAverage()), model, blind)
    assert loss.token_weights.sum(1).tolist() == [31.0, 14.0], "nothing stands before the first token of a row"
    assert loss.token_weights[1, 17] == 0.0
    with pytest.raises(InvalidValue, match="was not measured, as 2 others were"):
        learn(SsToken(history=history), model, batch(seed=1))
    with SsToken()(model) as watch:
        with pytest.raises(InvalidValue, match=r"call watch\.prepare"):
            watch.loss(model(**watch.inputs(tokens)), tokens)
        watch.inputs(tokens)
        with pytest.raises(InvalidValue, match="the model did not run"):
            watch.loss(Said, tokens)
        with pytest.raises(InvalidValue, match="got none; measure them"):
            watch.prepare([])
    for content in (None, b"no tensors"):
        file = tmp_path / "wrong.safetensors"
        if content:
            file.write_bytes(content)
        with pytest.raises(StorageError, match="must be a safetensors file"):
            Beforehand(file=str(file)).begin(model)
    with pytest.raises(StorageError, match="must hold a table"):
        LossTable.of({"keys": torch.zeros(2, 16), "ends": torch.ones(2), "losses": torch.ones(3)}, "file")


class Said:
    """What a model said outside the block."""

    logits = torch.zeros(2, 32, 128)
