"""From chunks back to tokens: smoothed and gated, added to what was there, read by each block, or word by word."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tokenry.segment.hierarchy.cuts import Cut, Seen, chosen, last_of, received, smoothed
from tokenry.segment.hierarchy.pooling import Pending, alike, canvases
from tokenry.segment.hierarchy.stream import Stack


@dataclass(slots=True)
class Held:
    """Of each row the state of its last complete chunk, and what the decoder remembers."""

    y: Tensor
    decoder: Any


class Unpool(nn.Module):
    """What gives states of chunks to tokens, and the decoder that then reads them.

    A token gets the state of the last chunk that is complete with it, and of none behind it.
    """

    def __init__(self, decoder: Stack, inner: int) -> None:
        super().__init__()
        self.decoder, self.inner = decoder, inner

    def begin(self, sequences: int) -> Any:
        """What is remembered before anything was read."""
        return Held(next(self.parameters()).new_zeros(sequences, self.inner), self.decoder.begin(sequences))

    @abstractmethod
    def read(
        self, y: Float[Tensor, "B M D"], there: Bool[Tensor, "B M"], x: Float[Tensor, "B N E"], seen: Seen, cut: Cut,
        memory: Any,
    ) -> Float[Tensor, "B N E"]:  # fmt: skip
        """Outputs of tokens with states x, from the states y of the chunks that are complete with them."""


class Smoothed(Unpool):
    """Chunks of which the model is not sure are mixed with those before them; the gate is 1 and has a gradient.

    Tokens get smoothed(y) times 1 with the gradient of c, which is p where a chunk was begun and 1 - p elsewhere, and
    W x on top, whose W begins at zero.
    """

    def __init__(self, decoder: Stack, width: int, inner: int) -> None:
        super().__init__(decoder, width)
        self.residual = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.residual.weight)

    def read(
        self, y: Float[Tensor, "B M D"], there: Bool[Tensor, "B M"], x: Float[Tensor, "B N E"], seen: Seen, cut: Cut,
        memory: Held | None,
    ) -> Float[Tensor, "B N E"]:  # fmt: skip
        p, _ = chosen(cut.p.unsqueeze(-1), cut.at)
        before = None if memory is None else memory.y
        with torch.autocast(x.device.type, enabled=False):
            made = smoothed(y[..., : self.inner].float(), p[..., 0].clamp_min(1e-4), before)
            u = received(made, cut.at, before)
            sure = torch.where(cut.at, cut.p, 1 - cut.p)
            u = u * (1 + sure - sure.detach()).unsqueeze(-1) + x.float() @ self.residual.weight.float().T
        if memory is not None:
            memory.y = last_of(made, there, memory.y)
        return self.decoder.read(u.to(x.dtype), seen.real, None if memory is None else memory.decoder)


class Added(Unpool):
    """Tokens get the state of the last complete chunk on top of their own."""

    def read(
        self, y: Float[Tensor, "B M D"], there: Bool[Tensor, "B M"], x: Float[Tensor, "B N E"], seen: Seen, cut: Cut,
        memory: Held | None,
    ) -> Float[Tensor, "B N E"]:  # fmt: skip
        u = _held(y, there, cut, memory)
        return self.decoder.read(x + u, seen.real, None if memory is None else memory.decoder)


class Crossed(Unpool):
    """Each block of the decoder attends to the one state of the last complete chunk, which is to add its value."""

    def __init__(self, decoder: Stack, width: int, inner: int) -> None:
        super().__init__(decoder, inner)
        self.values = nn.Linear(inner, width * len(decoder.blocks), bias=False)

    def read(
        self, y: Float[Tensor, "B M D"], there: Bool[Tensor, "B M"], x: Float[Tensor, "B N E"], seen: Seen, cut: Cut,
        memory: Held | None,
    ) -> Float[Tensor, "B N E"]:  # fmt: skip
        u = self.values(_held(y, there, cut, memory))
        return self.decoder.read(x, seen.real, None if memory is None else memory.decoder, u)


def _held(y: Tensor, there: Tensor, cut: Cut, memory: Held | None) -> Tensor:
    u = received(y, cut.at, None if memory is None else memory.y)
    if memory is not None:
        memory.y = last_of(y, there, memory.y)
    return u


@dataclass(slots=True)
class Spelling:
    """Of each row the states of the last complete word, and the bytes of the one that is being spelled."""

    y: Tensor
    pending: Pending


class Spelled(Unpool):
    """A small causal decoder of each word by itself: the states of the word before, then bytes.

    All words are decoded at once. Token by token, the word that is being spelled is read again with each byte.

    Args:
        each: states of a word.
        at_once: bytes are not read: all of a word are told from the states of the word before.
    """

    def __init__(self, decoder: Stack, width: int, inner: int, each: int, at_once: bool) -> None:
        super().__init__(decoder, inner)
        self.each, self.width = each, width
        self.into = nn.Linear(inner, width, bias=False)
        self.blank = nn.Parameter(torch.randn(width) * 0.02) if at_once else None

    def begin(self, sequences: int) -> Spelling:
        like = next(self.parameters())
        return Spelling(
            like.new_zeros(sequences, self.each * self.inner), Pending.none(sequences, like.new_zeros(self.width))
        )

    def read(
        self, y: Float[Tensor, "B M D"], there: Bool[Tensor, "B M"], x: Float[Tensor, "B N E"], seen: Seen, cut: Cut,
        memory: Spelling | None,
    ) -> Float[Tensor, "B N E"]:  # fmt: skip
        if not x.shape[1]:
            return x
        y = y.unflatten(1, (-1, self.each)).flatten(2)
        if memory is None:
            return self._spell(y, x, cut.at, seen.real)
        words, before = there[:, :: self.each], memory.y
        memory.y = last_of(y, words, before)
        x, at, real, where = memory.pending.before(x, cut.at, seen.real)
        # What is pending hangs on the word before, whose end is put in front.
        x, real = (torch.cat((torch.zeros_like(t[:, :1]), t), 1) for t in (x, real))
        first = torch.ones_like(at[:, :1])
        at, real = torch.cat((first, at), 1), real | torch.cat((first, torch.zeros_like(at)), 1)
        out = self._spell(torch.cat((before.unsqueeze(1), y), 1), x, at, real)
        return out.gather(1, (where + 1).unsqueeze(-1).expand(-1, -1, out.shape[-1]))

    def _spell(
        self, y: Float[Tensor, "B M D"], x: Float[Tensor, "B N E"], at: Bool[Tensor, "B N"], real: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B N E"]:
        """Each end of a word gets the output of the last state in front of the next word, and each byte its own."""
        n = at.shape[1]
        ends, there = chosen(torch.arange(n, device=x.device).expand_as(at).unsqueeze(-1), at)
        ends, row = ends[..., 0], there.nonzero()[:, 0]
        more = torch.cat((there[:, 1:], torch.zeros_like(there[:, :1])), 1)
        stop = torch.where(more, ends.roll(-1, 1), real.sum(1, keepdim=True))[there]
        begin = ends[there] + 1
        prefix = self.into(y[:, : there.shape[1]][there].unflatten(-1, (self.each, -1)))
        made = x.new_zeros(x.shape[0] * n, x.shape[-1])
        for some in alike(stop - begin):
            words, inside = canvases(x, begin[some], stop[some], row[some])
            if self.blank is not None:
                words = self.blank.to(x.dtype).expand_as(words)
            inside = torch.cat((inside.new_ones(len(inside), self.each), inside), 1)
            out = self.decoder.read(torch.cat((prefix[some], words), 1), inside)[:, self.each - 1 :]
            place = (row * n + begin - 1)[some].unsqueeze(1) + torch.arange(out.shape[1], device=x.device)
            inside = inside[:, self.each - 1 :]
            # Inside autocast outputs may be of another type.
            made[place[inside]] = out[inside].to(made.dtype)
        return made.unflatten(0, (-1, n))
