"""Tokens that change between layers: what is left is computed as if the rest were masked, and nothing else is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tests.padded import padded
from tokenry.attend.between.reducer import Reducer
from tokenry.core.errors import Incompatible, InvalidValue, UnsupportedModel
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.between import Change, View, front_packed
from tokenry.models.attention.experiment import Experiment
from tokenry.models.attention.proof import proven_blocks
from tokenry.models.cache.name import cache_of, with_cache
from tokenry.models.files.tiny import DECODERS, tiny

STEPS = 8


@dataclass(frozen=True, kw_only=True)
class Thin(Reducer):
    """Before layer 1 every row loses other columns of its prompt, some rows more."""

    share: int = 3

    def reduce(self, view: View, state: Any) -> Change | None:
        if view.layer != 1 or view.decoding:
            return None
        return view.keep(front_packed(torch.where(stays(view.columns, view.real, self.share), index(view), -1)))


def stays(columns, real, share):
    # Rows of the two sequences differ; those of the beams of one do not.
    rows = torch.arange(len(columns))[:, None] // (len(columns) // 2 or 1)
    gone = (columns + rows) % (share + rows % 2) == share - 1
    return real & ~gone & (columns >= 0)


def index(view):
    return torch.arange(view.hidden.shape[1]).expand(len(view.hidden), -1)


@pytest.fixture(scope="module", params=sorted(DECODERS))
def model(request):
    return tiny(request.param)


def generate(model, inputs, **options):
    return model.generate(
        **inputs, max_new_tokens=STEPS, do_sample=False, output_logits=True, return_dict_in_generate=True, **options
    )


def same(a, b):
    assert torch.equal(a.sequences, b.sequences)
    torch.testing.assert_close(torch.stack(a.logits), torch.stack(b.logits), atol=2e-5, rtol=1e-4)


def masked(inputs, share=3):
    """The dropped columns hidden from layer 1 on, in a dense model."""
    mask = inputs["attention_mask"].bool()
    kept = stays(torch.arange(mask.shape[1]).expand(2, -1), mask, share)

    def attend(site):
        if site.layer == 0 or site.facts is None:
            return site.dense()
        columns = site.key_columns()[:, 0]
        old = columns < mask.shape[1]
        visible = torch.where(
            old, kept.repeat_interleave(len(columns) // 2, 0).gather(1, columns.clamp_max(mask.shape[1] - 1)), True
        )
        at = torch.where(visible, torch.arange(columns.shape[1]), -1)
        return site.narrow(front_packed(at).unsqueeze(1)).dense()

    return attend


def test_keeping_all_changes_nothing(model):
    inputs = padded()
    expected = generate(model, inputs)
    with Thin(share=10**6)(model):
        same(generate(model, inputs), expected)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}], ids=["greedy", "beams"])
def test_dropping_is_masking(model, options):
    """Uneven rows, one padded; generation goes on with caches that never held what was dropped."""
    inputs = padded()
    with Thin()(model) as run:
        ours = generate(model, inputs, **options)
    with ModelAdapter.of(model).attached_to(lambda _: masked(inputs)):
        same(generate(model, inputs, **options), ours)
    lengths = [layer.seen for layer in cache_of(ours).layers]
    assert lengths == [40 + STEPS - 1] * len(lengths)
    held = [int((layer.columns >= 0).sum(-1).max()) if layer.columns is not None else layer.held
            for layer in cache_of(ours).layers]  # fmt: skip
    assert held[0] == 40 + STEPS - 1
    assert max(held[1:]) < 40
    assert run.streams[0].counts[0] == 40
    assert max(run.streams[0].counts[1:]) < 40


def test_chunks_are_one_reading():
    model, inputs = tiny("llama"), padded()
    with Thin()(model):
        whole = generate(model, inputs)
    with Thin()(model):
        same(generate(model, inputs, prefill_chunk_size=8), whole)


def test_a_row_alone_is_the_row_in_a_batch():
    model, inputs = tiny("qwen3"), padded()
    with Thin()(model):
        both = generate(model, inputs)
        alone = generate(model, {k: v[:1] for k, v in inputs.items()})
    torch.testing.assert_close(torch.stack(both.logits)[:, :1], torch.stack(alone.logits), atol=2e-5, rtol=1e-4)


@dataclass(frozen=True, kw_only=True)
class Sleep(Reducer):
    """Two columns sleep through layer 1 and are back in layer 2."""

    restores = True

    def reduce(self, view: View, state: Any) -> Change | None:
        if view.decoding or view.layer not in (1, 2):
            return None
        if view.layer == 1:
            awake = torch.tensor([i for i in range(view.total) if i not in (2, 5)])
            return view.keep(awake.expand(len(view.hidden), -1))
        return view.restore(torch.arange(view.first, view.first + view.total).expand(len(view.hidden), -1))


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma3_text", "bert", "vit"])
def test_what_is_brought_back_slept_through_a_layer(family):
    """As if layer 1 hid these columns and gave their own states back unchanged."""
    model = tiny(family)
    experiment = Experiment(model, text=9)
    adapter = ModelAdapter.of(model)
    stack = next(iter(adapter.sites.values())).stack
    with torch.no_grad(), Sleep()(model):
        ours = experiment.run()[0]
    before: dict[str, torch.Tensor] = {}
    layer = model.get_submodule(stack)[1]

    def enter(_, args, kwargs):
        before["hidden"] = args[0] if args else kwargs["hidden_states"]

    def leave(_, __, output):
        out = (output if torch.is_tensor(output) else output[0]).clone()
        out[:, [2, 5]] = before["hidden"][:, [2, 5]]
        return out if torch.is_tensor(output) else (out, *output[1:])

    def hide(site):
        if site.layer != 1:
            return site.dense()
        awake = torch.tensor([i for i in range(site.k.shape[2]) if i not in (2, 5)])
        return site.narrow(awake.view(1, 1, -1).expand(2, 1, -1)).dense()

    hooks = [layer.register_forward_pre_hook(enter, with_kwargs=True), layer.register_forward_hook(leave)]
    with torch.no_grad(), adapter.attached_to(lambda _: hide):
        expected = experiment.run()[0]
    for hook in hooks:
        hook.remove()
    mask = experiment.inputs.get("attention_mask")
    real = torch.ones_like(ours[..., 0], dtype=torch.bool) if mask is None else mask.bool()
    torch.testing.assert_close(ours[real], expected[real], atol=2e-5, rtol=1e-4)


@dataclass(frozen=True, kw_only=True)
class Pairs(Reducer):
    """Before layer 1 every second token goes into the one before it; the last stays itself."""

    def reduce(self, view: View, state: Any) -> Change | None:
        if view.layer != 1 or view.decoding:
            return None
        at = index(view)
        into = torch.where((view.columns % 2 == 1) & (at < at.shape[1] - 1) & (at > 0), at - 1, at)
        return view.merge(into)


def test_merging_is_the_mean_and_conserves_weight():
    model = tiny("vit")
    seen = {}

    @dataclass(frozen=True, kw_only=True)
    class Watch(Pairs):
        def reduce(self, view: View, state: Any) -> Change | None:
            seen[view.layer] = view
            return super().reduce(view, state)

    with torch.no_grad(), Watch()(model) as run:
        Experiment(model).run()
    before, after = seen[1].hidden, seen[2]
    assert after.hidden.shape[1] == 9
    fate = run.streams[0].fate()
    torch.testing.assert_close(fate.survival(), torch.ones(2, 17))
    assert fate.originals(0, 1) == [2, 3]
    merged = Pairs().reduce(seen[1], None).hidden
    torch.testing.assert_close(merged[:, 1], before[:, 2:4].mean(1))
    torch.testing.assert_close(merged[:, -1], before[:, 16])


def test_merging_equal_tokens_gives_that_token():
    hidden = torch.randn(1, 1, 4).expand(1, 6, 4)
    columns = torch.arange(6)[None]
    view = View(1, 3, hidden, columns, torch.ones_like(columns, dtype=torch.bool), 0, 6)
    change = view.merge(torch.tensor([[0, 0, 2, 2, 4, 4]]), weights=torch.rand(1, 6) + 0.1)
    torch.testing.assert_close(change.hidden, hidden[:, :3])
    assert change.columns.tolist() == [[0, 2, 4]]


def test_merging_into_a_token_that_goes_elsewhere_is_refused():
    columns = torch.arange(3)[None]
    view = View(1, 3, torch.randn(1, 3, 4), columns, columns >= 0, 0, 3)
    with pytest.raises(InvalidValue, match="must stay itself"):
        view.merge(torch.tensor([[0, 0, 1]]))


def test_whole_gives_every_column_its_last_state():
    @dataclass(frozen=True, kw_only=True)
    class Whole(Thin):
        whole = True

    model = tiny("bert")
    experiment = Experiment(model, text=12)
    with torch.no_grad(), Thin()(model):
        short = experiment.run().last_hidden_state
    with torch.no_grad(), Whole()(model) as run:
        out = experiment.run().last_hidden_state
    assert out.shape[1] == 12
    kept = run.streams[0].local
    for row in range(2):
        there = kept[row] >= 0
        torch.testing.assert_close(out[row, kept[row][there]], short[row, there])


def test_a_stack_must_be_named_where_there_are_several():
    model = tiny("clip")
    with pytest.raises(InvalidValue, match=r"stack must be given, one of text_model\.\S+, vision_model\.\S+; got none"):
        Thin()(model).__enter__()
    with Thin()(model, stack="vision_model.encoder.layers") as run, torch.no_grad():
        Experiment(model).run()
    assert run.streams[0].counts[0] == 17
    assert run.streams[0].counts[1] < 17
    with pytest.raises(InvalidValue, match="stack must be one of"):
        Thin()(model, stack="encoder").__enter__()


def test_an_encoder_whose_middle_layers_are_read_is_refused():
    """LLaVA takes the last but one layer of its image encoder, which must then have every token."""
    model = tiny("llava")
    with pytest.raises(UnsupportedModel, match="must run with fewer tokens between its layers"):
        Thin()(model, stack="model.vision_tower.encoder.layers").__enter__()
    with Thin()(model) as run, torch.no_grad():
        Experiment(model).run()
    assert run.stack == "model.language_model.layers"
    assert run.streams[0].counts[1] < run.streams[0].counts[0]


@pytest.mark.parametrize("family", ["t5", "whisper"])
def test_encoders_and_decoders_that_belong_together(family):
    model = tiny(family)
    adapter = ModelAdapter.of(model)
    for stack in {p.stack for p in adapter.sites.values()}:
        assert not proven_blocks(adapter, stack).whole


def test_two_caches_in_turn():
    model, method, ids = tiny("llama"), Thin(), padded()["input_ids"]
    with torch.no_grad(), ModelAdapter.of(model).attached():
        caches = [method.cache(model) for _ in range(2)]
        apart = [model(input_ids=x, **with_cache(method.cache(model))).logits for x in (ids, ids.flip(1))]
        mixed = [model(input_ids=x, **with_cache(c)).logits for x, c in zip((ids, ids.flip(1)), caches, strict=True)]
        dense = model(input_ids=ids).logits
    for a, b in zip(apart, mixed, strict=True):
        assert torch.equal(a, b)
        assert a.shape[1] < 40
    assert dense.shape[1] == 40


def test_gradients_reach_what_stays():
    model = tiny("llama")
    embeds = torch.randn(2, 13, 64, requires_grad=True)
    with Thin()(model):
        model(inputs_embeds=embeds, use_cache=False).logits.sum().backward()
    assert embeds.grad is not None
    assert (embeds.grad.abs().sum(-1) > 0).all(), "layer 0 reads every token"


def test_leaves_no_trace_and_refuses_a_second():
    model = tiny("llama")
    inputs = padded()
    expected = model(**inputs).logits
    with pytest.raises(RuntimeError, match="boom"), Thin()(model):
        raise RuntimeError("boom")
    assert torch.equal(model(**inputs).logits, expected)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
    with Thin()(model), pytest.raises(Incompatible, match="only one attention method"), Thin()(model):
        pass
