"""Encoders are taken apart by role, exactly, or refused."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from tokenry.core.errors import UnsupportedModel
from tokenry.models.attention.anatomy import anatomy, read
from tokenry.models.attention.encoder_layer import linear
from tokenry.models.files.tiny import tiny

SIZES = {
    "vocab_size": 120, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 70, "pad_token_id": 1, "num_labels": 3,
}  # fmt: skip
DISTIL = {"vocab_size": 120, "dim": 32, "hidden_dim": 48, "n_layers": 3, "n_heads": 4, "max_position_embeddings": 70}
FAMILIES = {
    "bert": SIZES,
    "roberta": SIZES,
    "xlm-roberta": SIZES,
    "electra": {**SIZES, "embedding_size": 16},
    "distilbert": {**DISTIL, "num_labels": 3},
    "albert": {**SIZES, "embedding_size": 16},
}


def encoder(family: str, kind=AutoModel, **changes):
    """A random encoder in which every bias and gain counts."""
    generator = torch.Generator().manual_seed(0)
    model = kind.from_config(AutoConfig.for_model(family, **{**FAMILIES.get(family, SIZES), **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            gain = 1.0 if parameter.dim() == 1 else 0.0
            parameter.copy_(gain + torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def ids(n: int) -> torch.Tensor:
    return torch.randint(4, 120, (n,), generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("kind", [AutoModel, AutoModelForSequenceClassification], ids=["bare", "classifier"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_parts_together_are_the_model(family, kind):
    model = encoder(family, kind)
    parts = anatomy(model)
    assert len(parts.layers) == 3
    assert (parts.head is not None) == (kind is AutoModelForSequenceClassification)
    assert anatomy(model) is parts
    for n in (1, 2, 23):
        reading = read(model, ids(n))
        with torch.no_grad():
            own = model(ids(n)[None], output_hidden_states=True)
        for steps, hidden in zip(reading.steps, own.hidden_states[1:], strict=True):
            torch.testing.assert_close(steps.out, hidden[0], atol=1e-4, rtol=1e-4)
        if parts.head is not None:
            inner = parts.head.activation(linear(parts.head.first, reading.steps[-1].out[0]))
            torch.testing.assert_close(linear(parts.head.last, inner), own.logits[0], atol=1e-4, rtol=1e-4)


def test_roles_are_those_that_bert_names():
    model = encoder("bert", AutoModelForSequenceClassification)
    parts = anatomy(model)
    for layer, own in zip(parts.layers, model.bert.encoder.layer, strict=True):
        assert layer.values is own.attention.self.value
        assert layer.output is own.attention.output.dense
        assert layer.norm is own.attention.output.LayerNorm
        assert layer.up is own.intermediate.dense
        assert layer.activation is own.intermediate.intermediate_act_fn
        assert layer.down is own.output.dense
        assert layer.last_norm is own.output.LayerNorm
    assert parts.head.first is model.bert.pooler.dense
    assert parts.head.last is model.classifier


def test_steps_are_the_equations_of_a_layer():
    """Each step against plain loops over heads and tokens."""
    model = encoder("bert")
    steps = read(model, ids(5)).steps[1]
    own = model.encoder.layer[1]
    weight, bias = own.attention.self.value.weight, own.attention.self.value.bias
    with torch.no_grad():
        for i in range(5):
            mixed = torch.cat([
                sum(steps.probs[h, i, j] * (weight[8 * h : 8 * h + 8] @ steps.x[j] + bias[8 * h : 8 * h + 8])
                    for j in range(5))
                for h in range(4)
            ])  # fmt: skip
            summed = steps.x[i] + own.attention.output.dense(mixed)
            torch.testing.assert_close(steps.summed[i], summed, atol=1e-5, rtol=1e-4)
            middle = own.attention.output.LayerNorm(summed)
            torch.testing.assert_close(steps.middle[i], middle, atol=1e-5, rtol=1e-4)
            active = nn.functional.gelu(own.intermediate.dense(middle))
            torch.testing.assert_close(steps.active[i], active, atol=1e-5, rtol=1e-4)
            total = middle + own.output.dense(active)
            torch.testing.assert_close(steps.total[i], total, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("activation", ["relu", "silu", "gelu_new"])
def test_the_activation_is_found(activation):
    model = encoder("bert", hidden_act=activation)
    assert anatomy(model).layers[0].activation is model.encoder.layer[0].intermediate.intermediate_act_fn


def test_half_precision_is_close():
    model = encoder("bert").to(torch.bfloat16)
    steps = read(model, ids(9)).steps
    with torch.no_grad():
        own = model(ids(9)[None]).last_hidden_state[0].float()
    assert steps[-1].out.dtype == torch.float32
    assert (steps[-1].out - own).abs().max() <= 0.05 * own.abs().max()


def no_residual(model):
    def forward(self, hidden_states, input_tensor):
        return self.LayerNorm(self.dense(hidden_states))

    output = model.encoder.layer[1].attention.output
    output.forward = forward.__get__(output)


def hidden_step(model):
    """What a layer gives is not what its last norm made."""
    model.encoder.layer[0].register_forward_hook(lambda *call: call[-1] * 1.01)


def sigmoid(model):
    model.encoder.layer[0].intermediate.intermediate_act_fn = nn.Sigmoid()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (no_residual, "layer 1 must add its attention to what went into it and normalise the sum"),
        (hidden_step, "its parts together must compute its own hidden states"),
        (sigmoid, "layer 0 must have one function that is 0 at 0 between two linear layers"),
    ],
)
def test_an_encoder_that_does_something_else_is_refused(change, rule):
    model = encoder("bert")
    change(model)
    with pytest.raises(UnsupportedModel, match=f"^BertModel: {rule}"):
        anatomy(model)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("modernbert", {"num_attention_heads": 4, "cls_token_id": 2, "sep_token_id": 3}),
        ("t5", {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}),
        ("deberta-v2", {}),
        ("vit", {"image_size": 8, "patch_size": 4}),
        ("mpnet", {}),
    ],
)  # fmt: skip
def test_other_families_are_refused(family, changes):
    with pytest.raises(UnsupportedModel):
        anatomy(encoder(family, **changes))


def test_decoders_are_refused():
    with pytest.raises(UnsupportedModel, match="LlamaForCausalLM: layer 0 must"):
        anatomy(tiny("llama"))


def test_nothing_stays_on_the_model():
    model = encoder("bert")
    implementation = model.config._attn_implementation
    read(model, ids(6))
    assert model.config._attn_implementation == implementation
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    alive = weakref.ref(model)
    del model
    read(encoder("bert"), ids(6))  # the adapter remembers the last call of a thread until the next one
    gc.collect()
    assert alive() is None
