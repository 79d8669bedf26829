"""Ways to generate, and to read in training and export, that transformers offers."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, StaticCache, TextStreamer

from benchmarks.models.compared import NotThere
from tokenry.models.cache.name import cache_of, with_cache
from tokenry.models.files.tiny import tiny

Mode = Callable[[Any], list[Tensor]]

IDS = torch.arange(3, 3 + 82).remainder(90).add(3).view(2, 41)
MASK = torch.ones(2, 41, dtype=torch.long)
MASK[1, :9] = 0
BOTH = {"input_ids": IDS, "attention_mask": MASK}
ONE = {"input_ids": IDS[:1], "attention_mask": MASK[:1]}
MORE = {"max_new_tokens": 12}


def generated(model: Any, inputs: Mapping[str, Any] = BOTH, **how: Any) -> list[Tensor]:
    """Ids, and the logits of every step."""
    return _said(_out(model, inputs, **how))


def _out(model: Any, inputs: Mapping[str, Any] = BOTH, **how: Any) -> Any:
    options = {"max_new_tokens": 8, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    return model.generate(**inputs, **{**options, **how})


def _said(out: Any) -> list[Tensor]:
    return [out.sequences.float(), *(step.float() for step in out.get("logits") or ())]


def right_padded(model: Any) -> list[Tensor]:
    mask = torch.ones_like(MASK)
    mask[1, -6:] = 0
    return generated(model, {"input_ids": IDS, "attention_mask": mask})


def from_embeddings(model: Any) -> list[Tensor]:
    return generated(model, {"inputs_embeds": model.get_input_embeddings()(IDS).detach(), "attention_mask": MASK})


def continued(model: Any) -> list[Tensor]:
    first = _out(model)
    mask = torch.nn.functional.pad(MASK, (0, 8), value=1)
    return generated(model, {"input_ids": first.sequences, "attention_mask": mask, **with_cache(cache_of(first))})


def second_turn(model: Any) -> list[Tensor]:
    first = _out(model, ONE)
    ids = torch.cat((first.sequences, IDS[1:, :12]), 1)
    return generated(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), **with_cache(cache_of(first))})


def prefix_used_twice(model: Any) -> list[Tensor]:
    cache, found = DynamicCache(config=model.config), []
    model(input_ids=IDS[:1, :20], **with_cache(cache))
    for begin in (3, 5):
        ids = torch.cat((IDS[:1, :20], IDS[1:, begin : begin + 9]), 1)
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **with_cache(copy.deepcopy(cache))}
        found += generated(model, given)
    return found


class _Numbers:
    """As much of a tokenizer as a streamer asks for."""

    def decode(self, ids: Any, **_: Any) -> str:
        return " ".join(str(int(i)) for i in ids) + " "


def streamed(model: Any) -> list[Tensor]:
    with contextlib.redirect_stdout(io.StringIO()):
        return generated(model, ONE, streamer=TextStreamer(_Numbers()))


def static_object(model: Any) -> list[Tensor]:
    return generated(model, {**BOTH, **with_cache(StaticCache(config=model.config, max_cache_len=64))})


def with_draft(model: Any) -> list[Tensor]:
    return generated(model, ONE, assistant_model=tiny("llama", seed=1, num_hidden_layers=1), **MORE)


def with_attention_maps(model: Any) -> list[Tensor]:
    """Only eager attention makes maps; the tiny models call another."""
    out = _out(model, output_attentions=True)
    if not out.attentions or not out.attentions[0] or out.attentions[0][0] is None:
        raise NotThere("gives no maps")
    return _said(out) + [step[0].float() for step in out.attentions]


def with_hidden_states(model: Any) -> list[Tensor]:
    """Of real tokens: what stands where padding is means nothing."""
    out = _out(model, output_hidden_states=True)
    prompt, *steps = (step[-1].float() for step in out.hidden_states)
    return [*_said(out), prompt[MASK.bool()], *steps]


def in_continuous_batches(model: Any) -> list[Tensor]:
    plan = GenerationConfig(max_new_tokens=6, do_sample=False, eos_token_id=-1, pad_token_id=0)
    prompts = [IDS[0, :20].tolist(), IDS[1, :13].tolist()]
    out = model.generate_batch(inputs=prompts, generation_config=plan, progress_bar=False)
    if not out:
        raise NotThere("gives nothing")
    return [torch.tensor([i for one in out for i in out[one].generated_tokens]).float()]


def compiled(model: Any) -> list[Tensor]:
    other = copy.deepcopy(model)
    other.forward = torch.compile(other.forward, backend="eager")
    return generated(other, ONE)


def compiled_inside(model: Any) -> list[Tensor]:
    read = torch.compile(model.forward, backend="eager")
    return [read(**ONE, use_cache=False).logits.float()]


def exported(model: Any) -> list[Tensor]:
    given = {"input_ids": IDS[:1], "use_cache": False}
    return [torch.export.export(model, (), given).module()(**given).logits.float()]


def cropped(model: Any) -> list[Tensor]:
    cache = DynamicCache(config=model.config)
    model(input_ids=IDS[:1, :30], **with_cache(cache))
    cache.crop(-7)
    return [model(input_ids=IDS[:1, a:b], **with_cache(cache)).logits.float() for a, b in ((23, 30), (30, 31))]


def with_positions(model: Any) -> list[Tensor]:
    return generated(model, {**BOTH, "position_ids": (MASK.cumsum(1) - 1).clamp_min(0)})


def in_inference_mode(model: Any) -> list[Tensor]:
    with torch.inference_mode():
        return [t.clone() for t in generated(model)]


def masked_by_four_axes(model: Any) -> list[Tensor]:
    cache, at = DynamicCache(config=model.config), (MASK.cumsum(1) - 1).clamp_min(0)
    seen = torch.ones(41, 41).tril().bool().repeat(2, 1, 1, 1)
    seen[1, :, :, :9] = False
    seen[1, :, :9, :9] = torch.eye(9).bool()
    prompt = model(input_ids=IDS, attention_mask=seen, position_ids=at, **with_cache(cache)).logits
    step = torch.ones(2, 1, 1, 42).bool()
    step[1, ..., :9] = False
    one = model(input_ids=IDS[:, :1], attention_mask=step, position_ids=at[:, -1:] + 1, **with_cache(cache)).logits
    return [prompt[MASK.bool()].float(), one.float()]


def gradients(model: Any, *, kept: bool = True) -> list[Tensor]:
    """The loss and gradients of some weights; where layers are not `kept`, they are run twice."""
    model.train()
    if not kept:
        model.gradient_checkpointing_enable()
    try:
        with torch.enable_grad():
            loss = model(**BOTH, labels=IDS, use_cache=False).loss
            some = [p for p in list(model.parameters())[:6] if p.requires_grad]
            found = torch.autograd.grad(loss, some)
        return [loss.detach()[None], *found]
    finally:
        model.eval()
        if not kept:
            model.gradient_checkpointing_disable()


def in_half_precision(model: Any) -> list[Tensor]:
    other = copy.deepcopy(model).to(torch.bfloat16)
    return [other(**BOTH).logits[MASK.bool()].float()]


def by_autocast(model: Any) -> list[Tensor]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return [model(**BOTH).logits[MASK.bool()].float()]


def beside_an_empty_row(model: Any) -> list[Tensor]:
    mask = MASK.clone()
    mask[1] = 0
    return [t[:1] for t in generated(model, {"input_ids": IDS, "attention_mask": mask})]


HALF = ("half precision", "autocast")
"""Numbers of eight bits, which other orders of summation change sooner."""

MODES: Mapping[str, Mode] = {
    "greedy": generated,
    "sampling": lambda m: generated(m, do_sample=True, top_k=20, temperature=0.8),
    "sampling, several of each": lambda m: generated(m, do_sample=True, num_return_sequences=3),
    "sampling, min_p": lambda m: generated(m, do_sample=True, min_p=0.1),
    "beams": lambda m: generated(m, num_beams=3, num_return_sequences=2),
    "beams, sampled": lambda m: generated(m, num_beams=3, do_sample=True),
    "no repetition": lambda m: generated(m, repetition_penalty=1.3, no_repeat_ngram_size=2),
    "only some words": lambda m: generated(m, prefix_allowed_tokens_fn=lambda *_: list(range(10, 40))),
    "stop words": lambda m: generated(m, eos_token_id=[5, 17]),
    "guidance": lambda m: generated(m, ONE, guidance_scale=1.7, negative_prompt_ids=IDS[1:, 5:20]),
    "draft of another model": with_draft,
    "draft of itself": lambda m: generated(m, ONE, assistant_model=m, **MORE),
    "draft of a copy": lambda m: generated(m, ONE, assistant_model=copy.deepcopy(m), **MORE),
    "draft by lookup": lambda m: generated(
        m, {"input_ids": IDS[:1, :10].repeat(1, 4)}, prompt_lookup_num_tokens=3, **MORE
    ),
    "draft of its first layers": lambda m: generated(m, ONE, assistant_early_exit=1, **MORE),
    "without mask": lambda m: generated(m, {"input_ids": IDS}),
    "padded behind": right_padded,
    "beside an empty row": beside_an_empty_row,
    "embeddings": from_embeddings,
    "positions given": with_positions,
    "mask of four axes": masked_by_four_axes,
    "prompt in chunks": lambda m: generated(m, prefill_chunk_size=7),
    "continued": continued,
    "second turn": second_turn,
    "prefix used twice": prefix_used_twice,
    "taken back": cropped,
    "without cache": lambda m: generated(m, use_cache=False),
    "static cache": lambda m: generated(m, cache_implementation="static"),
    "static cache, given": static_object,
    "offloaded cache": lambda m: generated(m, cache_implementation="offloaded"),
    "offloaded static cache": lambda m: generated(m, cache_implementation="offloaded_static"),
    "quantized cache": lambda m: generated(
        m, cache_implementation="quantized", cache_config={"backend": "hqq", "nbits": 4}
    ),
    "continuous batches": in_continuous_batches,
    "streamer": streamed,
    "attention maps": with_attention_maps,
    "hidden states": with_hidden_states,
    "compiled": compiled,
    "compiled forward": compiled_inside,
    "exported": exported,
    "inference mode": in_inference_mode,
    "half precision": in_half_precision,
    "autocast": by_autocast,
    "gradients": gradients,
    "gradients, layers run twice": lambda m: gradients(m, kept=False),
}
