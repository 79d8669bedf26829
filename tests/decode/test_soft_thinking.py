"""Soft Thinking mixes what it says it mixes, leaves it off when it should, and is greedy where it must be."""

from __future__ import annotations

import math

import pytest
import torch
from tokenizers import decoders

from tests.compress.compress_rows import characters
from tests.padded import padded
from tokenry.attend.snapkv import SnapKV
from tokenry.core.errors import InvalidValue
from tokenry.decode.sampling.candidates import Candidates, Cut, largest
from tokenry.decode.soft_thinking import SoftThinking
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny

STEPS = 14
WHOLE = {"max_new_tokens": STEPS, "output_logits": True, "return_dict_in_generate": True}
GREEDY = {"end": "none", "answer_temperature": 0.0, "certain": 0.0}
ALWAYS = {"certain": 100.0, "certain_steps": 3}


@pytest.fixture(scope="module", params=["llama", "gemma3_text"])
def model(request):
    return tiny(request.param)


@pytest.fixture(scope="module")
def language(model):
    tokenizer = characters()
    tokenizer.backend_tokenizer.decoder = decoders.Fuse()
    return LanguageModel(model, tokenizer, "tiny", 512)


def plain(model, **options):
    return model.generate(**padded(20, 5), do_sample=False, **WHOLE, **options)


def equal(a, b):
    assert torch.equal(a.sequences, b.sequences)
    assert all(torch.equal(x, y) for x, y in zip(a.logits, b.logits, strict=True))


def kept(name, out):
    return torch.stack([n[name] for n in out.notes], 1)


@pytest.mark.parametrize(
    "settings",
    [{"max_topk": 1}, {"soft_steps": 0}, {"top_k": 1}, {"temperature": 0.0}, {"temperature": 1e-6}, {"top_p": 0.0},
     {"min_p": 1.0}],
    ids=str,
)  # fmt: skip
def test_greedy_bit_for_bit(model, settings):
    """One token in the mixture, by whichever setting, or no thinking at all."""
    equal(SoftThinking(**GREEDY, **settings).generate(model, **padded(20, 5), **WHOLE), plain(model))


def test_a_mixture_of_one_is_read_as_a_mixture(model):
    """The greedy settings above are not greedy because nothing was mixed."""
    out = SoftThinking(**GREEDY, top_p=0.0).generate(model, **padded(20, 5), **WHOLE)
    weights = kept("weights", out)
    assert weights.shape == (2, STEPS, 10)
    assert bool((weights[..., 0] == 1).all() & (weights[..., 1:] == 0).all())


def test_what_is_read_is_the_equation(model):
    """Replay: one pass over the prompt and the mixtures that the notes describe gives the same logits."""
    method = SoftThinking(**GREEDY, temperature=1.3, top_k=7, top_p=0.9, min_p=0.3, max_topk=4)
    out = method.generate(model, **padded(20, 5), **WHOLE)
    logits = torch.stack(out.logits, 1)
    probs = (logits / 1.3).softmax(-1)
    entropy = -(probs * probs.log()).sum(-1)
    torch.testing.assert_close(kept("entropy", out), entropy, atol=1e-5, rtol=1e-5)
    for row in range(2):
        for t in range(STEPS):
            p, ids = probs[row, t].sort(descending=True)
            p, ids = p[:7] / p[:7].sum(), ids[:7]
            count = int((p.cumsum(0) - p < 0.9).sum())
            p = p[:count] / p[:count].sum()
            p = p[p >= 0.3 * p[0]]
            p = (p / p.sum())[:4]
            weights = torch.nn.functional.pad(p / p.sum(), (0, 4 - len(p[:4])))
            torch.testing.assert_close(kept("weights", out)[row, t], weights, atol=1e-5, rtol=1e-4)
            assert kept("ids", out)[row, t, : len(p)].tolist() == ids[: len(p)].tolist()
            assert int(out.sequences[row, 20 + t]) == int(ids[0])
    with torch.no_grad():
        look = model.get_input_embeddings()
        mixed = (kept("weights", out)[..., None] * look(kept("ids", out))).sum(2)[:, :-1]
        embeds = torch.cat((look(padded(20, 5)["input_ids"]), mixed), 1)
        mask = torch.nn.functional.pad(padded(20, 5)["attention_mask"], (0, STEPS - 1), value=1)
        places = (mask.cumsum(1) - 1).clamp_min(0)
        again = model(inputs_embeds=embeds, attention_mask=mask, position_ids=places).logits[:, 19:]
    torch.testing.assert_close(again, logits, atol=5e-5, rtol=1e-4)


