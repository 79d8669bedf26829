"""ELECTRA: what is hidden, what is drawn, what is judged, and whom each loss reaches."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import AutoConfig, AutoModelForMaskedLM

from tests.contract.test_learn import batch
from tests.learn.test_fit import quick
from tokenry.core.errors import InvalidValue, StorageError
from tokenry.learn.electra import Electra
from tokenry.learn.parts.generator import Oracle, Small, Uniform, Unigram
from tokenry.learn.selection.labels import Labelled
from tokenry.learn.training.beside import save_beside
from tokenry.learn.training.examples import Example, collate
from tokenry.learn.training.fit import fit
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny

SMALL = Small(layers=1)
IDS = 40


def encoder(seed=0):
    config = AutoConfig.for_model(
        "bert", vocab_size=IDS, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForMaskedLM.from_config(config).eval()


def rows(count=4, length=20, seed=0):
    """Samples that end in padding, with marks at both ends, which have no label."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, IDS, (count, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, length - 6 :] = 0
    ids[:, 0] = 1
    labels = torch.where(mask.bool(), ids, -100)
    labels[:, 0] = labels[0, -1] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def read(method, model, tokens):
    with method(model) as watch:
        watch.prepare([tokens])
        given = watch.inputs(tokens)
        loss = watch.loss(model(**given), tokens)
        return given["input_ids"], watch.asked, loss, watch


def test_a_share_is_hidden_and_marks_and_padding_never():
    tokens = rows()
    ids, asked, loss, _ = read(Electra(generator=Uniform(), share=0.5), encoder(), tokens)
    counted = tokens["labels"] != -100
    assert asked.hidden.sum(1).tolist() == [round(0.5 * n) for n in counted.sum(1).tolist()]
    assert not bool((asked.hidden & ~counted).any())
    assert torch.equal(ids[~asked.hidden], tokens["input_ids"][~asked.hidden])
    assert torch.equal(loss.token_weights.bool(), counted)
    assert torch.equal(asked.replaced, ids != tokens["input_ids"])
    assert (tokens["input_ids"] == rows()["input_ids"]).all()


def test_an_oracle_leaves_nothing_to_find():
    model, tokens = encoder(), rows()
    ids, asked, _, _ = read(Electra(generator=Oracle(), weight=1.0), model, tokens)
    assert torch.equal(ids, tokens["input_ids"])
    assert not bool(asked.replaced.any()), "what was guessed rightly counts as the original"
    examples = [Example(i[m.bool()], la[m.bool()]) for i, m, la in zip(*tokens.values(), strict=True)]
    lm = LanguageModel(encoder(), None, "tiny", 512)
    method = Electra(generator=Oracle(), weight=1.0)
    losses = fit(method, lm, examples, schedule=quick(epochs=20, rank=0, rate=3e-3), progress=False).losses
    assert losses[-1] < 0.1 * losses[0]


def test_a_uniform_generator_replaces_as_many_as_it_must():
    tokens = rows(count=400, length=41)
    counted = (tokens["labels"] != -100).sum()
    _, asked, _, _ = read(Electra(generator=Uniform(), share=0.15), encoder(), tokens)
    assert float(asked.hidden.sum() / counted) == pytest.approx(0.15, abs=0.001)
    assert float(asked.replaced.sum() / counted) == pytest.approx(0.15 * (1 - 1 / IDS), abs=0.002)


def test_unigrams_are_drawn_as_often_as_they_stand_there():
    tokens = rows(count=200)
    tokens["input_ids"][:, 1:] = torch.where(tokens["input_ids"][:, 1:] < 25, 7, 9)
    tokens["labels"] = torch.where(tokens["labels"] == -100, -100, tokens["input_ids"])
    ids, asked, _, _ = read(Electra(generator=Unigram(), share=0.5), encoder(), tokens)
    drawn = ids[asked.hidden]
    share = float((tokens["labels"] == 7).sum() / (tokens["labels"] != -100).sum())
    assert float((drawn == 7).float().mean()) == pytest.approx(share, abs=0.05)


