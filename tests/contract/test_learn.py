"""Every objective, found through the registry: what any of them must hold to."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.contract.cases import cases
from tests.tinies import STRUCTURES
from tokenry.core.errors import InvalidValue
from tokenry.learn.base import Objective
from tokenry.models.files.tiny import tiny

METHODS = cases("learn")
PROMPT = 21
"""Longer than the window of the layers that have one."""


@pytest.fixture(params=METHODS, ids=[c.name for c in METHODS])
def case(request):
    return request.param


@pytest.fixture(params=STRUCTURES)
def model(request):
    """A model of its own for each test: gradients stay in it."""
    return tiny(request.param)


def batch(rows=((PROMPT, 11), (9, 6)), seed=0):
    """Rows of a prompt and a response each, padded on the left."""
    generator = torch.Generator().manual_seed(seed)
    width = max(map(sum, rows))
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for i, (prompt, response) in enumerate(rows):
        own = torch.randint(3, 127, (prompt + response,), generator=generator)
        ids[i, width - len(own) :], mask[i, width - len(own) :] = own, 1
        labels[i, width - response :] = own[prompt:]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def row(of, i):
    """One row alone, without its padding."""
    real = of["attention_mask"][i].bool()
    return {name: values[i : i + 1, real] for name, values in of.items()}


def learn(method: Objective, model, *parts, whole=None):
    """The losses of the parts of one step, with the gradients of all in the model."""
    with method(model) as watch:
        watch.prepare([whole or part for part in parts])
        of = sum(map(method.count, parts), Counter())
        found = []
        for part in parts:
            found.append(watch.loss(model(**watch.inputs(part)), part, of))
            found[-1].value.backward()
    return found


def gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_identity_is_cross_entropy(case, model):
    tokens = batch()
    logits = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits
    plain = cross_entropy(logits[:, :-1].flatten(0, 1), tokens["labels"][:, 1:].flatten())
    plain.backward()
    expected = gradient(model)
    for identity in case.identities():
        model.zero_grad()
        (loss,) = learn(identity, model, tokens)
        torch.testing.assert_close(loss.value, plain)
        torch.testing.assert_close(gradient(model), expected)
        assert torch.equal(loss.token_weights.bool(), tokens["labels"] != -100)


def test_value_is_the_sum_of_its_parts_and_weights(case, model):
    tokens = batch()
    (loss,) = learn(case.trial(), model, tokens)
    assert loss.value.shape == ()
    assert all(part.shape == () and not part.requires_grad for part in loss.parts.values())
    torch.testing.assert_close(sum(loss.parts.values()), loss.value.detach())
    assert loss.token_weights.shape == tokens["labels"].shape
    assert not bool((loss.token_weights[tokens["labels"] == -100] != 0).any())
    assert not loss.token_weights.requires_grad


def test_ignores_masked_labels_and_what_is_padded(case, model):
    tokens = batch()
    (before,) = learn(case.trial(), model, tokens)
    other = copy.deepcopy(tokens)
    other["input_ids"][other["attention_mask"] == 0] = 77
    (after,) = learn(case.trial(), model, other)
    torch.testing.assert_close(after.value, before.value)
    masked = copy.deepcopy(tokens)
    masked["labels"][0] = -100
    (loss,) = learn(case.trial(), model, masked)
    assert not bool(loss.token_weights[0].any())


def test_a_row_counts_the_same_alone_and_in_company(case, model):
    tokens = batch()
    (both,) = learn(case.trial(), model, tokens)
    for i in range(2):
        alone = row(tokens, i)
        (loss,) = learn(case.trial(), model, alone)
        assert torch.equal(loss.token_weights[0], both.token_weights[i, tokens["attention_mask"][i].bool()])


def test_splitting_a_step_changes_nothing(case, model):
    tokens = batch(((PROMPT, 11), (9, 6), (5, 3)))
    (whole,) = learn(case.trial(), model, tokens)
    at_once = gradient(model)
    model.zero_grad()
    parts = [row(tokens, i) for i in range(3)]
    found = learn(case.trial(), model, *parts)
    torch.testing.assert_close(sum(part.value for part in found), whole.value)
    torch.testing.assert_close(gradient(model), at_once, rtol=1e-4, atol=1e-6)


def test_looking_changes_nothing(case, model):
    tokens = batch()
    given = {name: values.clone() for name, values in tokens.items()}
    weights = [p.clone() for p in model.parameters()]
    logits = model(**tokens).logits
    state = torch.get_rng_state()
    hooks = {name: len(m._forward_pre_hooks) for name, m in model.named_modules()}
    implementation = model.config._attn_implementation
    learn(case.trial(), model, tokens)
    with pytest.raises(KeyError), case.trial()(model):
        raise KeyError
    assert torch.equal(torch.get_rng_state(), state)
    assert model.config._attn_implementation == implementation
    assert {name: len(m._forward_pre_hooks) for name, m in model.named_modules()} == hooks
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), weights, strict=True))
    assert all(torch.equal(values, given[name]) for name, values in tokens.items())
    assert torch.equal(model(**tokens).logits, logits)


def test_bfloat16(case, model):
    tokens = batch()
    (wide,) = learn(case.trial(), model, tokens)
    (narrow,) = learn(case.trial(), model.to(torch.bfloat16), tokens)
    assert narrow.value.dtype == torch.float32
    assert narrow.token_weights.sum() == wide.token_weights.sum()
    torch.testing.assert_close(narrow.value, wide.value, rtol=0.05, atol=0.05)


def test_bad_batches_are_refused(case):
    model, method = tiny("llama"), case.trial()
    good = batch()
    short = {**good, "labels": good["labels"][:, 1:]}
    padded = {**good, "labels": good["labels"].clone()}
    padded["labels"][1, 0] = 5
    empty = {**good, "labels": torch.full_like(good["labels"], -100)}
    large = {**good, "labels": torch.where(good["labels"] == -100, -100, 1000)}
    packed = {**good, "position_ids": torch.arange(32).remainder(16).expand(2, -1)}
    for wrong, said in (
        ({k: v for k, v in good.items() if k != "labels"}, "must hold labels"),
        (short, "one for each token"),
        (padded, "must be -100 where attention_mask is 0"),
        (empty, "must hold a label"),
        (large, "ids below the model's 128"),
        (packed, "do not pack"),
        ({**good, "cu_seq_lens_q": torch.tensor([0, 4])}, "do not pack"),
        ({**good, "attention_mask": torch.ones(2, 1, 32, 32)}, "do not pack"),
    ):
        with pytest.raises(InvalidValue, match=said), method(model) as watch:
            watch.prepare([good])
            watch.loss(model(**watch.inputs(wrong)), wrong)
