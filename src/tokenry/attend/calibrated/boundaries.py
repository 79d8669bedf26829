"""Where a text falls into chunks: what attention says, and a small predictor that learns it from keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity, max_pool1d, pad

from tokenry.attend.calibrated.known import OfModel, texts
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import natural, positive
from tokenry.core.progress import counted
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.rotary import Rotary, turned
from tokenry.models.attention.site import Site

LONGEST = 4096
"""Tokens of a sample, at most: its labels need every attention probability."""


@dataclass(eq=False, repr=False, kw_only=True)
class Boundaries(OfModel):
    """Say of every token how likely a chunk ends with it, by the keys of one layer around it.

    The `window` keys up to the token and the `window` after it are each pooled by attention, l and r; a perceptron
    reads [l, r, |l - r|, l r, cos(l, r)]. Keys are those at position 0, so that places do not matter.
    """

    room: ClassVar[str] = "attend"

    layer: int = natural(1, doc="layer whose keys are read")
    window: int = positive(4, doc="keys on either side")
    hidden: int = positive(64, doc="width of the predictor")
    apart: int = positive(8, doc="tokens on either side of a boundary that are none")

    @classmethod
    def name(cls) -> str:
        return "boundaries"

    def make(self, *, width: int) -> None:
        super().make()
        self.enter = nn.Linear(width, 2 * self.hidden)
        self.place = nn.Parameter(torch.randn(self.window, self.hidden) * 0.02)
        self.ask = nn.Parameter(torch.randn(self.hidden) / self.hidden**0.5)
        self.judge = nn.Sequential(nn.Linear(4 * self.hidden + 1, self.hidden), nn.GELU(), nn.Linear(self.hidden, 1))

    def forward(self, keys: Float[Tensor, "N E"]) -> Float[Tensor, "N"]:
        """The logit of a boundary behind each token."""
        k, v = self.enter(keys).chunk(2, -1)
        n, w = len(keys), self.window
        around = torch.arange(n, device=keys.device).unsqueeze(1) + torch.arange(1 - w, 1 + w, device=keys.device)
        there = (around >= 0) & (around < n)
        at = around.clamp(0, n - 1)
        left, right = (self._pooled(k[at[:, s]], v[at[:, s]], there[:, s]) for s in (slice(0, w), slice(w, 2 * w)))
        alike = cosine_similarity(left, right, dim=-1).unsqueeze(-1)
        fused = torch.cat((left, right, (left - right).abs(), left * right, alike), -1)
        return self.judge(fused).squeeze(-1)

    def _pooled(self, k: Tensor, v: Tensor, there: Bool[Tensor, "N W"]) -> Float[Tensor, "N D"]:
        logits = (k + self.place) @ self.ask
        weights = logits.masked_fill(~there, -1e4).softmax(-1) * there
        return (weights.unsqueeze(-1) * v).sum(1)

    def cut(self, keys: Float[Tensor, "N E"], count: int) -> Int[Tensor, "C"]:
        """The first tokens of at most `count` chunks, 0 included."""
        scores = self(keys.to(self.ask.dtype))
        return starts(scores, count - 1, self.apart, floor=0.0)

    @classmethod
    def fit(
        cls, model: Any, samples: Sequence[Int[Tensor, "T"]], *, chunk: int = 64, ratio: float = 1.1, steps: int = 300,
        rate: float = 1e-3, seed: int = 0, **fields: Any,
    ) -> Boundaries:  # fmt: skip
        """Learn from a model's own attention; the model stays as it is.

        Args:
            samples: ids (T) of texts, each of at most `LONGEST` tokens.
            chunk: tokens of a chunk on average, which says how many boundaries a sample has at most.
            ratio: of the attention to the two sides of a place, above which it may be a boundary.
            steps: of AdamW over all samples, with `rate` falling to zero.

        Raises:
            InvalidValue: no samples, one that is shorter than two chunks or too long, or none with a boundary; a
                setting out of its range.
            UnsupportedModel: the model cannot be reproduced exactly.
        """
        made = cls(**fields)
        if not (1 <= chunk <= LONGEST // 2 and steps >= 1 and ratio >= 1 and rate > 0):
            raise InvalidValue(
                f"{cls.name()}: chunk must be in [1, {LONGEST // 2}], steps and ratio at least 1 and rate above 0; "
                f"got chunk={chunk}, steps={steps}, ratio={ratio} and rate={rate}."
            )
        samples = texts(cls.name(), samples, 2 * chunk, LONGEST)
        learnt = [made.examples(model, ids, chunk, ratio) for ids in counted(samples, "reading sample", len(samples))]
        made.build(width=learnt[0][0].shape[1], generator=torch.Generator().manual_seed(seed))
        made.remember(model)
        positive = sum(int(labels.sum()) for _, labels in learnt)
        if not positive:
            raise InvalidValue(f"{cls.name()}: samples must hold a boundary; none had a ratio above {ratio}.")
        weight = torch.tensor(sum(len(labels) for _, labels in learnt) / positive - 1)
        optimiser = torch.optim.AdamW(made.parameters(), lr=rate)
        with torch.enable_grad():
            for step in counted(range(steps), "step", steps):
                optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
                keys, labels = learnt[step % len(learnt)]
                optimiser.zero_grad()
                binary_cross_entropy_with_logits(made(keys), labels.float(), pos_weight=weight).backward()
                optimiser.step()
        return made.eval()

    @torch.no_grad()
    def examples(
        self, model: Any, ids: Int[Tensor, "T"], chunk: int, ratio: float
    ) -> tuple[Float[Tensor, "T E"], Bool[Tensor, "T"]]:
        """The keys of a text, and where attention has its boundaries."""
        Rotary.of(model)
        found: dict[str, Tensor] = {}
        given = torch.zeros(2, len(ids), dtype=torch.float64)

        def attend(site: Site) -> Tensor:
            if site.kind == "self":
                if site.layer == self.layer:
                    found["keys"] = unturned(site)[0]
                given.add_(torch.stack(masses(site, self.window)))
            return site.dense()

        with ModelAdapter.of(model).attached_to(lambda _: attend):
            model(input_ids=ids[None].to(model.device), use_cache=False)
        if "keys" not in found:
            raise InvalidValue(f"{self.name()}: layer must be one of the model's; got {self.layer}.")
        labels = torch.zeros(len(ids), dtype=torch.bool)
        labels[boundaries(given[0], given[1], len(ids) // chunk, ratio, self.apart)] = True
        return found["keys"].float().cpu(), labels


def masses(site: Site, window: int) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """What the queries behind both sides of each token give to the keys up to it and to those after it.

    Mean over heads, sums over the queries more than `window` tokens behind it, for one sequence without padding.
    """
    n = site.k.shape[2]
    past = torch.zeros(n, dtype=torch.float64)
    after = torch.zeros(n, dtype=torch.float64)
    for some, part in site.streamed():
        probs = part.probs()[0].double().mean(0).cpu()
        probs = pad(probs, (0, n - probs.shape[1]))
        sums = pad(probs.cumsum(1), (window + 1, window))
        sums[:, window + n + 1 :] = sums[:, window + n : window + n + 1]
        up_to = sums[:, window + 1 : window + 1 + n] - sums[:, 1 : 1 + n]
        behind = sums[:, 2 * window + 1 :] - sums[:, window + 1 : window + 1 + n]
        asks = torch.arange(some.start, some.stop).unsqueeze(1) > torch.arange(n) + window
        past += (up_to * asks).sum(0)
        after += (behind * asks).sum(0)
    return past, after


def boundaries(
    past: Float[Tensor, "N"], after: Float[Tensor, "N"], count: int, ratio: float, apart: int
) -> Int[Tensor, "C"]:
    """The tokens behind which attention differs most from one side to the other, where it does by more than `ratio`."""
    tiny = torch.finfo(past.dtype).tiny
    asked = (past > 0) & (after > 0)
    ratios = torch.where(asked, past.maximum(after) / past.minimum(after).clamp_min(tiny), 1.0)
    return starts(ratios, count, apart, floor=ratio)[1:] - 1


def starts(scores: Float[Tensor, "N"], count: int, apart: int, *, floor: float) -> Int[Tensor, "C"]:
    """0, and the tokens after the highest scores above a floor, each the highest among `apart` on either side."""
    highest = max_pool1d(scores[None, None].float(), 2 * apart + 1, stride=1, padding=apart)[0, 0]
    peaks = (scores.float() >= highest) & (scores > floor)
    peaks[-1] = False
    ranked = scores.masked_fill(~peaks, float("-inf")).argsort(descending=True, stable=True)
    best = ranked[: min(max(0, count), int(peaks.sum()))].sort().values
    return torch.cat((best.new_zeros(1), best + 1))


def unturned(site: Site) -> Float[Tensor, "B K E"]:
    """The keys of all heads beside each other, as if every token stood at position 0."""
    return turned(site, site.k, -site.positions()).transpose(1, 2).flatten(2)
