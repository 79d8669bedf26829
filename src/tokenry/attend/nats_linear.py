"""NAtS-L: softmax attention and a gated delta rule in one layer, between which each head sends every chunk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import normalize, pad, silu, softplus

from tokenry.attend.layers.convolution import CausalConvolution
from tokenry.attend.layers.delta import learned_chunk, learned_step
from tokenry.attend.layers.headed import slices
from tokenry.attend.layers.layer import CausalLayer
from tokenry.attend.layers.routed import chosen, linear_branch, softmax_branch
from tokenry.attend.layers.rows import Rows
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import choice, positive, setting
from tokenry.models.attention.site import wide


@dataclass
class Hybrid:
    """What a layer remembers of B sequences; the tokens of the chunk that is not whole yet are in both branches.

    Args:
        kept: keys and values of chunks that softmax attention keeps, for each sequence and linear head.
        own: those of the chunk at hand, in the heads of softmax attention.
        state: what the delta rule knows, without the chunk at hand but faded through it.
        running: the same with it.
        pooled: the sum of the chunk's inputs.
        recent: the last inputs of the convolutions.
    """

    kept: Rows
    own: Rows
    state: Float[Tensor, "B G Dv D"] | None = None
    running: Float[Tensor, "B G Dv D"] | None = None
    pooled: Float[Tensor, "B E"] | None = None
    recent: dict[str, Tensor | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What both branches see of some tokens: G linear heads with `each` softmax heads of the same vectors."""

    q: Float[Tensor, "B G N D"]
    k: Float[Tensor, "B G N D"]
    v: Float[Tensor, "B G N Dv"]
    rate: Float[Tensor, "B G N"]
    decay: Float[Tensor, "B G N"]
    queries: Float[Tensor, "B H N d"]
    keys: Float[Tensor, "B H N d"]
    values: Float[Tensor, "B H N dv"]

    def at(self, some: slice) -> Seen:
        """Some of the tokens."""
        return Seen(*(getattr(self, name)[:, :, some] for name in self.__slots__))