def test_rows_think_for_soft_steps(model):
    out = SoftThinking(**{**GREEDY, "soft_steps": 4}, temperature=2.0).generate(model, **padded(20, 5), **WHOLE)
    assert kept("soft", out).tolist() == [[True] * 4 + [False] * (STEPS - 4)] * 2


def test_rows_stop_thinking_independently(language):
    model = language.model
    free = SoftThinking(**GREEDY, soft_steps=99).generate(model, **padded(20, 5), **WHOLE).sequences[:, 20:]
    spelled = set(language.tokenizer.get_vocab().values())
    found = [
        (row, at) for row in (0, 1) for at in range(1, STEPS)
        if int(free[row, at]) not in free[row, :at] and int(free[row, at]) not in free[1 - row]
        and int(free[row, at]) in spelled and int(free[row, at]) > 4
    ]  # fmt: skip
    row, at = found[0]
    mark = int(free[row, at])
    method = SoftThinking(**{**GREEDY, "end": language.tokenizer.convert_ids_to_tokens(mark)})
    out = method.generate(language, **padded(20, 5), **WHOLE)
    said, soft = out.sequences[:, 20:], kept("soft", out)
    assert torch.equal(said[1 - row], free[1 - row])
    assert soft[1 - row].all()
    assert torch.equal(said[row, : at + 1], free[row, : at + 1])
    assert soft[row].tolist() == [True] * (at + 1) + [False] * (STEPS - at - 1)
    # The answer is greedy after the mark itself.
    with torch.no_grad():
        look = model.get_input_embeddings()
        mixed = (kept("weights", out)[..., None] * look(kept("ids", out))).sum(2)[row : row + 1, :at]
        real = padded(20, 5)["input_ids"][row : row + 1, 5 if row else 0 :]
        embeds = torch.cat((look(real), mixed, look(said[row : row + 1, at:-1])), 1)
        logits = model(inputs_embeds=embeds).logits[0, real.shape[1] + at :]
    assert torch.equal(logits.argmax(-1), said[row, at + 1 :])


def test_cold_stop_fires_exactly_at_its_length(language):
    """With a threshold above log V every step is certain."""
    assert ALWAYS["certain"] > math.log(128)
    method = SoftThinking(**{**GREEDY, **ALWAYS, "end": "!"}, temperature=2.0)
    mark, end = language.tokenizer.convert_tokens_to_ids("!"), 2
    out = method.generate(language, **padded(20, 5), **WHOLE, eos_token_id=end)
    said = out.sequences[:, 20:]
    assert said[:, 2].tolist() == [mark] * 2
    assert mark not in said[:, :2]
    # The count starts anew with the answer, which ends after as many steps; generation is over.
    assert said.shape[1] == 6
    assert said[:, 5].tolist() == [end] * 2
    assert kept("soft", out).tolist() == [[True] * 3 + [False] * 3] * 2


def test_cold_stop_without_marks(model):
    """Without `end` it ends the thinking; without an end of text it ends no answer."""
    out = SoftThinking(**{**GREEDY, **ALWAYS}, temperature=2.0).generate(model, **padded(20, 5), **WHOLE)
    assert kept("soft", out).tolist() == [[True] * 3 + [False] * (STEPS - 3)] * 2
    assert out.sequences.shape[1] == 20 + STEPS


def test_one_uncertain_step_starts_the_count_anew(model):
    free = SoftThinking(**GREEDY, temperature=2.0).generate(model, **padded(20, 5), **WHOLE)
    entropy = kept("entropy", free)
    certain = float(entropy.median())
    found = []
    for row in entropy < certain:
        runs = [all(row[t - 1 : t + 1]) for t in range(1, STEPS)]
        found.append(runs.index(True) + 1 if True in runs else STEPS)
    method = SoftThinking(**{**GREEDY, "certain": certain, "certain_steps": 2}, temperature=2.0)
    soft = kept("soft", method.generate(model, **padded(20, 5), **WHOLE))
    assert [int(row.sum()) for row in soft] == [min(STEPS, at + 1) for at in found]


def test_answers_are_drawn_from_what_is_left(model):
    """By their own temperature, top-k and top-p; thinking is not random."""
    method = SoftThinking(end="none", soft_steps=3, answer_temperature=2.0, answer_top_k=4, answer_top_p=0.8)
    outs = [method.generate(model, **padded(20, 5), **WHOLE, seed=100 * s) for s in range(6)]
    assert all(torch.equal(o.sequences[:, :23], outs[0].sequences[:, :23]) for o in outs)
    assert len({tuple(o.sequences.flatten().tolist()) for o in outs}) == 6
    cut = Cut(temperature=2.0, top_k=4, top_p=0.8, min_p=0.0)
    for out in outs:
        for t in range(3, STEPS):
            found = Candidates.of(out.logits[t], [cut] * 2)
            allowed = [set(i[w > 0].tolist()) for i, w in zip(found.ids, found.weights, strict=True)]
            assert all(int(out.sequences[row, 20 + t]) in allowed[row] for row in range(2))