def test_the_losses_in_closed_form():
    model, tokens = encoder(), rows()
    _, asked, loss, watch = read(Electra(generator=SMALL, weight=3.0), model, tokens)
    counted = tokens["labels"] != -100
    logits = loss_logits(watch, tokens, asked.hidden)
    assert logits.shape == (int(asked.hidden.sum()), IDS)
    expected = cross_entropy(logits, tokens["input_ids"][asked.hidden])
    torch.testing.assert_close(loss.parts["generator"], expected.detach())
    with Electra(generator=SMALL, weight=3.0)(model) as again:
        outputs = model(**again.inputs(tokens), output_hidden_states=True)
        judged = again.detector.judge(torch.nn.functional.gelu(again.detector.dense(outputs.hidden_states[-1])))
        expected = 3 * binary_cross_entropy_with_logits(judged[counted].squeeze(-1), asked.replaced[counted].float())
        torch.testing.assert_close(loss.parts["model"], expected.detach())
    torch.testing.assert_close(loss.value.detach(), loss.parts["generator"] + loss.parts["model"])


def loss_logits(watch, tokens, hidden):
    return watch.guesser.logits(Labelled.of(tokens, "test"), hidden)


def test_without_weight_it_is_the_generators_masked_language_modelling():
    model, tokens = encoder(), rows()
    _, asked, loss, watch = read(Electra(generator=SMALL, weight=0.0), model, tokens)
    expected = cross_entropy(loss_logits(watch, tokens, asked.hidden), tokens["input_ids"][asked.hidden])
    torch.testing.assert_close(loss.value, expected)
    assert set(loss.parts) == {"generator"}


def test_the_judgement_reaches_the_generator_by_the_embeddings_only():
    found = {}
    for weight in (0.0, 50.0):
        model, tokens = encoder(), rows()
        _, _, loss, watch = read(Electra(generator=SMALL, weight=weight), model, tokens)
        loss.value.backward()
        own = [p.grad.clone() for p in watch.guesser.module.parameters()]
        found[weight] = own, model.get_input_embeddings().weight.grad.clone()
    assert all(torch.equal(a, b) for a, b in zip(found[0.0][0], found[50.0][0], strict=True))
    assert not torch.equal(found[0.0][1], found[50.0][1])


@pytest.mark.parametrize("task", ["mlm", "replace_mlm", "all_tokens_mlm", "detect_hidden"])
def test_the_other_tasks(task):
    model, tokens = encoder(), rows()
    method = Electra(generator=Uniform(), task=task, mark=3, weight=1.0, share=0.4)
    ids, asked, loss, watch = read(method, model, tokens)
    counted = tokens["labels"] != -100
    judged = counted if task == "all_tokens_mlm" else asked.hidden
    assert torch.equal(loss.token_weights.bool(), judged)
    if task == "mlm":
        assert set(ids[asked.hidden].tolist()) == {3}
        assert watch.learned is None
    if task != "detect_hidden":
        logits = model(input_ids=ids, attention_mask=tokens["attention_mask"]).logits
        torch.testing.assert_close(loss.value, cross_entropy(logits[judged], tokens["input_ids"][judged]))


def test_choices_depend_on_the_sample_the_seed_and_the_progress():
    model, tokens = encoder(), rows()
    with Electra(generator=Uniform(), share=0.4)(model) as watch:
        first = watch.inputs(tokens)["input_ids"]
        assert torch.equal(watch.inputs(tokens)["input_ids"], first)
        one = {name: values[2:3] for name, values in tokens.items()}
        assert torch.equal(watch.inputs(one)["input_ids"][0], first[2])
        watch.done = 0.5
        assert not torch.equal(watch.inputs(tokens)["input_ids"], first)
    other = read(Electra(generator=Uniform(), share=0.4, seed=1), model, tokens)[0]
    assert not torch.equal(other, first)


