"""What a causal model loses on every token, with attention as it is or as a handler makes it."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from tokenry.core.errors import ContextOverflow, UnsupportedModel
from tokenry.core.tokens import TokenBatch
from tokenry.models import private
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.call import Handler
from tokenry.models.attention.site import Site
from tokenry.probe.views.rows import ids_of
from tokenry.probe.views.weights import Weigh, read_by, softmax

LOGITS = 1 << 26
"""Logits that exist at once; rows are read in slices so that there are no more."""


@torch.no_grad()
def losses(
    network: nn.Module, batch: TokenBatch, handler: Callable[[slice], Handler] | None = None
) -> Float[Tensor, "B N"]:
    """-log p of the next token in nats at every token that has one; NaN elsewhere.

    Args:
        handler: makes what attends for some rows of the batch; dense attention where not given.

    Raises:
        ContextOverflow: rows longer than the model's context.
        UnsupportedModel: a model without logits for every token, or whose attention cannot be reached.
    """
    adapter = ModelAdapter.of(network)
    ids, (rows, n) = ids_of(batch), batch.shape
    config, longest = adapter.model.config.get_text_config(), int(batch.lengths.max())
    context = getattr(config, "max_position_embeddings", None)
    if context is not None and longest > context:
        raise ContextOverflow(
            f"probe: rows must fit into a context of {context} tokens; got {longest}; cut them into shorter ones."
        )
    placed = "position_ids" in inspect.signature(adapter.model.forward).parameters
    size = max(1, LOGITS // (n * int(config.vocab_size)))
    found = torch.full((rows, n), torch.nan)
    for low in range(0, rows, size):
        part = slice(low, min(low + size, rows))
        attend = Site.dense if handler is None else handler(part)
        with adapter.attached_to(lambda _, attend=attend: attend):  # type: ignore[misc]
            outputs = network(use_cache=False, **_inputs(batch, part, private.input_device(adapter.model), placed))
        logits = outputs.get("logits")
        if logits is None or logits.shape[:2] != ids[part].shape:
            raise UnsupportedModel(f"{type(adapter.model).__name__}: must be a causal language model with logits.")
        following = ids[part, 1:].to(logits.device)
        found[part, :-1] = cross_entropy(logits[:, :-1].float().mT, following, reduction="none").cpu()
    counted = batch.mask.cpu() & pad(batch.mask.cpu()[:, 1:], (0, 1))
    return found.masked_fill(~counted, torch.nan)


def _inputs(batch: TokenBatch, rows: slice, device: torch.device, placed: bool) -> dict[str, Tensor]:
    """What a forward over some rows takes; models that count positions without looking at padding are given them."""
    inputs = {"input_ids": ids_of(batch)[rows], "attention_mask": batch.mask[rows].long()}
    if placed:
        inputs["position_ids"] = batch.positions[0, rows] if len(batch.positions) == 1 else batch.positions[:, rows]
    return {name: value.to(device) for name, value in inputs.items()}


def silenced(layer: int, head: int, weigh: Weigh = softmax) -> Callable[[slice], Handler]:
    """Attention in which one query head of one layer gives nothing; what the layer projects of it is zero."""

    def attend(site: Site) -> Tensor:
        out = read_by(weigh, site)
        if site.kind != "self" or site.layer != layer:
            return out
        return out.index_fill(1, torch.tensor([head], device=out.device), 0.0)

    return lambda _: attend


def weighed(weigh: Callable[[slice], Weigh]) -> Callable[[slice], Handler]:
    """Attention with weights of one's own, which may differ from row to row."""

    def handler(rows: slice) -> Handler:
        return lambda site: read_by(weigh(rows), site)

    return handler