def test_draws_follow_the_weights():
    found = Candidates(torch.tensor([[5, 9, 2]]), torch.tensor([[0.5, 0.3, 0.2]]), torch.zeros(1))
    uniform = torch.linspace(0, 0.9999, 1000)
    ids = torch.stack([found.draw(u[None])[0] for u in uniform])
    assert [(ids == i).float().mean().item() for i in (5, 9, 2)] == pytest.approx([0.5, 0.3, 0.2], abs=2e-3)
    cut = Candidates(found.ids, torch.tensor([[1.0, 0.0, 0.0]]), found.entropy)
    assert {int(cut.draw(u[None])) for u in uniform} == {5}


def test_equal_scores_are_ranked_as_argmax_ranks_them():
    scores = torch.tensor([[0.0, 3.0, 1.0, 3.0, 3.0, -torch.inf], [2.0] * 6])
    assert largest(scores, 2)[:, 0].tolist() == scores.argmax(-1).tolist()
    assert set(largest(scores, 3)[0].tolist()) == {1, 3, 4}
    assert largest(scores, 1).tolist() == scores.argmax(-1, keepdim=True).tolist()


def test_forbidden_tokens_have_no_weight(model):
    banned = list(range(3, 100))
    out = SoftThinking(**GREEDY).generate(model, **padded(20, 5), **WHOLE, suppress_tokens=banned)
    ids, weights = kept("ids", out), kept("weights", out)
    assert bool((weights[torch.isin(ids, torch.tensor(banned))] == 0).all())


def test_mixtures_in_bfloat16_are_added_in_float32():
    model = tiny("llama").to(torch.bfloat16)
    ids, weights = torch.arange(3, 33)[None], torch.full((1, 30), 1 / 30)
    found = Candidates(ids, weights, torch.zeros(1)).embeds(model.get_input_embeddings())
    exact = model.get_input_embeddings().weight[3:33].double().mean(0)
    assert torch.equal(found[0], exact.to(torch.bfloat16))


def test_with_an_attention_method_that_evicts(model):
    """Thinking in mixtures over an evicted prompt: the same for a row alone and in a batch."""
    method = SoftThinking(end="none", soft_steps=5, temperature=2.0, answer_temperature=1.0)
    with SnapKV(budget=9, window=4, kernel=3)(model):
        both = method.generate(model, **padded(20, 5), **WHOLE, seed=1)
    for row, pad in ((0, 0), (1, 5)):
        inputs = {k: v[row : row + 1, pad:] for k, v in padded(20, 5).items()}
        with SnapKV(budget=9, window=4, kernel=3)(model):
            single = method.generate(model, **inputs, **WHOLE, seed=1 + row)
        assert torch.equal(single.sequences[0, -STEPS:], both.sequences[row, -STEPS:])


def test_a_missing_mark_is_refused(language):
    for given in (language, language.model):
        with pytest.raises(InvalidValue, match=r"end must be one token of the model's tokenizer; got '</think>'"):
            SoftThinking().generate(given, **padded(20, 5), max_new_tokens=2)


@pytest.mark.slow
def test_on_a_real_model(smollm2):
    """Greedy at one token; a mixture of ten reads something else, and all of it is finite."""
    inputs = smollm2.tokenizer("The lamp was lit in 1903. The lamp", return_tensors="pt")
    theirs = smollm2.model.generate(**inputs, do_sample=False, **WHOLE)
    equal(SoftThinking(**GREEDY, max_topk=1).generate(smollm2, **inputs, **WHOLE), theirs)
    equal(SoftThinking(**GREEDY, top_p=0.0).generate(smollm2, **inputs, **WHOLE), theirs)
    out = SoftThinking(**GREEDY).generate(smollm2, **inputs, **WHOLE)
    assert torch.isfinite(torch.stack(out.logits)).all()
    assert not torch.equal(torch.stack(out.logits), torch.stack(theirs.logits))


def test_no_candidate_comes_twice_where_others_are_impossible():
    scores = torch.full((2, 9), -torch.inf)
    scores[0, 5], scores[1, 2], scores[1, 7] = 1.0, 3.0, 3.0
    found = Candidates.of(scores, [Cut(1.0, 100, 1.0, 0.0)] * 2)
    assert all(len(set(row)) == 9 for row in found.ids.tolist())
    assert found.weights[0].tolist() == [1.0] + [0.0] * 8
    assert largest(scores, 3)[:, 0].tolist() == scores.argmax(-1).tolist()
