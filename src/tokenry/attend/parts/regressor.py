"""How a layer learns values from keys of its own text, and what it then says to a query."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokenry.attend.layers.aligned import decays
from tokenry.attend.layers.delta import CHUNK, learned
from tokenry.attend.layers.headed import slices
from tokenry.attend.layers.rows import Rows
from tokenry.core.card import Card
from tokenry.core.fields import between, choice, setting
from tokenry.core.method import Part


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Keys with their values, and the queries at their places; all in 32-bit floats or more.

    Args:
        rate: how far each example moves what is learned, in (0, 1).
        decay: logarithm of what is left of all examples before.
        temperature: of products with queries, for each head.
    """

    q: Float[Tensor, "B H N D"]
    k: Float[Tensor, "B H N D"]
    v: Float[Tensor, "B H N Dv"]
    rate: Float[Tensor, "B H N"]
    decay: Float[Tensor, "B H N"]
    temperature: Float[Tensor, "H"]

    def only(self, real: Bool[Tensor, "B N"]) -> Examples:
        """The same with padding that teaches nothing and lets nothing fade."""
        there = real.unsqueeze(1)
        wide = there.unsqueeze(-1)
        return replace(
            self, k=torch.where(wide, self.k, 0), v=torch.where(wide, self.v, 0),
            rate=torch.where(there, self.rate, 0), decay=torch.where(there, self.decay, 0),
        )  # fmt: skip


@dataclass
class Learnt:
    """What was learnt so far: some tensors, none before the first example."""

    parts: tuple[Tensor, ...] = ()


class Regressor(Part):
    """How values are learned from keys."""

    room: ClassVar[str] = "attend"
    uses: ClassVar[frozenset[str]] = frozenset()
    """Which of `rate`, `decay` and `temperature` it looks at."""

    def begin(self, sequences: int) -> Any:
        """What is known before the first example."""
        return Learnt()

    @abstractmethod
    def append(self, e: Examples, memory: Any, real: Bool[Tensor, "B N"]) -> Float[Tensor, "B H N Dv"]:
        """Learn the real examples, one by one, and answer each query with what is known after its example."""

    def whole(self, e: Examples) -> Float[Tensor, "B H N Dv"]:
        """All answers for examples with none before them."""
        real = torch.ones(e.k.shape[0], e.k.shape[2], dtype=torch.bool, device=e.k.device)
        return self.append(e, self.begin(len(e.k)), real)


class Linear(Regressor):
    """A matrix M that is moved by every example; the answer is M q."""

    corrects: ClassVar[bool] = False

    def append(self, e: Examples, memory: Learnt, real: Bool[Tensor, "B N"]) -> Float[Tensor, "B H N Dv"]:
        e = e.only(real)
        before = memory.parts[0] if memory.parts else e.k.new_zeros(*e.k.shape[:2], e.v.shape[-1], e.k.shape[-1])
        rate, decay = self.moves(e)
        out, after = learned(e.q, e.k, e.v, rate, decay, before, corrects=self.corrects)
        memory.parts = (after,)
        return out

    def moves(self, e: Examples) -> tuple[Float[Tensor, "B H N"], Float[Tensor, "B H N"]]:
        """Its rates and the logarithms of its decays."""
        rate = e.rate if "rate" in self.uses else torch.ones_like(e.rate)
        return rate, e.decay if "decay" in self.uses else torch.zeros_like(e.decay)


@dataclass(frozen=True, kw_only=True)
class LinearAttention(Linear):
    """Add v k' for each example: one step of gradient descent from zero over all of them."""

    part = Card(
        title="Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention",
        year=2020,
        url="https://arxiv.org/abs/2006.16236",
        summary="M <- M + v k', as if no two keys were alike",
    )


@dataclass(frozen=True, kw_only=True)
class GatedLinear(Linear):
    """Add v k' for each example while all before fade: M <- g M + v k'."""

    part = Card(
        title="Gated Linear Attention Transformers with Hardware-Efficient Training",
        year=2023,
        url="https://arxiv.org/abs/2312.06635",
        summary="M <- g M + v k', with a decay that each token says",
        deviations=("one decay for each head and token, as in Mamba-2, where the paper has one for each channel",),
    )

    uses = frozenset({"decay"})


