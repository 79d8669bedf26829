"""Methods around methods: what they add, and that they keep what the one inside promises."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.attend.feeding import CACHE, feed, same, tokens
from tests.contract.cases import choosing
from tests.padded import padded
from tests.tinies import shared
from tokenry.attend.adaptive_heads import AdaptiveHeads
from tokenry.attend.base import Evictor, Selector
from tokenry.attend.chunked import Chunked
from tokenry.attend.pyramid import Pyramid
from tokenry.attend.rerotated import Rerotated
from tokenry.attend.reused import Reused
from tokenry.attend.snapkv import SnapKV
from tokenry.attend.token_select import TokenSelect
from tokenry.attend.window import Window
from tokenry.attend.wrapping.wrapper import Wrapper
from tokenry.core.budget import Budget
from tokenry.core.errors import InvalidValue
from tokenry.core.registry import parse
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.kv import KVBuffer
from tokenry.models.cache.name import cache_of, with_cache

PROMPT = padded(41)
SNAP = SnapKV(budget=12, window=4, kernel=3)
WRAPPERS = {
    "adaptive_heads": lambda inside: AdaptiveHeads(inside=inside),
    "pyramid": lambda inside: Pyramid(inside=inside, beta=1),
    "rerotated": lambda inside: Rerotated(inside=inside),
    "chunked": lambda inside: Chunked(inside=inside),
    "reused": lambda inside: Reused(inside=inside, steps=2),
}
INSIDE = [case for case in choosing() if not issubclass(case.method, Wrapper) and hasattr(case.trial(), "budget")]
PAIRS = [
    (name, case) for name in WRAPPERS for case in INSIDE
    if issubclass(case.method, {"pyramid": (Evictor, Selector), "reused": Selector}.get(name, Evictor))
]  # fmt: skip


def generate(model, **options):
    return model.generate(**PROMPT, max_new_tokens=6, do_sample=False, return_dict_in_generate=True,
                          output_logits=True, **options)  # fmt: skip


def held(out):
    return [int((layer.columns >= 0).sum()) for layer in cache_of(out).layers]


def test_there_are_as_many_pairs_as_methods_that_fit():
    evict, select = (sum(issubclass(c.method, kind) for c in INSIDE) for kind in (Evictor, Selector))
    assert len(PAIRS) == 4 * evict + 2 * select


@pytest.mark.parametrize(("name", "case"), PAIRS, ids=lambda value: getattr(value, "name", value))
def test_every_pair_generates_and_keeps_its_promise(name, case):
    """Padded and not alike; where everything fits, the method inside; and so is its budget on average."""
    model, method = shared("llama"), WRAPPERS[name](case.trial())
    with method(model) as run:
        both = torch.stack(generate(model).logits)
        for row, low in ((0, 0), (1, 9)):
            alone = {k: v[row : row + 1, low:] for k, v in PROMPT.items()}
            out = model.generate(**alone, max_new_tokens=6, do_sample=False, return_dict_in_generate=True,
                                 output_logits=True)  # fmt: skip
            torch.testing.assert_close(torch.stack(out.logits)[:, 0], both[:, row], atol=2e-5, rtol=1e-4)
    most = case.trial().budget.count(41)
    assert all(
        read <= most + (step + 1 if method.grows else 0) + 1e-3
        for step, read in enumerate(run.reads.per_step[:5])
        if not method.reads_all(step)
    )
    assert parse(str(method)) == method


def test_heads_share_one_budget():
    """As many rows as the method inside holds, and those with the highest shares of any head."""
    model = shared("llama")
    with SNAP(model):
        alone = generate(model)
    with AdaptiveHeads(inside=SNAP, floor=0.0)(model):
        shared_out = generate(model)
    assert held(shared_out) == held(alone)
    columns = [(layer.columns >= 0).sum(-1) for layer in cache_of(shared_out).layers]
    assert any((of[:, 0] != of[:, 1]).any() for of in columns)


def test_shares_of_any_head_decide():
    scores = torch.tensor([[[8.0, 1, 1, 0, 0, 0], [2.0, 2, 2, 2, 1, 1]]])
    method = SnapKV(budget=3, window=1)
    rows = AdaptiveHeads(inside=method, floor=0.0).stays(method, None, scores, None, 6)
    assert (rows >= 0).sum() == 6
    kept = [set(r[r >= 0].tolist()) for r in rows[0]]
    assert kept[0] >= {0}
    assert kept[1] >= {0, 1, 2, 3}
    floored = AdaptiveHeads(inside=method, floor=1.0).stays(method, None, scores, None, 6)
    assert floored.tolist() == [[[0, 1, 2], [0, 1, 2]]]


def test_a_pyramid_falls_and_keeps_its_mean():
    method = Pyramid(inside=SnapKV(budget=100, window=4), beta=20)
    budgets = [method._of(layer, 30).budget.tokens for layer in range(30)]
    assert budgets == sorted(budgets, reverse=True)
    assert sum(budgets) == pytest.approx(3000, abs=15)
    assert (budgets[0], budgets[-1]) == (191, 9), "the window of four is in every layer"
    with pytest.raises(InvalidValue, match="beta must leave every layer a budget"):
        Pyramid(inside="quest[budget=40]", beta=20)(shared("llama")).__enter__()


@pytest.mark.parametrize("inside", [
    "fasa[budget=16]", "snapkv[budget=32]", "window[budget=12:sink=2:recent=10]", "snapkv[budget=40:recent=16]",
])  # fmt: skip
def test_a_pyramid_holds_no_more_than_the_method_alone(inside):
    """Also where a window asks and does not stay, and where nothing is left to share out."""
    method = Pyramid(inside=inside, beta=2)
    budgets = [method._of(layer, 5).budget.tokens for layer in range(5)]
    assert sum(budgets) == 5 * method.budget.tokens
    assert method._of(0, 1) == method.inside


def test_a_pyramid_stands_on_the_layers_that_hold_everything():
    """Layers with a sliding window of their own take nothing of it."""
    model = shared("gemma3_text")
    with Pyramid(inside=SNAP, beta=2)(model):
        out = generate(model)
    with SNAP(model):
        alone = generate(model)
    per_layer = [[layer.held for layer in cache_of(of).layers if isinstance(layer, KVBuffer)] for of in (out, alone)]
    assert per_layer[0][0] > per_layer[0][1]
    assert sum(per_layer[0]) == sum(per_layer[1])


def test_what_is_left_stands_as_if_nothing_had_been_between():
    """After an eviction a window is read as the text of what it holds: the logits are those of that text alone."""
    model, ids = shared("llama"), tokens(1, 60)
    method = Rerotated(inside=Window(budget=Budget(tokens=10, per="layer")))
    first = {}

    placed = method.placed

    def looking(site):
        found = placed(site)
        if site.layer == 0:
            first["before"], first["after"] = site, found
        return found

    object.__setattr__(method, "placed", looking)
    feed(model, method, ids, 40)
    before, after = first["before"], first["after"]
    assert before.positions()[0, 0].tolist() == list(range(50, 60))
    logits = after.logits()
    own = torch.zeros_like(before.k)

    def again(site):
        if site.layer == 0:
            own.copy_(site.k)
            first["plain"] = site.logits()
        return site.dense()

    with torch.no_grad(), ModelAdapter.of(model).attached_to(lambda _: again):
        model(ids[:, 50:60])
    torch.testing.assert_close(after.k, own, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits[:, :, -1], first["plain"][:, :, -1], atol=1e-4, rtol=1e-4)


def test_a_long_prompt_never_stands_in_memory_as_a_whole():
    """In chunks of 16, no layer ever holds more than the budget and one chunk."""
    model, ids, most = shared("llama"), tokens(1, 400), []
    with torch.no_grad(), Chunked(inside=SNAP)(model):
        cache = None
        for low in range(0, 400, 16):
            out = model(ids[:, low : low + 16], **({} if cache is None else with_cache(cache)))
            cache = cache_of(out)
            most.append(max(layer.keys.shape[2] for layer in cache.layers))
    assert max(most) <= 12
    assert all(layer.seen == 400 for layer in cache.layers)
    assert out.logits.isfinite().all()


@pytest.fixture(scope="module")
def smollm2_geometry():
    """Nine heads that share three of width 64, in two layers, over positions up to 32K."""
    config = LlamaConfig(
        vocab_size=128, hidden_size=576, intermediate_size=64, num_hidden_layers=2, num_attention_heads=9,
        num_key_value_heads=3, head_dim=64, max_position_embeddings=1 << 15, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


@pytest.mark.slow
@pytest.mark.parametrize("inside", [
    "snapkv[budget=256]", "key_norm[budget=256,dense_layers=0]", "window[budget=256:sink=4]",
    "adaptive_heads[inside=snapkv[budget=256]]",
])  # fmt: skip
def test_32k_tokens_are_read_in_the_memory_of_a_budget_and_a_chunk(monkeypatch, smollm2_geometry, inside):
    """Bytes of keys and values in each layer: at every moment of reading, in use for them, and after generating."""
    chunk, budget, row = 512, 256, 2 * 3 * 64 * 4
    most: dict[str, int] = {}
    update = KVBuffer.update

    def watched(self, *given, **more):
        out = update(self, *given, **more)
        most["held"] = max(most.get("held", 0), self.held_bytes)
        most["used"] = max(most.get("used", 0), self.allocated_bytes)
        return out

    monkeypatch.setattr(KVBuffer, "update", watched)
    ids = tokens(1, (1 << 15) - 8)
    with torch.inference_mode(), Chunked(inside=inside)(smollm2_geometry) as run:
        out = smollm2_geometry.generate(ids, max_new_tokens=4, do_sample=False, prefill_chunk_size=chunk,
                                        return_dict_in_generate=True)  # fmt: skip
    layers = cache_of(out).layers
    assert all(layer.seen == len(out.sequences[0]) - 1 for layer in layers)
    assert most["held"] <= (budget + chunk) * row
    room = max(64, (budget + chunk) // KVBuffer.growth)
    assert most["used"] <= (budget + chunk + room) * row * 1.1, "numbers of columns stand beside ragged rows"
    assert run.held_bytes <= 2 * (budget + 4) * row
    assert all(layer.held_bytes <= (budget + 4) * row for layer in layers)


def test_heads_share_budgets_while_a_prompt_is_read_in_chunks():
    """Whichever of the two stands in the other; in one pass it is as without chunks."""
    model, ids = shared("llama"), tokens(1, 60)
    heads, inside = AdaptiveHeads(inside=SNAP, floor=0.0), Chunked(inside=AdaptiveHeads(inside=SNAP, floor=0.0))
    outside = AdaptiveHeads(inside=Chunked(inside=SNAP), floor=0.0)
    fed = [feed(model, method, ids, 48, chunks=[16, 16, 16]) for method in (inside, outside)]
    same(*(one.logits for one in fed))
    counts = [(layer.columns >= 0).sum(-1) for layer in fed[0].cache.layers]
    assert all(int(count.sum()) == 2 * (12 + 12) for count in counts)
    assert any((count[:, 0] != count[:, 1]).any() for count in counts)
    whole = [feed(model, method, ids, 48, prompt_tokens=48).logits for method in (heads, inside)]
    same(*whole)


def test_a_prompt_of_one_pass_is_read_as_by_the_method_inside():
    model, ids = shared("qwen3"), tokens(2, 50)
    same(feed(model, Chunked(inside=SNAP), ids, 41, prompt_tokens=41).logits,
         feed(model, SNAP, ids, 41, prompt_tokens=41).logits)  # fmt: skip


class Asked:
    """How often a selector was asked in a layer."""

    def __init__(self, monkeypatch, kind):
        self.count, select = 0, kind.select

        def counted(method, site, state):
            self.count += site.layer == 1
            return select(method, site, state)

        monkeypatch.setattr(kind, "select", counted)


CHOOSING = pytest.mark.parametrize("inside", [
    "fasa[budget=12,dense_layers=0,window=4]", "quest[budget=12,page=4,dense_layers=0]",
    "token_select[budget=12:sink=2:recent=4,chunk=0,reuse=1.01]",
    "dhsa[budget=12:sink=2:recent=2,chunk_size=4,block=4,instruction=2]",
])  # fmt: skip


@CHOOSING
def test_a_choice_is_read_again_with_what_came_since(monkeypatch, inside):
    """Asked every third step, with two rows fewer; between, no key is scored, and what came since is read."""
    model, ids = shared("llama"), tokens(1, 53)
    method, every = Reused(inside=inside, steps=3), Reused(inside=inside, steps=1)
    asked = Asked(monkeypatch, type(method.inside))
    seen = []
    rows = Reused.rows

    def looking(self, inner, site, state):
        found = rows(self, inner, site, state)
        if site.layer == 1:
            seen.append(set(found[0, 0].tolist()) - {-1})
        return found

    monkeypatch.setattr(Reused, "rows", looking)
    fed = feed(model, method, ids, 41, prompt_tokens=41)
    assert asked.count == 4
    for step, held in enumerate(seen):
        first, since = seen[step - step % 3], step % 3
        assert held == first | {41 + step - i for i in range(since)}
        assert len(held) <= 12
    assert fed.run.reads.bytes < feed(model, every, ids, 41, prompt_tokens=41).run.reads.bytes
    same(feed(model, every, ids, 41, prompt_tokens=41).logits, feed(model, method.inside, ids, 41,
         prompt_tokens=41).logits)  # fmt: skip


@torch.no_grad()
@CHOOSING
def test_a_choice_outlives_a_step_that_is_taken_back(inside):
    """A crop of the cache between two choices: the next token is read as if the other had never come."""
    model, ids, found = shared("llama"), tokens(1, 60), []
    for tried in (0, 1):
        with Reused(inside=inside, steps=4)(model, prompt_tokens=41):
            cache = cache_of(model(ids[:, :41], use_cache=True))
            for i in (41, 42, *([50] * tried)):
                model(ids[:, i : i + 1], **with_cache(cache))
            cache.crop(-tried)
            found.append(model(ids[:, 43:44], **with_cache(cache)).logits)
    torch.testing.assert_close(*found, atol=0, rtol=0)


@pytest.mark.parametrize("held", [10, 11, 13])
def test_a_short_neighbour_chooses_at_its_own_steps(held):
    """One sequence of which the budget holds all until it does not, alone and beside a long one."""
    model, ids = shared("llama"), tokens(2, 60)
    mask = torch.ones_like(ids)
    mask[1, : 41 - held] = 0
    method = Reused(inside="fasa[budget=14,dense_layers=0,window=4]", steps=4)
    both = feed(model, method, ids, 41, mask=mask, prompt_tokens=41)
    alone = feed(model, method, ids[1:, 41 - held :], held, prompt_tokens=held)
    same(alone.logits[0], both.logits[1])


def test_what_does_not_fit_inside_is_refused():
    for wrapper in (AdaptiveHeads, Rerotated, Chunked):
        with pytest.raises(InvalidValue, match="inside must be one that evicts; got token_select"):
            wrapper(inside=TokenSelect())
    with pytest.raises(InvalidValue, match="must have a budget in tokens"):
        Pyramid(inside="token_sparse")
    with pytest.raises(InvalidValue, match="layer by layer and step by step; got snapkv"):
        Reused(inside=SNAP)
    with pytest.raises(InvalidValue, match="must have a budget in tokens"):
        Reused(inside="dhsa[budget=0.5]")
    with pytest.raises(InvalidValue, match="steps must leave inside a budget that it takes"):
        Reused(inside="quest[budget=20]", steps=8)


def test_wrappers_stand_in_each_other():
    """Budgets that differ between layers, and in each between heads."""
    model = shared("llama")
    with Pyramid(inside=AdaptiveHeads(inside=SNAP, floor=0.1), beta=2)(model):
        out = generate(model)
    counts = [layer.columns for layer in cache_of(out).layers]
    per_layer = [int((c >= 0).sum()) for c in counts]
    assert per_layer == sorted(per_layer, reverse=True)
    assert per_layer[0] > per_layer[-1]


def test_places_are_those_of_the_wrapper_inside():
    """Rerotating acts also where another wrapper, which changes nothing, stands around it."""
    model, ids = shared("llama"), tokens(1, 60)
    inside = Rerotated(inside=SNAP)
    found = [feed(model, method, ids, 48, prompt_tokens=48).logits
             for method in (inside, AdaptiveHeads(inside=inside, floor=1.0), SNAP)]  # fmt: skip
    same(found[0], found[1])
    assert not torch.allclose(found[0], found[2], atol=1e-3)


@pytest.mark.parametrize("length", [3, 5])
def test_a_question_shorter_than_the_window_votes_with_the_text_before_it(length):
    model, ids = shared("llama"), tokens(1, 40 + length)
    with torch.no_grad(), Chunked(inside=SnapKV(budget=16, window=6, kernel=1))(model):
        whole = model(input_ids=ids[:, :40], use_cache=True)[CACHE]
        for _ in range(2):
            own = copy.deepcopy(whole)
            model(input_ids=ids[:, 40:], **{CACHE: own})
            assert {layer.held for layer in own.layers} == {16}
