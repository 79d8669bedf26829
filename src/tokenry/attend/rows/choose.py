"""From scores to kept rows: sinks, recent rows and the best of the rest, counted per sequence and head."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor
from torch.nn.functional import pad

from tokenry.core.budget import Budget
from tokenry.models.cache.packed import packed


def choose(
    budget: Budget,
    scores: Float[Tensor, "B #G K"],
    real: Bool[Tensor, "B #G K"] | None,
    seen: int | Int[Tensor, "B 1 1"],
) -> Int[Tensor, "B #G M"]:
    """The rows that stay, ascending; -1 at the end where a sequence or head keeps fewer.

    Args:
        budget: counts only real rows, sinks and recent ones included; with `per="layer"` the heads' scores are
            summed and the middle axis of the result is 1.
        scores: higher stays, and of equal ones the older; rows are in the order of their columns.
        real: False for padding and empty slots, perhaps shared by all heads; None when all rows are real.
        seen: real tokens seen so far, of which a share is taken; more than K after evictions.
    """
    if budget.per == "layer":
        scores = scores.sum(1, keepdim=True)
        real = None if real is None else real.any(1, keepdim=True)
    if real is None and isinstance(seen, int):
        return _choose_even(budget, scores, seen)
    if real is None:
        real = torch.ones_like(scores, dtype=torch.bool)
    return _choose_uneven(budget, scores, real.expand_as(scores), seen)


def open_rows(budget: Budget, real: Bool[Tensor, "B G K"]) -> Bool[Tensor, "B G K"]:
    """The rows a choice is about: real, no sink and not recent."""
    rank = real.cumsum(-1) - 1
    n = real.sum(-1, keepdim=True)
    return real & (rank >= budget.sink) & (rank < n - budget.recent)


def all_where(
    due: Bool[Tensor, "B"], rows: Int[Tensor, "B #G M"], real: Bool[Tensor, "B #G K"] | None, count: int
) -> Int[Tensor, "B #G M2"]:
    """All real ones of `count` rows for the sequences where `due`, and `rows` for the others."""
    if not bool(due.any()):
        return rows
    everything = torch.arange(count, device=rows.device).expand(*rows.shape[:2], -1)
    if real is not None:
        everything = torch.where(real, everything, -1)
    some = pad(rows, (0, count - rows.shape[-1]), value=-1)
    return packed(torch.where(due.view(-1, 1, 1), everything, some), least=1)


def taken(values: Num[Tensor, "B #G M"], rows: Int[Tensor, "B #G M2"]) -> Num[Tensor, "B #G M2"]:
    """The values of some rows; -1 where a row is none."""
    b, g = (max(of) for of in zip(values.shape[:2], rows.shape[:2], strict=True))
    rows = rows.expand(b, g, -1)
    return torch.where(rows >= 0, values.expand(b, g, -1).gather(-1, rows.clamp_min(0)), -1)


def highest(scores: Float[Tensor, "*B K"], count: int) -> Int[Tensor, "*B M"]:
    """Where the `count` highest scores are, the highest first; of equal ones the older, whatever stands beside them."""
    at = _highest(scores, count)
    return at.gather(-1, scores.gather(-1, at).argsort(dim=-1, descending=True, stable=True))


def _least_of_highest(scores: Float[Tensor, "*B K"], count: int) -> Float[Tensor, "*B 1"]:
    """The smallest of the `count` highest scores."""
    if not _is_near(scores):
        return scores.topk(count, -1, sorted=False).values.amin(-1, keepdim=True)
    at = scores.shape[-1] - count
    return torch.from_numpy(np.partition(scores.detach().numpy(), at, -1)[..., at : at + 1])


def _is_near(scores: Tensor) -> bool:
    """Whether numpy sees the scores, which finds the highest of many in a tenth of the time that torch takes."""
    return scores.device.type == "cpu" and scores.dtype in (torch.float32, torch.float64)


def _choose_even(budget: Budget, scores: Tensor, seen: int) -> Tensor:
    b, g, k = scores.shape
    m = min(k, budget.count(seen))
    columns = torch.arange(k, device=scores.device)
    if m == k:
        return columns.expand(b, g, -1)
    middle = _highest(scores[..., budget.sink : k - budget.recent], m - budget.sink - budget.recent)
    parts = (columns[: budget.sink], columns[k - budget.recent :])
    first, last = (p.expand(b, g, -1) for p in parts)
    return torch.cat((first, middle + budget.sink, last), -1)


def _highest(scores: Float[Tensor, "*B K"], count: int) -> Int[Tensor, "*B M"]:
    """Where the highest scores are, ascending; of equal ones the first. A sort costs twenty times as much."""
    rows = scores.shape[:-1]
    if count == 0:
        return torch.zeros(*rows, 0, dtype=torch.long, device=scores.device)
    least = _least_of_highest(scores, count)
    stays = scores >= least
    if int(stays.sum()) > rows.numel() * count:
        above, equal = scores > least, scores == least
        stays = above | (equal & (equal.cumsum(-1) <= count - above.sum(-1, keepdim=True)))
    return stays.nonzero()[:, -1].view(*rows, count)


def _choose_uneven(budget: Budget, scores: Tensor, real: Tensor, seen: int | Tensor) -> Tensor:
    k = scores.shape[-1]
    n = real.sum(-1, keepdim=True)
    total = torch.as_tensor(seen, device=n.device).expand_as(n)
    wanted = torch.tensor([budget.count(max(1, int(t))) for t in total.flatten().tolist()], device=n.device).view_as(n)
    wanted = wanted.minimum(n)
    fixed = real & ~open_rows(budget, real)
    scores = (
        scores.to(torch.promote_types(scores.dtype, torch.float32))
        .masked_fill(fixed, float("inf"))
        .masked_fill(~real, float("-inf"))
    )
    order = scores.argsort(dim=-1, descending=True, stable=True)
    stays = torch.arange(k, device=scores.device) < wanted
    return packed(torch.where(stays, order, -1), least=1)
