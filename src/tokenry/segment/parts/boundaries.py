"""What decides where chunks of bytes end."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, numbers, positive, setting
from tokenry.core.learned import LearnedPart
from tokenry.segment.hierarchy.cuts import Cut, Seen, firm, last_of
from tokenry.segment.hierarchy.prices import binomial_price, ratio_price
from tokenry.segment.hierarchy.scripts import GROUPS, scripts_at

MARK = 256
"""The id that begins every text; where words are given, it also ends each."""


@dataclass(eq=False, repr=False, kw_only=True)
class Boundaries(LearnedPart):
    """What decides where chunks end; the first token of a row is always a chunk of its own."""

    room: ClassVar[str] = "segment"
    reads_bytes: ClassVar[bool] = False
    """Whether it must know the bytes, so that it cuts no chunks of chunks."""

    @abstractmethod
    def make(self, *, width: int) -> None:
        """Create the parameters for states of this width."""

    def begin(self, sequences: int) -> Any:
        """What is remembered between tokens, before anything was read."""
        return None

    @abstractmethod
    def read(self, x: Float[Tensor, "B N E"], seen: Seen, memory: Any) -> Cut:
        """Choose among tokens with states x, on top of a memory; whole rows where that is None."""


@dataclass(eq=False, repr=False, kw_only=True)
class Marks(Boundaries):
    """A chunk ends with each mark among the ids, which a splitter puts behind words."""

    part = Card(
        title="Hierarchical Autoregressive Transformers",
        year=2025,
        url="https://arxiv.org/abs/2501.10322",
        summary="chunks end where a splitter of words says",
    )

    reads_bytes: ClassVar[bool] = True

    def make(self, *, width: int) -> None:
        pass

    def read(self, x: Float[Tensor, "B N E"], seen: Seen, memory: Any) -> Cut:
        assert seen.ids is not None, "words are made of bytes"
        return firm(seen.real & ((seen.ids == MARK) | seen.first))


@dataclass(eq=False, repr=False, kw_only=True)
class Stride(Boundaries):
    """Chunks of equal length, wherever they begin: the control of all that is learned."""

    part = Card(
        title="Hierarchical Transformers Are More Efficient Language Models",
        year=2021,
        url="https://arxiv.org/abs/2110.13711",
        summary="chunks of equal length, the control",
    )

    every: int = positive(6, doc="tokens of a chunk")

    def make(self, *, width: int) -> None:
        pass

    def read(self, x: Float[Tensor, "B N E"], seen: Seen, memory: Any) -> Cut:
        return firm(seen.real & (seen.places % self.every == 0))


@dataclass(slots=True)
class Last:
    """The last state of each row."""

    x: Float[Tensor, "B E"]


@dataclass(eq=False, repr=False, kw_only=True)
class Cosine(Boundaries):
    """A chunk begins where a state is unlike the one before: p_t = (1 - cos(Q x_(t-1), K x_t)) / 2, above one half.

    Q and K begin as the identity. The price is `weight` times N / (N - 1) ((N - 1) F G + (1 - F)(1 - G)), where F is
    the share of chosen tokens and G the mean of p; it is `weight` at F = G = 1/N. All in 32-bit floats.
    """

    part = Card(
        title="Dynamic Chunking for End-to-End Hierarchical Sequence Modeling",
        year=2025,
        url="https://arxiv.org/abs/2507.07955",
        summary="chunks begin where neighbouring states differ, with a price on their number",
        training=True,
    )

    ratio: float = between(1.01, 1000.0, default=6.0, doc="tokens of a chunk that are aimed at, N")
    weight: float = between(0.0, 100.0, default=0.03, doc="of the price")

    def make(self, *, width: int) -> None:
        self.query, self.key = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        for linear in (self.query, self.key):
            nn.init.eye_(linear.weight)

    def begin(self, sequences: int) -> Last:
        return Last(torch.zeros(sequences, self.key.in_features, device=self.key.weight.device))

    def read(self, x: Float[Tensor, "B N E"], seen: Seen, memory: Last | None) -> Cut:
        x = x.float()
        before = x.new_zeros(len(x), x.shape[-1]) if memory is None else memory.x
        with torch.autocast(x.device.type, enabled=False):
            q = torch.cat((before.unsqueeze(1), x[:, :-1]), 1) @ self.query.weight.float().T
            p = (1 - cosine_similarity(q, x @ self.key.weight.float().T, dim=-1)) / 2
        p = torch.where(seen.first, 1.0, p.clamp(0.0, 1.0))
        at = seen.real & (p > 0.5)
        if memory is not None:
            memory.x = last_of(x, seen.real, memory.x)
        return Cut(at, p, self.weight * ratio_price(at, p, seen.real, self.ratio))


@dataclass(slots=True)
class Script:
    """Of each row the script that was found last, and the last byte."""

    state: Tensor


@dataclass(eq=False, repr=False, kw_only=True)
class ByScript(Boundaries):
    """A network for each script says how likely a chunk ends; its price makes scripts that write longer cut less often.

    In training chunks are drawn: sigmoid((logit + logistic noise) / temperature) above one half, and the gradient is
    that of the sigmoid. Otherwise they end where the logit is above 0. The price is `weight` times the sum over scripts
    of -log Binomial(k; T, rate) / T, with k ends among the T bytes of a row that are of the script.
    """

    part = Card(
        title=(
            "MAGNET: Improving the Multilingual Fairness of Language Models with Adaptive Gradient-Based Tokenization"
        ),
        year=2024,
        url="https://arxiv.org/abs/2407.08818",
        summary="one predictor of ends for each script, each with a prior of its own",
        training=True,
    )

    reads_bytes: ClassVar[bool] = True

    scripts: tuple[str, ...] = setting(
        ("latin", "cyrillic", "semitic", "indic", "han", "kana", "hangul"),
        doc="scripts with a predictor of their own; the first one's is also for what has no letters before it",
    )
    rates: tuple[float, ...] = numbers(
        1e-4,
        0.9999,
        default=(0.2, 0.1, 0.1, 0.077, 0.2, 0.1, 0.15),
        doc="ends for each byte that are aimed at, by script",
    )
    temperature: float = between(0.01, 10.0, default=0.5, doc="of what is drawn in training")
    weight: float = between(0.0, 1e4, default=1.0, doc="of the price")
    inner: int = positive(64, doc="width of the networks")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scripts or not set(self.scripts) <= set(GROUPS) or len(set(self.scripts)) != len(self.scripts):
            raise InvalidValue(
                f"ByScript: scripts must be some of {', '.join(GROUPS)}, each once; got {'+'.join(self.scripts)}."
            )
        if len(self.rates) != len(self.scripts):
            raise InvalidValue(
                f"ByScript: rates must be one for each of {len(self.scripts)} scripts; got {len(self.rates)}."
            )

    def make(self, *, width: int) -> None:
        networks = []
        for rate in self.rates:
            first, last = nn.Linear(width, self.inner), nn.Linear(self.inner, 1)
            # Begun at its rate, a predictor neither cuts everywhere nor nowhere.
            nn.init.constant_(last.bias, float(torch.logit(torch.tensor(rate))))
            networks.append(nn.Sequential(first, nn.SiLU(), last))
        self.networks: Any = nn.ModuleList(networks)

    def begin(self, sequences: int) -> Script:
        return Script(torch.zeros(sequences, 2, dtype=torch.long, device=self.networks[0][0].weight.device))

    def read(self, x: Float[Tensor, "B N E"], seen: Seen, memory: Script | None) -> Cut:
        assert seen.ids is not None, "scripts are told by bytes"
        state = torch.zeros(len(x), 2, dtype=torch.long, device=x.device) if memory is None else memory.state
        which, _ = scripts_at(seen.ids, self.scripts, state)
        if memory is not None:
            after = torch.stack((which, seen.ids.clamp_max(255)), -1)
            memory.state = last_of(after, seen.real, state)
        logits = torch.cat([network(x) for network in self.networks], -1).float().gather(2, which.unsqueeze(-1))[..., 0]
        p = logits.sigmoid()
        # The mark ends a chunk whatever is predicted, and is of no script.
        bytes_ = seen.real & (seen.ids != MARK)
        if not self.training:
            at = seen.real & ((p > 0.5) | seen.first)
            return Cut(at, p, self._price(at.float(), which, bytes_), at.float())
        u = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)
        drawn = ((logits + u.log() - (-u).log1p()) / self.temperature).sigmoid()
        at = seen.real & ((drawn > 0.5) | seen.first)
        soft = torch.where(seen.real & ~seen.first, at.float() + (drawn - drawn.detach()), at.float())
        return Cut(at, p, self._price(soft, which, bytes_), soft)

    def _price(self, ends: Float[Tensor, "B N"], which: Tensor, bytes_: Bool[Tensor, "B N"]) -> Float[Tensor, ""]:
        total = ends.new_zeros(())
        for i, rate in enumerate(self.rates):
            of = (bytes_ & (which == i)).float()
            total = total + binomial_price((ends * of).sum(1), of.sum(1), rate)
        return self.weight * total
