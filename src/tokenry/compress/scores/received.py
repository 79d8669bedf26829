"""How much attention the tokens of a text get: column sums of a causal model's maps, which never exist as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.site import Site
from tokenry.models.files.load import LanguageModel


def layers(model: LanguageModel) -> list[int]:
    """Numbers of the layers with self-attention."""
    return sorted(place.layer for place in ModelAdapter.of(model.model).sites.values() if place.kind == "self")


@torch.no_grad()
def received(
    model: LanguageModel, ids: Int[Tensor, "N"], *, layers: Sequence[int], readers: range
) -> tuple[Float[Tensor, "L H N"], Int[Tensor, "L N"]]:
    """What each token gets from later ones in one forward, and from how many it could get something.

    Args:
        layers: numbers of the layers that count.
        readers: columns of the queries that count.

    Returns:
        Sums of attention probabilities over the readers behind a token that may see it, and how many these are.
    """
    found: dict[int, tuple[Tensor, Tensor]] = {}

    def handler(site: Site) -> Tensor:
        if site.kind == "self" and site.layer in layers:
            found[site.layer] = _columns(site, readers)
        return site.dense()

    with ModelAdapter.of(model.model).attached_to(lambda _: handler):
        model.model(input_ids=ids.to(model.device).unsqueeze(0), use_cache=False, logits_to_keep=1)
    sums, counts = zip(*(found[layer] for layer in layers), strict=True)
    return torch.stack(sums), torch.stack(counts)


def _columns(site: Site, readers: range) -> tuple[Float[Tensor, "H K"], Int[Tensor, "K"]]:
    h, k = site.q.shape[1], site.k.shape[2]
    keys, queries = site.key_columns()[0, 0], site.query_columns()
    total = torch.zeros(h, k, device=site.q.device)
    count = torch.zeros(k, dtype=torch.long, device=site.q.device)
    for rows, part in site.streamed(readers):
        seen = slice(0, part.k.shape[2])
        # What a token reads of itself says nothing about what others need of it.
        later = keys[seen] < queries[rows].unsqueeze(1)
        mask = part.mask()
        if mask is not None:
            later &= mask[0, 0]
        total[:, seen] += part.probs()[0].masked_fill_(~later, 0.0).sum(1)
        count[seen] += later.sum(0)
    return total.cpu(), count.cpu()
