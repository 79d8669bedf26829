"""Below a length everything is read, since choosing would cost more: by the same rule in every method that chooses."""

from __future__ import annotations

import pytest
import torch

from tests.contract.cases import choosing
from tests.padded import padded
from tests.tinies import shared
from tokenry import parse
from tokenry.attend.base import Selector
from tokenry.attend.rows import worth
from tokenry.core.errors import InvalidValue
from tokenry.models.attention import processor

SELECTORS = [case for case in choosing() if issubclass(case.method, Selector)]
PROMPT = padded(41)
STEPS = 7


def generate(model, inputs):
    settings = {"max_new_tokens": STEPS, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    return torch.stack(model.generate(**inputs, **settings).logits)


def with_length(case, length):
    return type(case.trial()).from_dict(case.trial().to_dict() | {"dense_below": length})


@pytest.fixture(params=SELECTORS, ids=[case.name for case in SELECTORS])
def case(request):
    return request.param


def test_all_methods_that_choose_have_it(case):
    assert case.trial().dense_below == 0
    assert {c.name.rpartition("/")[2] for c in SELECTORS} == {"dhsa", "fasa", "quest", "token_select"}


def test_below_the_length_it_is_dense_and_says_so(case):
    model = shared("llama")
    with with_length(case, 1000)(model) as run:
        out = generate(model, PROMPT)
    torch.testing.assert_close(out, generate(model, PROMPT), atol=2e-5, rtol=1e-4)
    rows = 41 - 9 / 2
    assert run.reads.per_step == pytest.approx([rows + 1 + step for step in range(STEPS - 1)])
    (note,) = run.reads.notes
    assert note.startswith(f"{case.trial().name()}: below 1,000 cached tokens")
    assert note.endswith(f"so {STEPS - 1} of {STEPS - 1} steps read everything.")


def test_every_sequence_has_its_own_length(case):
    """Of 41 and of 32 tokens, the second is read whole until it has grown to 36; its neighbour changes nothing."""
    model, method = shared("llama"), with_length(case, 36)
    with method(model) as run:
        both = generate(model, PROMPT)
    assert max(run.reads.per_step[4:]) < min(run.reads.per_step[:3])
    for row in range(2):
        inputs = {name: values[row : row + 1, 9 if row else 0 :] for name, values in PROMPT.items()}
        with method(model):
            alone = generate(model, inputs)
        torch.testing.assert_close(alone[:, 0], both[:, row], atol=2e-5, rtol=1e-4)


def test_at_the_length_it_is_the_method(case):
    model = shared("llama")
    alone = {name: values[:1] for name, values in PROMPT.items()}
    with with_length(case, 12)(model) as run:
        out = generate(model, alone)
    with case.trial()(model) as plain:
        assert torch.equal(out, generate(model, alone))
    assert run.reads.per_step == plain.reads.per_step
    assert run.reads.notes == ()


def test_auto_follows_from_the_kind_of_processor(monkeypatch, case):
    """The table decides and no clock; what it does not name always chooses."""
    model, method = shared("llama"), with_length(case, "auto")
    alone = {name: values[:1] for name, values in PROMPT.items()}
    with case.trial()(model):
        chosen = generate(model, alone)
    name = method.name()
    for kind, same in (("pairs", False), ("plain", True)):
        worth.whole_below.cache_clear()
        monkeypatch.setattr(processor, "_processor", lambda kind=kind: kind)
        monkeypatch.setattr(worth, "MEASURED", {("pairs", "float32"): {name: 1000}})
        with method(model) as run:
            assert torch.equal(generate(model, alone), chosen) == same
        assert bool(run.reads.notes) != same
    worth.whole_below.cache_clear()


def test_a_wrapper_hands_it_on():
    model = shared("llama")
    with parse("reused:inside=fasa[budget=12,dense_layers=0,window=4,dense_below=1000],steps=3")(model) as run:
        out = generate(model, PROMPT)
    torch.testing.assert_close(out, generate(model, PROMPT), atol=2e-5, rtol=1e-4)
    assert run.reads.notes


@pytest.mark.parametrize("value", [-1, "soon", 1.5])
def test_other_lengths_are_refused(case, value):
    with pytest.raises(InvalidValue, match="dense_below must be a whole number of at least 0, or auto"):
        with_length(case, value)


def test_beyond_the_trained_length_nothing_is_read_whole():
    with pytest.raises(InvalidValue, match="dense_below must be 0"):
        parse("token_select:slots=true,dense_below=auto")
