"""Every method of soft tokens, found through the registry: what any of them must hold to."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from tests.contract.cases import cases
from tests.soft.soft_prompts import EXAMPLES, ids, language, read, row, spoken
from tokenry.core.errors import Incompatible, InvalidValue, StorageError
from tokenry.core.learned import Unbuilt
from tokenry.core.registry import parse
from tokenry.core.sequence import Modality
from tokenry.core.tokens import TokenBatch
from tokenry.models.cache.prefix import slides
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny
from tokenry.soft.base import SoftTokens
from tokenry.soft.prompts.mixed import together
from tokenry.soft.training.answer_loss import loss
from tokenry.soft.training.examples import lessons
from tokenry.soft.training.tuning import tune

METHODS = cases("soft")
FAMILIES = ("llama", "qwen3", "mistral")
"""Plain, with QK-norm and grouped heads, with a sliding window."""
LENGTHS = (5, 9)


@pytest.fixture(params=METHODS, ids=[c.name for c in METHODS])
def case(request):
    return request.param


def begun(case, model, seed=0) -> SoftTokens:
    """The method with the settings of its card, begun for a model and moved a little."""
    method = case.trial().start(model, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in method.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator)
    return method


def real(batch: TokenBatch, i: int):
    """Every field of a row without padding."""
    m = batch.mask[i]
    return [t[i][m] for t in (batch.ids, batch.embeds, batch.positions[0], batch.modality, batch.protected)]


def test_nothing_is_learned_yet(case):
    method = case.method()
    assert isinstance(method, SoftTokens)
    assert case.entry.card.training
    assert not method.built
    assert 0 < method.rate < 1


def test_use_before_start_is_refused(case):
    for use in (case.trial().embed, case.trial().cache):
        if use.__func__ is not SoftTokens.cache:
            with pytest.raises(Unbuilt, match=r"must begin before .* call start"):
                use(ids(3), language())


@pytest.mark.parametrize("family", FAMILIES)
def test_embed_adds_protected_columns_and_changes_nothing_else(case, family):
    method, model, batch = begun(case, language(family)), language(family), ids(*LENGTHS)
    given = (batch.ids, batch.mask, batch.positions, batch.protected, batch.fate.index)
    before = [t.clone() for t in given]
    out = method.embed(batch, model)
    assert all(torch.equal(old, new) for old, new in zip(before, given, strict=True))
    soft = (out.modality == Modality.SOFT) & out.mask
    added = soft.sum(1)
    assert bool((added > 0).all())
    assert torch.equal(out.lengths, batch.lengths + added)
    assert bool((out.ids[soft] == -1).all())
    assert bool(out.protected[soft].all())
    assert torch.equal(out.survival(), batch.mask.float())
    assert out.embeds.dtype == model.dtype
    embed = model.model.get_input_embeddings()
    for i in range(2):
        text = out.mask[i] & ~soft[i]
        assert torch.equal(out.ids[i][text], row(batch, i).ids[0])
        assert torch.equal(out.embeds[i][text], embed(row(batch, i).ids[0]))
        assert out.positions[0, i][out.mask[i]].tolist() == list(range(int(out.lengths[i])))
    assert not bool(out.embeds[~out.mask].any())


def test_embed_rows_alone_and_padded_are_equal(case):
    method, model, batch = begun(case, language()), language(), ids(*LENGTHS)
    out = method.embed(batch, model)
    for i in range(2):
        for a, b in zip(real(out, i), real(method.embed(row(batch, i), model), 0), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_gives_the_same_alone_and_padded(case, family):
    method, model, batch = begun(case, language(family)), language(family), ids(*LENGTHS)
    out = method.embed(batch, model)
    if method.has_cache and slides(model.model):
        with pytest.raises(Incompatible, match="must be of one length in a batch, since sliding windows"):
            method.cache(out, model)
        return
    tokens, logits = spoken(model, out, method.cache(out, model))
    for i in range(2):
        alone = method.embed(row(batch, i), model)
        expected_tokens, expected = spoken(model, alone, method.cache(alone, model))
        assert torch.equal(tokens[i], expected_tokens[0])
        torch.testing.assert_close(logits[i], expected[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("lengths", [(1,), (2,), (1, 2), (1, 7, 3)])
def test_short_prompts(case, lengths):
    method, model = begun(case, language()), language()
    out = method.embed(ids(*lengths), model)
    tokens, _ = spoken(model, out, method.cache(out, model), steps=2)
    assert tokens.shape == (len(lengths), 2)


def test_cached_columns_are_the_first_and_soft(case):
    method, model, batch = begun(case, language()), language(), ids(*LENGTHS)
    out = method.embed(batch, model)
    cache = method.cache(out, model)
    assert (cache is not None) == method.has_cache
    if cache is not None:
        held = cache.get_seq_length()
        assert 0 < held < out.shape[1]
        assert bool((out.modality[:, :held] == Modality.SOFT).all())
        assert method.cache(out, model) is not cache


def test_the_soft_tokens_matter(case):
    model, batch = language(), ids(*LENGTHS)
    found = []
    for seed in (0, 1):
        method = begun(case, model, seed)
        out = method.embed(batch, model)
        found.append(read(model, out, method.cache(out, model))[:, -1])
    plain = read(model, batch)[:, -1]
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    assert not torch.allclose(found[0], plain, atol=1e-3)


def test_rows_with_other_soft_tokens_or_none_are_as_alone(case):
    model, batch = language(), ids(*LENGTHS, 4, 2)
    others = [begun(case, model), case.method(**{**case.entry.card.trial, "tokens": 5}).start(model, seed=3)]
    rows = [(others[0], row(batch, 0)), (None, row(batch, 1)), (others[1], row(batch, 2)), (others[0], row(batch, 3))]
    out, cache = together(rows, model)
    tokens, logits = spoken(model, out, cache)
    for i, (method, one) in enumerate(rows):
        alone, own = together([(method, one)], model)
        if method is None:
            assert own is None
            torch.testing.assert_close(logits[i, 0], read(model, one)[0, -1], atol=2e-5, rtol=1e-4)
        expected_tokens, expected = spoken(model, alone, own)
        assert torch.equal(tokens[i], expected_tokens[0])
        torch.testing.assert_close(logits[i], expected[0], atol=2e-5, rtol=1e-4)
        assert torch.equal(out.survival()[i], torch.arange(out.fate.shape[2]) < one.shape[1])


def test_the_same_seed_gives_the_same_start_and_the_global_state_stays(case):
    state = torch.get_rng_state()
    for how in ("vocabulary", "random"):
        a, b, c = (case.trial().start(language(), how, seed=seed).state_dict() for seed in (1, 1, 2))
        assert all(torch.equal(a[n], b[n]) for n in a)
        assert any(not torch.equal(a[n], c[n]) for n in a)
    assert torch.equal(torch.get_rng_state(), state)


def test_saved_and_loaded_are_equal(case, tmp_path):
    method, model = begun(case, language()), language()
    method.save(tmp_path / "soft")
    again = parse(str(tmp_path / "soft"))
    assert type(again) is case.method
    mine, theirs = (m.embed(ids(*LENGTHS), model) for m in (method, again))
    assert torch.equal(mine.embeds, theirs.embeds)
    results = [read(model, mine, m.cache(mine, model)) for m in (method, again)]
    assert torch.equal(*results)


def test_a_damaged_folder_is_refused(case, tmp_path):
    begun(case, language()).save(tmp_path / "soft")
    weights, fields_of = tmp_path / "soft" / "method.safetensors", tmp_path / "soft" / "method.json"
    whole, values = weights.read_bytes(), json.loads(fields_of.read_text())
    weights.write_bytes(whole[:-9])
    with pytest.raises(StorageError, match="must be a whole safetensors file"):
        case.method.load(tmp_path / "soft")
    weights.write_bytes(whole)
    fields_of.write_text(json.dumps(values | {"sizes": values["sizes"] | {"width": 1 << 40}}))
    with pytest.raises((StorageError, InvalidValue), match=r"must have at most|got torch.float32 of shape"):
        case.method.load(tmp_path / "soft")


def test_another_model_is_refused(case, tmp_path):
    method = begun(case, language())
    method.save(tmp_path / "soft")
    for m in (method, case.method.load(tmp_path / "soft")):
        for other in (language(seed=1), language("qwen3")):
            with pytest.raises(Incompatible, match=r"must be used with the model it was made for; tiny .* has other"):
                m.embed(ids(3), other)


def test_a_model_in_other_numbers_is_the_same_model(case):
    method = begun(case, language())
    for dtype in (torch.bfloat16, torch.float16):
        method.check(LanguageModel(tiny("llama").to(dtype), language().tokenizer, "half", 512))


def test_bfloat16(case):
    model = LanguageModel(tiny("llama").to(torch.bfloat16), language().tokenizer, "half", 512)
    method = begun(case, model)
    assert all(p.dtype == torch.float32 for p in method.parameters())
    out = method.embed(ids(*LENGTHS), model)
    assert out.embeds.dtype == torch.bfloat16
    logits = read(model, out, method.cache(out, model))
    # The same rounded weights in 32-bit floats.
    wide = LanguageModel(copy.deepcopy(model.model).float(), model.tokenizer, "wide", 512)
    whole = method.embed(ids(*LENGTHS), wide)
    torch.testing.assert_close(logits.float()[:, -1], read(wide, whole, method.cache(whole, wide))[:, -1],
                               atol=3e-2, rtol=5e-2)  # fmt: skip
    loss(method, model, lessons(model, EXAMPLES)).backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in method.parameters())


def test_all_leaves_get_gradients_and_the_model_none(case):
    model = language()
    method = begun(case, model)
    loss(method, model, lessons(model, EXAMPLES)).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in method.parameters())
    for p in model.model.parameters():
        p.grad = None


def test_the_loss_of_a_batch_is_that_of_its_rows(case):
    for family in FAMILIES:
        model = language(family)
        method = begun(case, model)
        found = lessons(model, EXAMPLES)
        with torch.no_grad():
            parts = [float(loss(method, model, [lesson])) * len(lesson.answer) for lesson in found]
            whole = float(loss(method, model, found))
        assert whole == pytest.approx(sum(parts) / sum(len(lesson.answer) for lesson in found), abs=1e-4)


def test_tuning_learns_and_leaves_the_model_as_it_was(case):
    model = LanguageModel(tiny("llama"), language().tokenizer, "tiny", 512)
    model.model.train()
    before = {n: (p.clone(), p.requires_grad) for n, p in model.model.named_parameters()}
    method = case.trial().start(model)
    course = tune(method, model, EXAMPLES, steps=12, batch=4)
    assert course.losses[-1] < course.losses[0]
    assert model.model.training
    for name, p in model.model.named_parameters():
        assert torch.equal(p, before[name][0])
        assert p.requires_grad == before[name][1]
        assert p.grad is None


def test_folded_is_equal(case):
    method, model = begun(case, language()), language()
    folded = method.fold()
    out = method.embed(ids(*LENGTHS), model)
    a, b = (read(model, m.embed(ids(*LENGTHS), model), m.cache(out, model)) for m in (method, folded))
    torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def test_two_interleaved_uses_do_not_see_each_other(case):
    method = begun(case, language())
    other = begun(case, language("qwen3"))
    a = method.embed(ids(*LENGTHS), language())
    b = other.embed(ids(3, 8), language("qwen3"))
    first, second = method.cache(a, language()), other.cache(b, language("qwen3"))
    read(language("qwen3"), b, second)
    again = method.embed(ids(*LENGTHS), language())
    assert torch.equal(read(language(), a, first), read(language(), again, method.cache(again, language())))
