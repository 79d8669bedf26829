"""Concept-aware fine-tuning: heads say what they should, count what they may, and leave the model as it was."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import TrainingArguments

from tests.contract.test_learn import batch, gradient, learn, row
from tests.learn.test_fit import examples, language, quick
from tokenry.core.errors import Incompatible, InvalidValue, StorageError, UnsupportedModel
from tokenry.learn.concept_aware import ConceptAware
from tokenry.learn.concepts.heads import ConceptHeads
from tokenry.learn.training.examples import collate
from tokenry.learn.training.fit import fit
from tokenry.learn.training.trainer import ObjectiveTrainer
from tokenry.models.files.tiny import tiny

FAMILIES = ("llama", "gemma3_text", "gpt2", "gpt_neox", "opt", "qwen3", "phi3")


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_without_weight_gradients_are_those_of_tuning_bit_for_bit(family):
    model, tokens = tiny(family), batch()
    learn(ConceptAware(weight=0.0), model, tokens)
    found = gradient(model).clone()
    model.zero_grad()
    logits = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], use_cache=False).logits
    wanted = tokens["labels"][:, 1:] != -100
    losses = cross_entropy(logits[:, :-1][wanted].float(), tokens["labels"][:, 1:][wanted], reduction="none")
    (losses.sum() / int(wanted.sum())).backward()
    assert torch.equal(gradient(model), found)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_head_is_the_model_on_labels_further_on(family):
    """The closed form: head k that is a copy says the next token, so CE_k is CE_0 with labels k places further on."""
    model, tokens = tiny(family), batch()
    (loss,) = learn(ConceptAware(heads=3, weight=1.0, decay=0.5), model, tokens)
    logits = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits
    for k in range(4):
        shifted = torch.full_like(tokens["labels"], -100)
        shifted[:, : shifted.shape[1] - k] = tokens["labels"][:, k:]
        shifted[:, 1:][tokens["attention_mask"][:, :-1] == 0] = -100
        expected = 0.5**k * cross_entropy(logits[:, :-1].flatten(0, 1), shifted[:, 1:].flatten())
        torch.testing.assert_close(loss.parts["next" if k == 0 else f"ahead_{k}"], expected)


def test_a_head_is_asked_only_within_its_row():
    tokens = batch(((1, 3), (4, 1)))
    method = ConceptAware(heads=4)
    assert method.count(tokens) == {"tokens": 4, "ahead_1": 3, "ahead_2": 2, "ahead_3": 1, "ahead_4": 0}
    (loss,) = learn(method, tiny("llama"), tokens)
    assert loss.parts["ahead_4"] == 0
    assert torch.isfinite(loss.value)
    assert method.count(row(tokens, 0)) == {"tokens": 3, "ahead_1": 2, "ahead_2": 1, "ahead_3": 0, "ahead_4": 0}


def test_the_weight_fades():
    model, tokens = tiny("llama"), batch()
    for fade, expected in (("reverse_sine", math.sin(math.pi / 2 * 0.75)), ("none", 1.0)):
        with ConceptAware(heads=1, weight=0.5, fade=fade)(model) as watch:
            said = []
            for watch.done in (0.0, 0.25):
                said.append(watch.loss(model(**watch.inputs(tokens)), tokens).parts["ahead_1"])
        assert float(said[1] / said[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rank", [0, 4])
def test_the_tuned_model_is_as_it_was(rank, tmp_path):
    lm, other = language(), language()
    names = {name: p.shape for name, p in lm.model.named_parameters()}
    fitted = fit(ConceptAware(heads=2, weight=0.3), lm, examples(lm), schedule=quick(rank=rank), progress=False)
    plain = fit(ConceptAware(weight=0.0), other, examples(other), schedule=quick(rank=rank), progress=False)
    assert sum(p.numel() for n, p in fitted.learned.named_parameters() if "lora" in n) == 0
    assert plain.learned is None
    for one, folder in ((fitted, "aware"), (plain, "plain")):
        one.language.model.save_pretrained(tmp_path / folder)
    files = [{f.name: f.stat().st_size for f in (tmp_path / d).iterdir()} for d in ("aware", "plain")]
    assert files[0] == files[1]
    tuned = lm.model if rank == 0 else fitted.language.model.merge_and_unload()
    assert {name: p.shape for name, p in tuned.named_parameters()} == names
    assert type(tuned) is type(other.model if rank == 0 else plain.language.model.merge_and_unload())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in tuned.modules())


def test_heads_are_trained_alone_and_used_again(tmp_path):
    lm = language()
    before = [p.clone() for p in lm.model.parameters()]
    alone = ConceptAware(heads=2, stage="heads")
    fitted = fit(alone, lm, examples(lm), schedule=quick(epochs=8, rank=0), progress=False)
    assert fitted.losses[-1] < fitted.losses[0] - 0.2
    assert all(torch.equal(a, b) for a, b in zip(lm.model.parameters(), before, strict=True))
    assert all(p.requires_grad and p.grad is None for p in lm.model.parameters())
    fitted.learned.save(tmp_path)
    with ConceptAware(heads=2, folder=str(tmp_path))(lm.model) as watch:
        mine, theirs = watch.heads.state_dict(), fitted.learned.state_dict()
        assert all(torch.equal(mine[name], t) for name, t in theirs.items())
    resting = ConceptAware(heads=2, folder=str(tmp_path), learns=False)
    again = fit(resting, lm, examples(lm), schedule=quick(rank=0), progress=False)
    assert again.learned is None
    for wrong, said in (
        (ConceptAware(heads=3, folder=str(tmp_path)), "does not fit"),
        (ConceptAware(folder="no"), "must hold concept_heads"),
    ):
        with pytest.raises(StorageError, match=said), wrong(lm.model):
            pass


def test_copies_of_another_layer():
    model = tiny("gemma3_text")
    with ConceptAware(heads=1, weight=1.0, copied="second_last")(model) as watch:
        tokens = batch()
        loss = watch.loss(model(**watch.inputs(tokens)), tokens)
        own = model.model.layers[-2].state_dict()
        assert all(torch.equal(t, own[name]) for name, t in watch.heads.layers[0].state_dict().items())
    assert torch.isfinite(loss.value)
    assert loss.parts["ahead_1"] > 0


def test_what_cannot_be_done_is_refused(tmp_path):
    with pytest.raises(UnsupportedModel, match="run again, must give its logits"):
        ConceptHeads(tiny("gemma2", final_logit_softcapping=0.01), 1, "last")
    with pytest.raises(UnsupportedModel, match="causal model of one list"):
        ConceptHeads(tiny("bert"), 1, "last")
    model, tokens = tiny("llama"), batch()
    with ConceptAware(heads=1)(model) as watch:
        outputs = model(**watch.inputs(tokens))
        watch.inputs(tokens)
        with pytest.raises(InvalidValue, match="did not run"):
            watch.loss(outputs, tokens)
    lm = language()
    arguments = TrainingArguments(str(tmp_path), max_steps=1, report_to=[], remove_unused_columns=False, use_cpu=True)
    settings = {"model": lm.model, "args": arguments, "train_dataset": examples(lm), "data_collator": collate}
    with pytest.raises(Incompatible, match="nothing may learn beside the model"):
        ObjectiveTrainer(objective=ConceptAware(heads=1), **settings).train()
    ObjectiveTrainer(objective=ConceptAware(heads=1, learns=False), **settings).train()
