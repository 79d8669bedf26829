"""Prefix tuning: exact beside text, folding, beams, and PEFT's own prefixes."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch

from tests.soft.soft_prompts import EXAMPLES, ids, language, read, row, spoken
from tests.soft.test_prompt_tuning import HARD, hard, peft_logits
from tokenry.attend.h2o import H2O
from tokenry.attend.token_select import TokenSelect
from tokenry.core.errors import Incompatible, InvalidValue, UnsupportedModel
from tokenry.core.tokens import TokenBatch
from tokenry.models.cache.name import with_cache
from tokenry.models.cache.prefix import Geometry, Prefix, geometry, prefix_cache
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import DECODERS, tiny
from tokenry.models.generate.answer import Sampling, answer
from tokenry.soft.prefix_tuning import PrefixTuning
from tokenry.soft.prompt_tuning import PromptTuning
from tokenry.soft.prompts.peft_format import read_peft, write_peft
from tokenry.soft.training.answer_loss import evaluate, loss
from tokenry.soft.training.examples import Example, lessons
from tokenry.soft.training.tuning import tune

BY_PEFT = pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
"""PEFT hands its prefixes to a model by the name of old."""


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("family", DECODERS)
def test_a_start_from_text_reads_on_as_that_text(family, hidden):
    model, batch = language(family), ids(7, 7)
    method = PrefixTuning(tokens=len(HARD), hidden=hidden).start(model, "text", text=HARD)
    held = method.embed(batch, model)
    found = read(model, held, method.cache(held, model))
    assert found.shape[1] == 7, "prompts keep their length"
    torch.testing.assert_close(found, read(model, hard(batch, model))[:, len(HARD) :], atol=2e-6, rtol=1e-5)
    tokens, logits = spoken(model, held, method.cache(held, model))
    expected_tokens, expected = spoken(model, hard(batch, model), None)
    assert torch.equal(tokens, expected_tokens[:, -tokens.shape[1] :])
    torch.testing.assert_close(logits, expected, atol=2e-6, rtol=1e-5)


def test_padded_rows_read_on_as_text_too():
    model, batch = language("gpt2"), ids(3, 9)
    method = PrefixTuning(tokens=len(HARD), hidden=0).start(model, "text", text=HARD)
    held = method.embed(batch, model)
    assert held.mask.int().tolist()[0] == [1] * 6 + [0] * 6 + [1] * 3
    found = read(model, held, method.cache(held, model))
    for i in range(2):
        expected = read(model, hard(row(batch, i), model))[0, len(HARD) :]
        torch.testing.assert_close(found[i, -len(expected) :], expected, atol=2e-6, rtol=1e-5)


def test_geometry_counts_kv_heads():
    assert geometry(language().model) == Geometry(layers=3, heads=2, key_width=16, value_width=16)
    method = PrefixTuning(tokens=5, hidden=0).start(language())
    assert method.keys.shape == (3, 2, 5, 16)


def test_folded_equals_the_mlp_kept():
    model, batch = language(), ids(4, 7)
    method = PrefixTuning(tokens=3, hidden=8).start(model, "random")
    tune(method, model, EXAMPLES, steps=4, rate=0.01)
    folded = method.fold()
    assert folded.hidden == 0
    assert folded.fold() is folded
    assert {n for n, _ in folded.named_parameters()} == {"keys", "values"}
    assert bool(method.prefix().keys.any())
    assert torch.equal(folded.prefix().keys, method.prefix().keys)
    assert torch.equal(folded.prefix().values, method.prefix().values)
    held = method.embed(batch, model)
    caches = [m.cache(held, model) for m in (method, folded)]
    assert torch.equal(*(read(model, held, cache) for cache in caches))


def test_a_random_start_is_the_published_one():
    direct = PrefixTuning(tokens=100, hidden=0).start(language(), "random")
    assert float(direct.keys.std()) == pytest.approx(1, rel=0.05)
    made = PrefixTuning(tokens=4, hidden=8).start(language(), "random")
    assert not bool(made.keys.any())
    expected = made.second(torch.tanh(made.first(made.table))).view(4, 3, 2, 32).permute(1, 2, 0, 3)
    torch.testing.assert_close(torch.cat((made.prefix().keys, made.prefix().values), -1), expected)
    assert {n for n, _ in made.named_parameters()} == {
        "table", "first.weight", "first.bias", "second.weight", "second.bias",
    }  # fmt: skip


@pytest.mark.parametrize("hidden", [0, 8])
def test_gradients_reach_all_leaves_through_the_cache(hidden):
    model = language()
    method = PrefixTuning(tokens=3, hidden=hidden).start(model, "random")
    loss(method, model, lessons(model, EXAMPLES)).backward()
    for name, p in method.named_parameters():
        assert p.grad is not None, name
        every = p.grad if hidden else p.grad.any(-1)
        assert bool(every.any() if hidden else every.all()), name
    for p in model.model.parameters():
        p.grad = None


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}])
def test_beams_with_a_prefix_are_those_of_the_text(options):
    model, batch = language(), ids(7, 7)
    method = PrefixTuning(tokens=len(HARD), hidden=0).start(model, "text", text=HARD)
    held = method.embed(batch, model)
    cache = method.cache(held, model)
    cache.batch_repeat_interleave(options["num_beams"])
    found = model.model.generate(
        **held.model_inputs(), **with_cache(cache), max_new_tokens=6, do_sample=False, **options
    )
    expected = model.model.generate(**hard(batch, model).model_inputs(), max_new_tokens=6, do_sample=False, **options)
    assert torch.equal(found, expected[:, -found.shape[1] :])


def test_sampled_sequences_with_a_prefix():
    model, batch = language(), ids(7)
    method = PrefixTuning(tokens=3, hidden=0).start(model)
    held = method.embed(batch, model)
    cache = method.cache(held, model)
    cache.batch_repeat_interleave(3)
    with torch.random.fork_rng():
        found = model.model.generate(
            **held.model_inputs(), **with_cache(cache), max_new_tokens=5, do_sample=True, num_return_sequences=3
        )
    assert found.shape == (3, 5)


def test_answer_takes_the_cache():
    model, batch = language(), ids(7)
    method = PrefixTuning(tokens=len(HARD), hidden=0).start(model, "text", text=HARD)
    held = method.embed(batch, model)
    said = answer(model, held, Sampling(max_new_tokens=5), nullcontext, cache=method.cache(held, model), logits=True)
    expected = answer(model, hard(batch, model), Sampling(max_new_tokens=5), nullcontext, logits=True)
    assert torch.equal(said.ids, expected.ids)
    torch.testing.assert_close(said.logits, expected.logits, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("attention", [TokenSelect(budget="12:sink=2:recent=4"), H2O(budget=12)])
def test_attention_methods_read_a_prefix_as_text(attention):
    model, batch = language(), ids(30)
    method = PrefixTuning(tokens=len(HARD), hidden=0).start(model, "text", text=HARD)
    held = method.embed(batch, model)
    with attention(model.model, prompt_tokens=held.shape[1]):
        tokens, logits = spoken(model, held, method.cache(held, model))
    with TokenSelect(budget=1000)(model.model):
        _, dense = spoken(model, held, method.cache(held, model))
    assert tokens.shape == (1, 5)
    assert not torch.allclose(logits, dense, atol=1e-4)
    if isinstance(attention, TokenSelect):
        # What evicts scores keys by queries of the prompt, of which a prefix has none.
        with attention(model.model, prompt_tokens=held.shape[1]):
            _, expected = spoken(model, hard(batch, model), None)
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


def test_placeholders_that_are_not_the_first_columns_are_refused():
    model, batch = language(), ids(3, 6)
    method, other = PrefixTuning(tokens=3, hidden=0).start(model), PromptTuning(tokens=3).start(model)
    held = method.embed(batch, model)
    for wrong in (batch, other.embed(held, model), held.tidied()):
        with pytest.raises(Incompatible, match="its 3 placeholders must be the first columns of every row"):
            method.cache(wrong, model)
    both = method.embed(other.embed(batch, model), model)
    assert method.cache(both, model).get_seq_length() == 3


def test_sliding_windows():
    model = language("mistral")
    with pytest.raises(InvalidValue, match="must fit into the sliding window of every layer; got 20 tokens"):
        PrefixTuning(tokens=20, hidden=0).start(model)
    method = PrefixTuning(tokens=3, hidden=0).start(model)
    held = method.embed(ids(3, 6), model)
    with pytest.raises(Incompatible, match="prompts after a prefix must be of one length in a batch, since sliding"):
        method.cache(held, model)
    course = tune(method, model, EXAMPLES, steps=3, batch=4)
    assert course.steps == 3


def test_a_model_without_keys_and_values_is_refused():
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "mamba", vocab_size=128, hidden_size=32, state_size=4, num_hidden_layers=2, pad_token_id=0, bos_token_id=1
    )
    model = LanguageModel(AutoModelForCausalLM.from_config(config).eval(), language().tokenizer, "mamba", 512)
    with pytest.raises(UnsupportedModel, match="a prefix cannot stand before its prompts"):
        PrefixTuning(tokens=3).start(model)


def test_sizes_that_no_prefix_has_are_refused():
    with pytest.raises(InvalidValue, match="must have at most 268435456 numbers"):
        PrefixTuning(tokens=1 << 40).build(width=64, layers=3, heads=2, key_width=16, value_width=16)


def test_caches_of_rows_of_different_lengths():
    model = language()
    a, b = (Prefix.read(model.model, torch.randn(n, 64)) for n in (2, 4))
    cache = prefix_cache(model.model, [a, None, b])
    assert cache.get_seq_length() == 4
    found = Prefix.rows(cache)
    assert torch.equal(found[0].keys[:, :, 2:], a.keys)
    assert not bool(found[0].keys[:, :, :2].any())
    assert not bool(found[1].values.any())
    assert torch.equal(found[2].values, b.values)
    assert prefix_cache(model.model, [None]).get_seq_length() == 0


@BY_PEFT
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
@pytest.mark.parametrize("hidden", [0, 8])
def test_peft_reads_what_is_written_and_gives_the_same_logits(family, hidden, tmp_path):
    model, batch = language(family), ids(6, 6)
    method = PrefixTuning(tokens=3, hidden=hidden).start(model, "random")
    write_peft(method, tmp_path / "peft", model)
    held = method.embed(batch, model)
    ours = read(model, held, method.cache(held, model))
    torch.testing.assert_close(peft_logits(model, tmp_path / "peft", batch), ours, atol=1e-6, rtol=1e-5)
    again = read_peft(tmp_path / "peft", model)
    assert torch.equal(again.keys, method.prefix().keys)
    assert torch.equal(again.values, method.prefix().values)
    assert again.to_dict() == method.fold().to_dict()


@BY_PEFT
@pytest.mark.parametrize("projection", [False, True])
def test_what_peft_saves_is_read(tmp_path, projection):
    from peft import PrefixTuningConfig, get_peft_model

    model, batch = language(), ids(6)
    config = PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=4, prefix_projection=projection, encoder_hidden_size=8
    )
    wrapped = get_peft_model(tiny("llama"), config).eval()
    wrapped.save_pretrained(tmp_path)
    method = read_peft(tmp_path, model)
    held = method.embed(batch, model)
    with torch.no_grad():
        expected = wrapped(input_ids=batch.ids, attention_mask=batch.mask.long()).logits
    torch.testing.assert_close(read(model, held, method.cache(held, model)), expected, atol=1e-6, rtol=1e-5)


def test_latents_have_no_place_in_peft(tmp_path):
    model = language("deepseek_v3")
    with pytest.raises(InvalidValue, match="keys and values must be equally wide"):
        write_peft(PrefixTuning(tokens=3, hidden=0).start(model), tmp_path / "peft", model)


@pytest.mark.slow
def test_smollm2_reads_on_after_a_prefix_as_after_the_text(smollm2):
    text = "Name the capital of this country in one word."
    front = torch.tensor([smollm2.tokenizer(text)["input_ids"]])
    rows = TokenBatch.from_ids(torch.tensor([smollm2.tokenizer(" It is the country of France,")["input_ids"]]))
    method = PrefixTuning(tokens=front.shape[1]).start(smollm2, "text", text=text)
    held = method.embed(rows, smollm2)
    expected = read(smollm2, TokenBatch.from_ids(torch.cat((front, rows.ids), 1)))[:, front.shape[1] :]
    torch.testing.assert_close(read(smollm2, held, method.cache(held, smollm2)), expected, atol=1e-4, rtol=0)


PAIRS = (
    "France Paris, Germany Berlin, Italy Rome, Spain Madrid, Portugal Lisbon, Greece Athens, Poland Warsaw, "
    "Austria Vienna, Hungary Budapest, Norway Oslo, Sweden Stockholm, Finland Helsinki, Denmark Copenhagen, "
    "Ireland Dublin, Russia Moscow, Japan Tokyo, Kenya Nairobi, Belgium Brussels, Peru Lima, Cuba Havana"
)


@pytest.mark.slow
@pytest.mark.claim
def test_smollm2_learns_capitals_in_ten_steps_from_text_and_not_from_noise(smollm2):
    tokenizer = copy.deepcopy(smollm2.tokenizer)
    tokenizer.chat_template = None
    model = LanguageModel(smollm2.model, tokenizer, "smollm2", smollm2.context)
    examples = [Example(country, f" {capital}") for country, capital in map(str.split, PAIRS.split(","))]
    found = {}
    for how in ("text", "random"):
        method = PrefixTuning(tokens=8, hidden=0).start(
            model, how, text="The capital city of the following country is" if how == "text" else None
        )
        begun = evaluate(method, model, lessons(model, examples[16:]), 4)
        tune(method, model, examples[:16], steps=10)
        found[how] = (begun, evaluate(method, model, lessons(model, examples[16:]), 4))
    assert found["text"][1] < found["text"][0] / 2
    assert found["text"][1] < found["random"][1] / 2