@dataclass(frozen=True, kw_only=True)
class DeltaRule(Linear):
    """Correct what M says of a key: one step of gradient descent for each example."""

    part = Card(
        title="Parallelizing Linear Transformers with the Delta Rule over Sequence Length",
        year=2024,
        url="https://arxiv.org/abs/2406.06484",
        summary="M <- M + rate (v - M k) k'",
    )

    uses = frozenset({"rate"})
    corrects = True


@dataclass(frozen=True, kw_only=True)
class GatedDelta(Linear):
    """Correct what is left of M: M <- g M (1 - rate k k') + rate v k'."""

    part = Card(
        title="Gated Delta Networks: Improving Mamba2 with Delta Rule",
        year=2024,
        url="https://arxiv.org/abs/2412.06464",
        summary="the delta rule on a matrix that fades",
    )

    uses = frozenset({"rate", "decay"})
    corrects = True


@dataclass(frozen=True, kw_only=True)
class Longhorn(Linear):
    """Correct M by the step that is best after it was made: a rate of b / (1 + b |k|^2)."""

    part = Card(
        title="Longhorn: State Space Models are Amortized Online Learners",
        year=2024,
        url="https://arxiv.org/abs/2407.14207",
        summary="the delta rule with an implicit step",
        deviations=("one rate for each head and token, where the paper has one for each channel",),
    )

    uses = frozenset({"rate"})
    corrects = True

    def moves(self, e: Examples) -> tuple[Float[Tensor, "B H N"], Float[Tensor, "B H N"]]:
        return e.rate / (1 + e.rate * e.k.square().sum(-1)), torch.zeros_like(e.decay)


