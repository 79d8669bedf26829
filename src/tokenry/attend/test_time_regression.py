"""Test-time regression: a layer that learns values from keys while it reads, by a regressor of choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from tokenry.attend.layers.convolution import CausalConvolution
from tokenry.attend.layers.headed import HeadedLayer, rotated
from tokenry.attend.parts.regressor import Examples, RecursiveLeastSquares, Regressor
from tokenry.core.card import Card
from tokenry.core.fields import choice, natural, part, setting
from tokenry.core.learned import LearnedPart
from tokenry.models.attention.site import wide


@dataclass
class Read:
    """What a layer remembers: what its regressor learnt, the last keys, and how many tokens there were."""

    learnt: Any
    lengths: Int[Tensor, "B"]
    keys: Float[Tensor, "B S E"] | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class TestTimeRegression(HeadedLayer):
    """Fit a function from the keys to the values of the text so far and ask it at the query.

    What it does
        m_t = argmin over m of sum over i <= t of w_i |v_i - m(k_i)|^2 / 2, and the output is m_t(q_t). What m may be,
        how examples weigh and how it is found is the `regressor`: the best matrix, one step of gradient descent for
        each token or for all at once, a network, the mean of values near the query, or a plane around it. A short
        convolution lets a key know the tokens before it, so that one layer recalls what followed them.
    Where it acts
        As the attention of a model that is trained with it.
    Shapes
        x (B, N, E) -> (B, N, E); a memory holds matrices (B, H, D, D), or keys and values where the regressor is local.
    Guarantees
        Read whole, in pieces and token by token are the same, and padding changes nothing. All is computed in 32-bit
        floats. `regressor=local_constant,conv=0,unit=false,norm=false` is softmax attention.
    Raises
        InvalidValue: a width that the heads do not divide into even parts.
    Deviations
        With `unit` the temperature is one over the root of D, and the root of D otherwise, unless it is learned.
        Outputs of heads are brought to equal size where `norm` says so.
    Relations
        `softplus` replaces the weights of softmax and `nats_linear` has two of these regressors in one layer.
    """

    __test__ = False
    card = Card(
        title="Test-time regression: a unifying framework for designing sequence models with associative memory",
        year=2025,
        url="https://arxiv.org/abs/2501.12352",
        summary="a regressor learns values of keys while the text is read",
        action="summarise",
        granularity="token",
        evidence="key",
        trial={"heads": 2, "regressor": "gated_delta"},
        training=True,
        claims=(
            "untrained, with random keys of width 32, least squares recalls 24 pairs, and linear attention is off by "
            "about the root of (n - 1) / 32 of n pairs; the delta rule lies between",
            "one layer that was trained to recall 32 pairs at width 32 gives all values with softmax, 85 % with least "
            "squares and 37 % with linear attention; without the convolution 5 %",
        ),
        deviations=(
            "the temperature is one over the root of D with unit=true, and the root of D otherwise, unless learned",
            "outputs of heads are brought to equal size, which norm=false leaves out",
        ),
    )

    regressor: Regressor = part(RecursiveLeastSquares(), doc="how values are learned from keys")
    conv: int = natural(4, doc="tokens that a key is made of; 0 or 1 for its own alone")
    unit: bool = setting(True, doc="queries and keys of unit length")
    rotary: bool = setting(False, doc="positions by rotation of queries and keys")
    norm: bool = setting(True, doc="outputs of heads of equal size")
    temperature: str = choice("root", "learned", default="root", doc="of products, where the regressor has one")

    def make(self, *, width: int) -> None:
        super().make(width=width)
        d, uses = width // self.heads, self.regressor.uses
        if isinstance(self.regressor, LearnedPart):
            self.regressor.build(heads=self.heads, width=d)
        if self.conv > 1:
            self.convolution = CausalConvolution(self.conv, width)
        if "rate" in uses:
            self.rates = nn.Linear(width, self.heads)
        if "decay" in uses:
            self.fading = nn.Linear(width, self.heads)
            self.pace = nn.Parameter(torch.linspace(0.01, 0.5, self.heads).log())
        if "temperature" in uses and self.temperature == "learned":
            self.warmth = nn.Parameter(torch.full((self.heads,), self._root(d)).log())
        if self.norm:
            self.size = nn.RMSNorm(d)

    def whole(self, x: Float[Tensor, "B N E"]) -> Float[Tensor, "B N E"]:
        keys = None if self.conv < 2 else self.convolution(self._keys(x))
        places = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
        return self._joined(self.regressor.whole(self._examples(x, keys, places)), x)

    def begin(self, sequences: int) -> Read:
        return Read(self.regressor.begin(sequences), torch.zeros(sequences, dtype=torch.long))

    def append(self, x: Float[Tensor, "B N E"], memory: Read, real: Bool[Tensor, "B N"]) -> Float[Tensor, "B N E"]:
        keys = None
        if self.conv > 1:
            keys, memory.keys = self.convolution.append(self._keys(x), memory.keys, real)
        memory.lengths = memory.lengths.to(x.device)
        places = memory.lengths.unsqueeze(1) + torch.arange(x.shape[1], device=x.device)
        memory.lengths = memory.lengths + real.sum(1)
        return self._joined(self.regressor.append(self._examples(x, keys, places), memory.learnt, real), x)

    def _keys(self, x: Float[Tensor, "B N E"]) -> Float[Tensor, "B N E"]:
        return x @ self.project.weight.chunk(3)[1].T

    def _joined(self, y: Float[Tensor, "B H N D"], like: Tensor) -> Float[Tensor, "B N E"]:
        return self.joined(self.size(y.to(like.dtype)) if self.norm else y, like)

    def _examples(
        self, x: Float[Tensor, "B N E"], keys: Float[Tensor, "B N E"] | None, places: Int[Tensor, "#B N"]
    ) -> Examples:
        q, k, v = (wide(t) for t in self.split(x))
        if keys is not None:
            k = wide(keys.unflatten(-1, (self.heads, -1)).transpose(1, 2))
        if self.unit:
            q, k = normalize(q, dim=-1), normalize(k, dim=-1)
        if self.rotary:
            q, k = rotated(q, places.unsqueeze(1)), rotated(k, places.unsqueeze(1))
        uses, none = self.regressor.uses, q.new_zeros(q.shape[:3])
        rate = wide(self.rates(x)).sigmoid().mT if "rate" in uses else none + 1
        decay = none
        if "decay" in uses:
            decay = -(wide(self.pace).exp() * softplus(wide(self.fading(x)))).mT
        warmth = q.new_full((self.heads,), self._root(q.shape[-1]))
        if "temperature" in uses and self.temperature == "learned":
            warmth = wide(self.warmth).exp()
        return Examples(q, k, v, rate, decay, warmth)

    def _root(self, d: int) -> float:
        return float(d ** (-0.5 if self.unit else 0.5))