@dataclass(eq=False, repr=False, kw_only=True)
class NatsLinear(CausalLayer):
    """Keep the chunks that matter for softmax attention and let a matrix learn all others.

    What it does
        For each chunk and linear head a router scores the mean of the chunk's inputs, and the larger of two scores
        says where the chunk goes. Softmax attention reads the chunks before that went there, and the own chunk up to
        the token; the gated delta rule S <- g S (1 - b k k') + b v k' learns the others and the own chunk, and only
        fades through those that it does not get. Both read the same queries, keys and values after a short
        convolution. The output is W(silu(W_g x) * sum over both of w(q) * RMSNorm(o)).
    Where it acts
        As the attention of a model that is trained with it, in some layers or all.
    Shapes
        x (B, N, E) -> (B, N, E). A memory holds a matrix for each linear head, keys and values of the chunks that
        softmax attention keeps, and those of at most one chunk more.
    Guarantees
        A chunk's choice changes nothing in the chunk itself. `route=softmax` and `route=linear` are the pure branches.
        Read whole, by chunks and token by token are the same, and padding changes nothing: chunks are of a row's own
        tokens. What a chunk's gate learns is the sum over later queries of the derivative by its products, and the sum
        of k times the derivative by k; gates of the branch that was not chosen learn nothing, unless `both`.
    Raises
        InvalidValue: a width that the heads do not divide.
    Deviations
        `share` is the part of chunks that softmax attention kept in the last forward; a model may be charged for it.
        In training every product is computed and gated, without the published kernels. The softmax branch has no
        positions, as in the published hybrid.
    Relations
        `still` sends single tokens of a model that is trained already. The linear branch alone is
        `test_time_regression` with `regressor=gated_delta`.
    """

    card = Card(
        title="Neural Attention Search Linear: Towards Adaptive Token-Level Hybrid Attention Models",
        year=2026,
        url="https://arxiv.org/abs/2602.03681",
        summary="each chunk goes to softmax attention or to a delta rule, as a router says",
        action="summarise",
        granularity="chunk",
        evidence="learned",
        trial={"heads": 2, "each": 2, "chunk": 8},
        training=True,
        claims=(
            "its memory holds the keys and values of the chunks that softmax attention keeps, and of no others",
            "one layer that was trained to recall 32 pairs sends half of the chunks to softmax attention and gives "
            "97 % of the values, where the delta rule gives 9 %",
        ),
        deviations=(
            "the part of chunks that softmax attention keeps is given, so that a model may be charged for it",
            "training computes every product of queries and keys and gates it",
            "no positions in the softmax branch, as in the published hybrid; the published pure model has rotary ones",
        ),
    )

    heads: int = positive(2, doc="heads of the delta rule, each with a choice of its own")
    each: int = positive(2, doc="softmax heads in each of them")
    chunk: int = positive(64, doc="tokens that are sent together")
    route: str = choice("learned", "softmax", "linear", default="learned", doc="where chunks go")
    gumbel: bool = setting(False, doc="whether choices are drawn while training")
    both: bool = setting(False, doc="whether gates of the branch that was not chosen learn too")

    @property
    def least(self) -> int:
        """A chunk that is sent somewhere, and a token behind it."""
        return self.chunk + 1

    def make(self, *, width: int) -> None:
        every = self.heads * self.each
        keys, values = 3 * width // 4, 3 * width // 2
        if (3 * width) % 4 or keys % every or values % every:
            raise InvalidValue(
                f"nats_linear: three quarters of the width must be a multiple of {every} heads; got width {width}."
            )
        self.sizes = {"q": keys, "k": keys, "v": values}
        self.projects = nn.ModuleDict({n: nn.Linear(width, size, bias=False) for n, size in self.sizes.items()})
        self.convolutions: Any = nn.ModuleDict({n: CausalConvolution(4, size) for n, size in self.sizes.items()})
        self.rates, self.fading = nn.Linear(width, self.heads), nn.Linear(width, self.heads)
        self.pace = nn.Parameter(torch.linspace(0.01, 0.5, self.heads).log())
        self.queries, self.keys = nn.RMSNorm(keys // every), nn.RMSNorm(keys // every)
        self.sizes_of = nn.ModuleList(nn.RMSNorm(values // every) for _ in range(2))
        self.mixing = nn.Linear(keys, 2 * every)
        self.gate = nn.Linear(width, values, bias=False)
        self.out = nn.Linear(values, width, bias=False)
        if self.route == "learned":
            self.router = nn.Linear(width, 2 * self.heads)
        self.share: Tensor | None = None

    def whole(self, x: Float[Tensor, "B N E"]) -> Float[Tensor, "B N E"]:
        raw = {name: self.convolutions[name](project(x)) for name, project in self.projects.items()}
        seen, n = self._seen(x, raw), x.shape[1]
        full = n // self.chunk
        gates = self._gates(x[:, : full * self.chunk].unflatten(1, (full, self.chunk)).mean(2) if full else x[:, :0])
        self.share = gates[..., 0].mean() if full else None
        soft = softmax_branch(seen.queries, seen.keys, seen.values, self._of_heads(gates[..., 0]), self.chunk)
        gate = pad(gates[..., 1], (0, 1)).repeat_interleave(self.chunk, -1)[..., :n].unsqueeze(-1)
        linear, _ = linear_branch(seen.q, seen.k, seen.k * gate, seen.v, seen.rate, seen.decay, None, self.chunk)
        return self._joined(x, raw["q"], soft, linear)

    def begin(self, sequences: int) -> Hybrid:
        return Hybrid(Rows(sequences * self.heads), Rows(sequences))

    def append(self, x: Float[Tensor, "B N E"], memory: Hybrid, real: Bool[Tensor, "B N"]) -> Float[Tensor, "B N E"]:
        raw = {}
        for name, project in self.projects.items():
            new = self.convolutions[name].append(project(x), memory.recent.get(name), real)
            raw[name], memory.recent[name] = new
        seen, n, outs, t = self._seen(x, raw), x.shape[1], [], 0
        if memory.state is None:
            zeros = seen.v.new_zeros(*seen.v.shape[:2], seen.v.shape[-1], seen.k.shape[-1])
            memory.state = memory.running = zeros
            memory.pooled = seen.v.new_zeros(len(x), x.shape[-1])
        while t < n:
            whole = slice(t, t + self.chunk)
            aligned = n - t >= self.chunk and not bool(memory.own.lengths.any()) and bool(real[:, whole].all())
            some = whole if aligned else slice(t, t + 1)
            take = self._chunk if aligned else self._token
            outs.append(take(seen.at(some), wide(x[:, some]), memory, real[:, t]))
            t = some.stop
        soft, linear = (torch.cat(parts, 2) for parts in zip(*outs, strict=True))
        return self._joined(x, raw["q"], soft, linear)

    def _chunk(self, seen: Seen, x: Tensor, memory: Hybrid, real: Tensor) -> tuple[Tensor, Tensor]:
        """A whole chunk of all sequences, which none has begun."""
        soft = self._softmax(seen, memory, seen.keys, seen.values, torch.arange(self.chunk, device=x.device))
        assert memory.state is not None
        linear, after = learned_chunk(
            seen.q, seen.k, seen.v, seen.rate, seen.decay, memory.state, corrects=True
        )  # fmt: skip
        gates = self._gates(x.mean(1, keepdim=True)).squeeze(2)
        self._hold(memory, seen.keys, seen.values, gates[..., 0] > 0)
        fades = seen.decay.sum(-1).exp()[..., None, None]
        memory.state = torch.where((gates[..., 1] > 0)[..., None, None], after, memory.state * fades)
        memory.running = memory.state
        return soft, linear

    def _token(self, seen: Seen, x: Tensor, memory: Hybrid, real: Bool[Tensor, "B"]) -> tuple[Tensor, Tensor]:
        """One token of the sequences where it is real; a chunk that it completes is sent."""
        assert memory.state is not None
        assert memory.running is not None
        assert memory.pooled is not None
        places = memory.own.next(real.unsqueeze(1))
        memory.own.append(seen.keys, seen.values, real=real.unsqueeze(1))
        keys, values = memory.own.all()
        if not keys.shape[2]:
            # No sequence has a token here.
            keys, values = seen.keys, seen.values
        soft = self._softmax(seen, memory, keys, values, places)
        q, k, v, rate, decay = (part[:, :, 0] for part in (seen.q, seen.k, seen.v, seen.rate, seen.decay))
        linear, running = learned_step(q, k, v, rate, decay, memory.running, corrects=True)
        there = real.view(-1, 1, 1, 1)
        memory.running = torch.where(there, running, memory.running)
        memory.state = torch.where(there, memory.state * seen.decay[..., None].exp(), memory.state)
        memory.pooled = memory.pooled + torch.where(real.unsqueeze(-1), x[:, 0], 0)
        if bool((full := memory.own.lengths == self.chunk).any()):
            gates = self._gates((memory.pooled / self.chunk).unsqueeze(1)).squeeze(2)
            keys, values = memory.own.all()
            self._hold(memory, keys, values, (gates[..., 0] > 0) & full.unsqueeze(1))
            learns = ((gates[..., 1] > 0) | ~full.unsqueeze(1))[..., None, None]
            done = full.view(-1, 1, 1, 1)
            memory.state = torch.where(done & learns, memory.running, memory.state)
            memory.running = torch.where(done, memory.state, memory.running)
            memory.pooled = torch.where(full.unsqueeze(-1), 0, memory.pooled)
            memory.own.lengths = torch.where(full, 0, memory.own.lengths)
        return soft, linear.unsqueeze(2)

    def _softmax(self, seen: Seen, memory: Hybrid, keys: Tensor, values: Tensor, places: Tensor) -> Tensor:
        """Attention to the kept chunks and to the own one up to each token's place."""
        q = seen.queries
        b, h, n, _ = q.shape
        if memory.kept.nbytes:
            held = [part.reshape(b, h, -1, part.shape[-1]) for part in memory.kept.all()]
            lengths = memory.kept.lengths.view(b, -1).repeat_interleave(self.each, 1)
        else:
            held, lengths = [keys[:, :, :0], values[:, :, :0]], keys.new_zeros(b, h)
        before = torch.arange(held[0].shape[2], device=q.device) < lengths.unsqueeze(-1)
        own = torch.arange(keys.shape[2], device=q.device) <= places.view(-1, 1, n, 1)
        sees = torch.cat((before.unsqueeze(2).expand(-1, -1, n, -1), own.expand(b, h, -1, -1)), -1)
        k, v = torch.cat((held[0], keys), 2), torch.cat((held[1], values), 2)
        outs = []
        for some in slices(n, b * h * k.shape[2]):
            scores = (q[:, :, some] @ k.mT) * q.shape[-1] ** -0.5
            outs.append(scores.masked_fill(~sees[:, :, some], float("-inf")).softmax(-1) @ v)
        return torch.cat(outs, 2)

    def _hold(self, memory: Hybrid, keys: Tensor, values: Tensor, kept: Bool[Tensor, "B G"]) -> None:
        """Hold the first `chunk` rows of the heads whose chunk softmax attention keeps."""
        if bool(kept.any()):
            rows = (part[:, :, : self.chunk].unflatten(1, (self.heads, -1)).flatten(0, 1) for part in (keys, values))
            memory.kept.append(*rows, real=kept.reshape(-1, 1).expand(-1, self.chunk))

    def _gates(self, pooled: Float[Tensor, "B C E"]) -> Float[Tensor, "B G C 2"]:
        """1 for the branch of each chunk and 0 for the other, of which the router learns."""
        if self.route != "learned":
            at = torch.tensor([1.0, 0.0] if self.route == "softmax" else [0.0, 1.0], device=pooled.device)
            return wide(at).expand(len(pooled), self.heads, pooled.shape[1], 2)
        scores = wide(self.router(pooled.to(self.router.weight.dtype)))
        return chosen(scores.unflatten(-1, (self.heads, 2)).transpose(1, 2), self.gumbel and self.training, self.both)

    def _of_heads(self, gates: Float[Tensor, "B G C"]) -> Float[Tensor, "B H C"]:
        return gates.repeat_interleave(self.each, 1)

    def _seen(self, x: Float[Tensor, "B N E"], raw: dict[str, Tensor]) -> Seen:
        def parts(name: str, heads: int) -> Tensor:
            return wide(silu(raw[name]).unflatten(-1, (heads, -1)).transpose(1, 2))

        every = self.heads * self.each
        rate = wide(self.rates(x)).sigmoid().mT
        decay = -(wide(self.pace).exp() * softplus(wide(self.fading(x)))).mT
        queries, keys = (
            wide(norm(parts(name, every).to(x.dtype))) for norm, name in ((self.queries, "q"), (self.keys, "k"))
        )
        return Seen(
            normalize(parts("q", self.heads), dim=-1), normalize(parts("k", self.heads), dim=-1),
            parts("v", self.heads), rate, decay, queries, keys, parts("v", every),
        )  # fmt: skip

    def _joined(
        self, x: Float[Tensor, "B N E"], q: Tensor, soft: Float[Tensor, "B H N d"], linear: Float[Tensor, "B G N D"]
    ) -> Float[Tensor, "B N E"]:
        """Both branches, weighed by the query, normed and gated."""
        every = self.heads * self.each
        split = linear.transpose(1, 2).flatten(2).unflatten(-1, (every, -1))
        weights = self.mixing(silu(q)).unflatten(-1, (every, 2)).softmax(-1)
        first, second = (
            norm(o.to(x.dtype)) for norm, o in zip(self.sizes_of, (soft.transpose(1, 2), split), strict=True)
        )
        mixed = weights[..., :1] * first + weights[..., 1:] * second
        return self.out(silu(self.gate(x)) * mixed.flatten(2))
