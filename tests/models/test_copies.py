"""Heads that a model repeats by itself are cached once: methods choose from each once, for the queries that read it."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.attend.feeding import feed, same, tokens
from tokenry.attend.token_select import TokenSelect
from tokenry.core.registry import parse
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.copies import as_given, copies_of, once, side_by_side

PROMPT, IDS = 33, tokens(2, 45)
FORMS = [
    "token_select:budget=12:sink=2:recent=4:per=head,chunk=0,reuse=1.01", "snapkv:budget=12,window=4,kernel=3",
    "quest:budget=12,page=4,dense_layers=0", "window:budget=12:sink=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def model():
    """Query heads 0 and 2 read cached head 0, and 1 and 3 head 1."""
    config = AutoConfig.for_model(
        "jetmoe", vocab_size=128, pad_token_id=0, bos_token_id=1, eos_token_id=None, hidden_size=64,
        intermediate_size=96, num_hidden_layers=3, num_key_value_heads=2, kv_channels=16, num_local_experts=4,
        num_experts_per_tok=2, max_position_embeddings=512,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("copies", ["beside", "in turn"])
def test_queries_stand_beside_those_of_their_head(copies):
    held = torch.randn(1, 2, 5, 4)
    given = held.repeat_interleave(3, 1) if copies == "beside" else held.repeat(1, 3, 1, 1)
    assert copies_of(held, given) == copies
    assert torch.equal(once(copies, given, 2), held)
    assert torch.equal(side_by_side(copies, given, 2), held.repeat_interleave(3, 1))
    assert torch.equal(as_given(copies, side_by_side(copies, given, 2), 2), given)


def test_heads_that_are_repeated_are_no_latents(model):
    adapter = ModelAdapter.of(model)
    assert not adapter.latent
    assert {place.copies for place in adapter.sites.values()} == {"in turn"}


def test_a_budget_that_covers_everything_changes_nothing(model):
    options = {"max_new_tokens": 8, "do_sample": False, "suppress_tokens": [0]}
    expected = model.generate(input_ids=IDS, attention_mask=torch.ones_like(IDS), **options)
    with TokenSelect(budget=1000)(model):
        assert torch.equal(model.generate(input_ids=IDS, attention_mask=torch.ones_like(IDS), **options), expected)


@pytest.mark.parametrize("form", FORMS)
def test_a_row_is_what_it_is_alone(model, form):
    """Also beside a longer one; and what is cached is two heads, of which no more is read than the budget."""
    method, mask = parse(form), torch.ones_like(IDS)
    mask[1, :9] = 0
    both = feed(model, method, IDS, PROMPT, mask=mask, prompt_tokens=PROMPT)
    alone = feed(model, method, IDS[1:, 9:], PROMPT - 9, prompt_tokens=PROMPT - 9)
    same(both.logits[1], alone.logits[0])
    assert both.cache.layers[0].keys.shape[1] == 2