@dataclass(frozen=True, kw_only=True)
class RecursiveLeastSquares(Regressor):
    """Answer with the matrix that fits all examples best.

    What it does
        M = (sum g v k')(sum g k k' + penalty)^-1, the solution of least squares over all examples up to the query; g
        is what is left of an example. A step adds to both sums and solves for one query.
    Guarantees
        Without fading it is the recursion of Sherman and Morrison from a first inverse of 1 / penalty; with `fades` it
        is their recursion with forgetting, in which the penalty fades as well.
    Relations
        What `delta_rule` goes towards and `linear_attention` takes for granted.
    """

    part = Card(
        title="Uncovering mesa-optimization algorithms in Transformers",
        year=2023,
        url="https://arxiv.org/abs/2309.05858",
        summary="the best matrix for all examples so far",
        deviations=("a system is solved for each query, where the recursion carries the inverse along",),
    )

    penalty: float = between(1e-8, 1e8, default=1e-2, doc="on the squares of the matrix")
    forgets: bool = setting(False, doc="whether examples fade")
    fades: bool = setting(False, doc="whether the penalty fades with them")

    @property
    def uses(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"decay"} if self.forgets else ())

    def append(self, e: Examples, memory: Learnt, real: Bool[Tensor, "B N"]) -> Float[Tensor, "B H N Dv"]:
        e = e.only(real)
        if not self.forgets:
            e = replace(e, decay=torch.zeros_like(e.decay))
        d, dv = e.k.shape[-1], e.v.shape[-1]
        zeros = e.k.new_zeros
        gram, cross, penalty = memory.parts or (
            zeros(*e.k.shape[:2], d, d), zeros(*e.k.shape[:2], dv, d), zeros(e.k.shape[:2]) + self.penalty
        )  # fmt: skip
        outs = []
        size = min(CHUNK, max(1, (1 << 24) // (e.k.shape[0] * e.k.shape[1] * d * d)))
        for q, k, v, decay in zip(*(t.split(size, 2) for t in (e.q, e.k, e.v, e.decay)), strict=True):
            left, since = decays(decay), decay.cumsum(-1).exp()
            kept = penalty.unsqueeze(-1) * since if self.fades else penalty.unsqueeze(-1).expand_as(since)
            pairs = (k.unsqueeze(-1) * k.unsqueeze(-2)).flatten(-2)
            grams = (left @ pairs).unflatten(-1, (d, d)) + since[..., None, None] * gram.unsqueeze(2)
            ridge = kept[..., None, None] * torch.eye(d, device=k.device, dtype=k.dtype)
            x = torch.linalg.solve(grams + ridge, q.unsqueeze(-1)).squeeze(-1)
            outs.append((left * (x @ k.mT)) @ v + since.unsqueeze(-1) * torch.einsum("bhvd,bhnd->bhnv", cross, x))
            last = left[..., -1, :].unsqueeze(-1)
            gram, penalty = grams[:, :, -1], kept[..., -1]
            cross = since[..., -1, None, None] * cross + (last * v).mT @ k
        memory.parts = (gram, cross, penalty)
        return torch.cat(outs, 2)


class Local(Regressor):
    """All examples are kept, and those near a query weigh more: exp(q k / temperature), or of their distance."""

    uses = frozenset({"temperature"})
    kernel: str

    def begin(self, sequences: int) -> Rows:
        return Rows(sequences)

    def append(self, e: Examples, memory: Rows, real: Bool[Tensor, "B N"]) -> Float[Tensor, "B H N Dv"]:
        places = memory.next(real)
        memory.append(e.k, e.v, real=real)
        k, v = memory.all()
        outs = []
        for some in slices(e.q.shape[2], e.q.shape[0] * e.q.shape[1] * k.shape[2] * self.copies):
            q = e.q[:, :, some]
            scores = q @ k.mT
            if self.kernel == "distance":
                scores = scores - 0.5 * k.square().sum(-1).unsqueeze(-2)
            later = torch.arange(k.shape[2], device=k.device) > places[:, None, some, None]
            scores = scores / e.temperature.view(-1, 1, 1)
            outs.append(self.answer(q, k, v, scores.masked_fill(later, float("-inf")).softmax(-1)))
        return torch.cat(outs, 2)

    @property
    def copies(self) -> int:
        """How often the products of queries and keys exist at once, about."""
        return 1

    @abstractmethod
    def answer(self, q: Tensor, k: Tensor, v: Tensor, weights: Float[Tensor, "B H Q K"]) -> Float[Tensor, "B H Q Dv"]:
        """What is said to queries, by the weights of the examples, which add up to 1."""


@dataclass(frozen=True, kw_only=True)
class LocalConstant(Local):
    """Answer with the weighted mean of the values, which is softmax attention."""

    part = Card(
        title="On Estimating Regression (Nadaraya-Watson)",
        year=1964,
        url="https://doi.org/10.1137/1109020",
        summary="softmax attention: the mean of values by the nearness of keys",
    )

    kernel: str = choice("product", "distance", default="product", doc="nearness: products, or distances of keys")

    def answer(self, q: Tensor, k: Tensor, v: Tensor, weights: Float[Tensor, "B H Q K"]) -> Float[Tensor, "B H Q Dv"]:
        return weights @ v


@dataclass(frozen=True, kw_only=True)
class LocalLinear(Local):
    """Fit a plane to the examples around each query and answer with its value there.

    What it does
        min over a and B of sum w_i |v_i - a - B (k_i - q)|^2 + penalty |B|^2, with weights w that add up to 1; the
        answer is a.
    Guarantees
        Where v is an affine function of k it is met exactly, as the penalty goes to 0. A large penalty gives
        `local_constant`.
    Relations
        The new layer of the paper, of order 1; `local_constant` is that of order 0.
    """

    part = Card(
        title="Test-time regression: a unifying framework for designing sequence models with associative memory",
        year=2025,
        url="https://arxiv.org/abs/2501.12352",
        summary="a plane through the examples around each query",
        deviations=("orders above 1 are left out: they have D^2 coefficients and more for each query",),
    )

    kernel: str = choice("product", "distance", default="product", doc="nearness: products, or distances of keys")
    penalty: float = between(1e-8, 1e12, default=1e-2, doc="on the squares of the slope")

    @property
    def copies(self) -> int:
        return 16

    def answer(self, q: Tensor, k: Tensor, v: Tensor, weights: Float[Tensor, "B H Q K"]) -> Float[Tensor, "B H Q Dv"]:
        d = k.shape[-1]
        middle, mean = weights @ k, weights @ v
        pairs = (k.unsqueeze(-1) * k.unsqueeze(-2)).flatten(-2)
        spread = (weights @ pairs).unflatten(-1, (d, d)) - middle.unsqueeze(-1) * middle.unsqueeze(-2)
        ridge = self.penalty * torch.eye(d, device=k.device, dtype=k.dtype)
        x = torch.linalg.solve(spread + ridge, (q - middle).unsqueeze(-1)).squeeze(-1)
        along = x @ k.mT - (x * middle).sum(-1, keepdim=True)
        tilted = weights * along
        return mean + tilted @ v - tilted.sum(-1, keepdim=True) * mean
