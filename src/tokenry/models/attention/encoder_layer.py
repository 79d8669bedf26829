"""One layer of an encoder that normalises after each block, by the roles of its parts; biases apart from the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class EncoderLayer:
    """y = norm(x + output(attention(values(x)))), then last_norm(y + down(activation(up(y)))).

    Computes in 32-bit floats, whatever the weights are.

    Args:
        values: makes the vectors that attention mixes.
        output: takes the mixed vectors of all heads, side by side.
        norm: follows the attention and its residual.
        up: first half of the MLP.
        activation: element by element, 0 at 0.
        down: second half of the MLP.
        last_norm: follows the MLP and its residual.
    """

    values: nn.Linear
    output: nn.Linear
    norm: nn.LayerNorm
    up: nn.Linear
    activation: Activation
    down: nn.Linear
    last_norm: nn.LayerNorm

    def steps(self, x: Float[Tensor, "T E"], probs: Float[Tensor, "H T T"]) -> Steps:
        """Everything that the layer computes of its input, given the attention probabilities."""
        summed = x + self.mix(x, probs) + self.mixed_bias
        middle = normalised(self.norm, summed)
        rising = linear(self.up, middle)
        active = self.activation(rising)
        total = middle + linear(self.down, active)
        return Steps(self, x, probs, summed, middle, rising, active, total, normalised(self.last_norm, total))

    def mix(self, x: Float[Tensor, "T *K E"], probs: Float[Tensor, "H T T"]) -> Float[Tensor, "T *K E"]:
        """What attention makes of vectors at T places, without biases: linear in them, as often as there are K."""
        h, t, _ = probs.shape
        v = functional.linear(x, self.values.weight.float())
        by_head = v.reshape(t, -1, h, v.shape[-1] // h).permute(2, 0, 1, 3).flatten(2)
        mixed = (probs @ by_head).unflatten(2, (-1, v.shape[-1] // h)).permute(1, 2, 0, 3)
        return functional.linear(mixed.reshape(v.shape), self.output.weight.float())

    @property
    def mixed_bias(self) -> Float[Tensor, "E"]:
        """What the biases of values and output add to every token, since probabilities add up to one."""
        weight = self.output.weight.float()
        total = weight.new_zeros(weight.shape[0]) if self.output.bias is None else self.output.bias.float()
        return total if self.values.bias is None else total + weight @ self.values.bias.float()


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """What one layer computed of T tokens of one text.

    Shapes:
        x, summed, middle, total, out (T, E); rising, active (T, F); probs (H, T, T).

    Args:
        x: the layer's input.
        summed: input and attention together, before the first norm.
        middle: after that norm.
        rising: before the activation.
        active: after it.
        total: `middle` and MLP together, before the last norm.
        out: the layer's output.
    """

    layer: EncoderLayer
    x: Tensor
    probs: Tensor
    summed: Tensor
    middle: Tensor
    rising: Tensor
    active: Tensor
    total: Tensor
    out: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A classifier on the first token: last(activation(first(x_0)))."""

    first: nn.Linear
    activation: Activation
    last: nn.Linear


def linear(module: nn.Linear, x: Tensor) -> Tensor:
    """What a linear layer computes, in 32-bit floats."""
    return functional.linear(x, module.weight.float(), None if module.bias is None else module.bias.float())


def normalised(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """What a LayerNorm computes, in 32-bit floats."""
    bias = None if norm.bias is None else norm.bias.float()
    return functional.layer_norm(x, norm.normalized_shape, norm.weight.float(), bias, norm.eps)


def scale(norm: nn.LayerNorm, x: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
    """By what a LayerNorm multiplies centred vectors: its gain over the standard deviation of its input."""
    return norm.weight.float() * torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + norm.eps)