def test_it_learns_and_leaves_the_model_alone(tmp_path):
    generator = torch.Generator().manual_seed(0)
    lines = [torch.arange(5, 25) + int(torch.randint(0, 15, (), generator=generator)) for _ in range(24)]
    examples = [Example(line, line.clone()) for line in lines]
    lm = LanguageModel(encoder(), None, "tiny", 512)
    names = {name for name, _ in lm.model.named_parameters()}
    method = Electra(generator=SMALL, weight=5.0)
    fitted = fit(method, lm, examples, schedule=quick(epochs=30, rank=0, rate=3e-3), progress=False)
    assert sum(fitted.losses[-6:]) < 0.7 * sum(fitted.losses[:6])
    assert {name for name, _ in lm.model.named_parameters()} == names
    assert not any(m._forward_hooks for m in lm.model.modules())
    assert set(dict(fitted.learned.named_children())) == {"generator", "detector"}
    save_beside(fitted.learned["generator"], tmp_path, "generator")
    frozen = Electra(generator=Small(layers=1, folder=str(tmp_path), learns=False))
    with frozen(lm.model) as watch:
        assert set(dict(watch.learned.named_children())) == {"detector"}
        own = fitted.learned["generator"].state_dict()
        assert all(torch.equal(t, own[name]) for name, t in watch.guesser.encoder.state_dict().items())
    with pytest.raises(StorageError, match="must hold generator"), Electra(generator=Small(folder="no"))(lm.model):
        pass


def test_replaced_tokens_are_found():
    """Lines count upwards, and what was replaced breaks the count; other tokens are replaced than before."""
    generator = torch.Generator().manual_seed(0)
    lines = [(torch.arange(20) + int(torch.randint(0, 35, (), generator=generator))) % 35 + 5 for _ in range(64)]
    examples = [Example(line, line.clone()) for line in lines]
    lm, method = LanguageModel(encoder(), None, "tiny", 512), Electra(generator=Uniform())
    schedule = quick(epochs=80, batch=8, rows=8, rank=0, rate=3e-3)
    fitted = fit(method, lm, examples, schedule=schedule, progress=False)
    tokens = collate(examples)
    with method(lm.model) as watch, torch.no_grad():
        watch.detector.load_state_dict(fitted.learned["detector"].state_dict())
        watch.done = 0.3333
        lm.model(**watch.inputs(tokens))
        judged = Labelled.of(tokens, "test").counted
        truth, scores = watch.asked.replaced[judged], watch.detector(judged)
    pairs = scores[truth].unsqueeze(1) - scores[~truth].unsqueeze(0)
    assert float((pairs > 0).float().mean()) > 0.7


def test_a_causal_model_learns_it_too():
    model, tokens = tiny("llama"), batch()
    _, _, loss, _ = read(Electra(generator=SMALL), model, tokens)
    loss.value.backward()
    assert torch.isfinite(loss.value)


def test_what_cannot_be_done_is_refused():
    model, tokens = encoder(), rows()
    with pytest.raises(InvalidValue, match="mark must be an id"):
        Electra(task="mlm")
    labels = tokens["labels"]
    shifted = {**tokens, "labels": torch.where(labels == -100, -100, labels.roll(1, 1).clamp_min(5))}
    with pytest.raises(InvalidValue, match="ids themselves"), Electra(generator=SMALL)(model) as watch:
        watch.inputs(shifted)
    with Electra(generator=SMALL)(model) as watch:
        outputs = model(input_ids=tokens["input_ids"])
        with pytest.raises(InvalidValue, match=r"must read watch.inputs\(batch\)"):
            watch.loss(outputs, tokens)
        outputs = model(**watch.inputs(tokens))
        watch.inputs(tokens)
        with pytest.raises(InvalidValue, match="did not run"):
            watch.loss(outputs, tokens)
    with pytest.raises(InvalidValue, match="mark must be an id below the model's 40; got 40"):
        Electra(task="mlm", mark=IDS).watch(model)
    outside = {**tokens, "input_ids": tokens["input_ids"] + IDS}
    outside["labels"] = torch.where(labels == -100, -100, outside["input_ids"])
    with pytest.raises(InvalidValue, match="ids below the model's 40"):
        Electra(generator=Unigram()).watch(model).prepare([outside])
