"""LSSAR: attention by softplus, scaled with the number of tokens and sharpened by a power, for texts of any length."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize, softplus

from tokenry.attend.layers.headed import HeadedLayer, rotated, slices
from tokenry.attend.layers.rows import Rows
from tokenry.core.card import Card
from tokenry.core.fields import between, choice, setting

FIRST = 3
"""Tokens of a text that are not sharpened against the mean."""


@dataclass(eq=False, repr=False, kw_only=True)
class Softplus(HeadedLayer):
    """Weigh the tokens before by softplus instead of exp, and sharpen what is above the mean.

    What it does
        q and k have unit length. Token i sees N = i + 1 tokens and gives them
        a = softplus((log D log N) q k), a <- a / sum(a), which is LSSA, and then
        a <- relu(a N - offset)^power, a <- a / sum(a), which is LSSAR. N a is 1 at the mean, so that what is below it
        is not read, however many tokens there are. The offset is 0 for the first 3 tokens of a text. A token that
        finds all others equally near reads nothing.
    Where it acts
        As the attention of a model that is trained with it. With `sharpen=reading` a model learns as LSSA and is
        sharpened when it is used; small models that learned so were much worse.
    Shapes
        x (B, N, E) -> (B, N, E); a memory holds keys and values of all tokens.
    Guarantees
        Weights of a token add up to 1, or are all 0. `power=1,offset=0` is LSSA. `kernel=exp`, `scale=root`,
        `unit=false`, `power=1` and `offset=0` together are ordinary softmax attention. Read whole, in pieces and
        token by token are the same, and padding changes nothing: N counts a row's own tokens. Powers are taken in
        logarithms of 32-bit floats, so that they neither overflow nor vanish.
    Raises
        InvalidValue: a width that the heads do not divide into even parts.
    Deviations
        The sum of the powers has no small number added: powers are relative to the largest one.
    Relations
        `test_time_regression` with `regressor=local_constant` is the same layer with softmax. `kernel` holds what the
        paper compares with: relu and sigmoid.
    """

    card = Card(
        title="Softplus Attention with Re-weighting Boosts Length Extrapolation in Large Language Models",
        year=2025,
        url="https://arxiv.org/abs/2501.13428",
        summary="attention by softplus with a scale of the length, sharpened by a power",
        action="weigh",
        granularity="token",
        evidence="query",
        trial={"heads": 2},
        training=True,
        claims=(
            "trained on rows of 128 characters, at power 15 its loss at 1,024 is below that of LSSA, and that below "
            "softmax's; it rises with the length all the same, half as much as softmax's",
        ),
        deviations=("no small number is added to the sum of the powers, which are relative to the largest one",),
    )

    power: float = between(0.1, 1000.0, default=15.0, doc="exponent of the sharpening")
    offset: float = between(0.0, 100.0, default=1.0, doc="what is taken off a weight relative to the mean")
    sharpen: str = choice("always", "reading", default="always", doc="whether training is sharpened too")
    kernel: str = choice("softplus", "exp", "relu", "sigmoid", default="softplus", doc="what makes weights of products")
    scale: str = choice("length", "root", default="length", doc="of products: log D log N, or one over the root of D")
    unit: bool = setting(True, doc="queries and keys of unit length")
    rotary: bool = setting(True, doc="positions by rotation of queries and keys")

    def whole(self, x: Float[Tensor, "B N E"]) -> Float[Tensor, "B N E"]:
        places = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
        q, k, v = self._placed(x, places)
        return self.joined(self._read(q, k, v, places), x)

    def begin(self, sequences: int) -> Rows:
        return Rows(sequences)

    def append(self, x: Float[Tensor, "B N E"], memory: Rows, real: Bool[Tensor, "B N"]) -> Float[Tensor, "B N E"]:
        places = memory.next(real)
        q, k, v = self._placed(x, places)
        memory.append(k, v, real=real)
        k, v = memory.all()
        return self.joined(self._read(q, k, v, places), x)

    def _placed(self, x: Float[Tensor, "B N E"], places: Int[Tensor, "#B N"]) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.split(x)
        if self.unit:
            q, k = normalize(q.float(), dim=-1).to(q.dtype), normalize(k.float(), dim=-1).to(k.dtype)
        if self.rotary:
            q, k = (rotated(part, places.unsqueeze(1)) for part in (q, k))
        return q, k, v

    def _read(
        self, q: Float[Tensor, "B H Q D"], k: Float[Tensor, "B H K D"], v: Float[Tensor, "B H K D"],
        places: Int[Tensor, "#B Q"],
    ) -> Float[Tensor, "B H Q D"]:  # fmt: skip
        """What queries at some places read, with few products at a time."""
        keys, values, parts = k.float().mT, v.float(), []
        for some in slices(q.shape[2], q.shape[0] * q.shape[1] * k.shape[2]):
            parts.append(self.weights(q[:, :, some].float() @ keys, places[:, some]) @ values)
        return torch.cat(parts, 2)

    def weights(self, products: Float[Tensor, "B H Q K"], places: Int[Tensor, "#B Q"]) -> Float[Tensor, "B H Q K"]:
        """What queries at some places give to the keys, of their products with them."""
        at = torch.arange(products.shape[-1], device=products.device)
        places = places[:, None, :, None]
        seen, count = at <= places, (places + 1).float()
        d = self.project.in_features // self.heads
        scale = math.log(d) * count.log() if self.scale == "length" else count.new_tensor(d**-0.5)
        given = self._positive(products * scale, seen)
        given = given / given.sum(-1, keepdim=True).clamp_min(torch.finfo(given.dtype).tiny)
        if (self.power == 1 and self.offset == 0) or (self.sharpen == "reading" and self.training):
            return given
        offset = torch.where(places < FIRST, 0.0, self.offset)
        above = (given * count - offset).clamp_min(0)
        there = above > 0
        logs = torch.where(there, above, 1.0).log() * self.power
        logs = logs.masked_fill(~there, torch.finfo(logs.dtype).min)
        return torch.where(there, logs.softmax(-1), 0.0)

    def _positive(self, scores: Float[Tensor, "B H Q K"], seen: Bool[Tensor, "#B 1 Q K"]) -> Float[Tensor, "B H Q K"]:
        if self.kernel == "exp":
            return scores.masked_fill(~seen, float("-inf")).softmax(-1)
        made = {"softplus": softplus, "relu": torch.relu, "sigmoid": torch.sigmoid}[self.kernel](scores)
        return made.masked_fill(~seen, 0.0)
