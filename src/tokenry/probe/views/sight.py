"""What the first token of each row means to a model: attention on it, its values and its states; no map is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenry.core.errors import UnsupportedModel
from tokenry.core.tokens import TokenBatch
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.call import Handler
from tokenry.models.attention.site import Site
from tokenry.probe.views.losses import losses
from tokenry.probe.views.rows import first_columns
from tokenry.probe.views.weights import Weigh, read_by, softmax


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What was seen of a batch; columns of padding hold nothing that counts.

    Args:
        sink: weight that every query gives to the first token of its row.
        lead: logit of that token minus the mean logit of the others that the query sees; NaN where it sees not both.
        values: norm of the value of every token.
        states: norm of every token in the residual stream behind each layer.
        loss: -log p of the next token, NaN where there is none.
    """

    sink: Float[Tensor, "L B H N"]
    lead: Float[Tensor, "L B H N"]
    values: Float[Tensor, "L B G N"]
    states: Float[Tensor, "L2 B N"]
    loss: Float[Tensor, "B N"]


def sight(network: nn.Module, batch: TokenBatch, weigh: Weigh = softmax) -> Sight:
    """Read a batch once and note all of it.

    Raises:
        UnsupportedModel: a model whose self-attention or whose layers cannot be reached, or without logits.
    """
    adapter, first = ModelAdapter.of(network), first_columns(batch)
    seen: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {}

    def handler(rows: slice) -> Handler:
        def attend(site: Site) -> Tensor:
            if site.kind == "self":
                seen.setdefault(site.layer, []).append(_of_site(site, first[rows].to(site.q.device), weigh))
            return read_by(weigh, site)

        return attend

    with _states(adapter) as norms:
        loss = losses(network, batch, handler)
    if not seen:
        raise UnsupportedModel(f"{type(adapter.model).__name__}: must have layers of causal self-attention.")
    columns = [[torch.cat(parts) for parts in zip(*seen[layer], strict=True)] for layer in sorted(seen)]
    sink, lead, values = (torch.stack(found) for found in zip(*columns, strict=True))
    return Sight(sink, lead, values, torch.stack([torch.cat(parts) for parts in norms.values()]), loss)


def _of_site(site: Site, first: Tensor, weigh: Weigh) -> tuple[Tensor, Tensor, Tensor]:
    sink, lead = [], []
    for _, part in site.streamed():
        # Keys behind all queries of a part are left out; a row may begin there, and its queries are padding.
        at = first.clamp_max(part.k.shape[2] - 1).view(-1, 1, 1, 1).expand(-1, *part.q.shape[1:3], 1)
        logits = part.logits()
        seen = logits > torch.finfo(logits.dtype).min
        own = logits.gather(-1, at)[..., 0]
        others = seen.sum(-1) - 1
        rest = (logits.masked_fill(~seen, 0.0).sum(-1) - own) / others.clamp_min(1)
        known = seen.gather(-1, at)[..., 0] & (others > 0)
        lead.append((own - rest).masked_fill(~known, torch.nan).cpu())
        sink.append(weigh(part).gather(-1, at)[..., 0].cpu())
    return torch.cat(sink, -1), torch.cat(lead, -1), site.v.float().norm(dim=-1).cpu()


@contextmanager
def _states(adapter: ModelAdapter) -> Iterator[dict[nn.Module, list[Tensor]]]:
    """Norms of what leaves each layer of the stacks with self-attention, while the block runs."""
    norms: dict[nn.Module, list[Tensor]] = {}

    def after(layer: nn.Module, _: Any, output: Any) -> None:
        hidden = output if isinstance(output, Tensor) else output[0]
        if hidden.dim() != 3:
            raise UnsupportedModel(
                f"{type(adapter.model).__name__}: must have one state for each token between layers; "
                f"got {tuple(hidden.shape)}."
            )
        norms[layer].append(hidden.float().norm(dim=-1).cpu())

    stacks = sorted({place.stack for place in adapter.sites.values() if place.kind == "self"})
    layers = [m for name in stacks if name for m in adapter.model.get_submodule(name).children()]
    if not layers:
        raise UnsupportedModel(f"{type(adapter.model).__name__}: must have layers of causal self-attention in a list.")
    norms |= {layer: [] for layer in layers}
    hooks = [layer.register_forward_hook(after) for layer in layers]
    try:
        yield norms
    finally:
        for hook in hooks:
            hook.remove()
