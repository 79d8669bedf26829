"""Attention calibration (ACT): damp the sinks behind the first token, and give what they held to the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from tokenry.attend.base import Attention
from tokenry.attend.calibrated.heads import Heads
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, choice, counts, folder
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.site import Site
from tokenry.models.attention.state import LayerState


@dataclass
class Given(LayerState):
    """What every key has received from each head, and from how many queries."""

    mass: Float[Tensor, "B H M"] | None = None
    asked: Int[Tensor, "B 1 M"] | None = None

    def forget(self) -> None:
        """A crop shows when the next pass begins, and means stay means."""

    def begin(self, site: Site) -> None:
        """Room for the keys that a pass brings; what is known of their columns is of tokens cropped since."""
        assert site.buffer is not None
        b, h = site.q.shape[:2]
        if self.mass is None or self.asked is None:
            self.mass = torch.zeros(b, h, 0, device=site.q.device)
            self.asked = torch.zeros(b, 1, 0, device=site.q.device)
        first, k = site.buffer.seen - site.q.shape[2], site.k.shape[2]
        self.mass, self.asked = (
            pad(held[..., : min(first, held.shape[-1])], (0, k - min(first, held.shape[-1])))
            for held in (self.mass, self.asked)
        )


@dataclass(frozen=True, kw_only=True)
class SinkCalibration(Attention):
    """Take from later attention sinks in chosen heads, and give to all other tokens in proportion.

    What it does
        Token j, not the first, is a sink S of a head where the mean over the queries i >= j of A_ij exceeds
        `threshold`. There A'_ij = `beta` A_ij, and what is freed goes to the others in proportion:
        A'_ij = A_ij (1 + (1 - `beta`) sum over S of A_iu / sum over the rest of A_iu).
    Where it acts
        On every query, of the prompt and of what is generated, in `heads`, in those that a `calibration` found to be
        better for it, or in all heads of the layers from 2 to the last but two. Nothing is evicted.
    Shapes
        A (B, H, Q, K), a slice of queries at a time -> output (B, H, Q, Dv).
    Guarantees
        `beta=1` is dense attention. Rows keep their sum, tokens that are no sinks their ratios, and the first token
        never loses. With `judged=so_far` a token is judged by the queries up to the one that reads, so passes, chunks
        and single steps give the same.
    Raises
        InvalidValue: heads that the model does not have, heads beside a calibration, or one made with other settings.
        Incompatible: a calibration of another model, or a cache that something was evicted from. StorageError: a
        calibration that is missing or damaged.
    Deviations
        `judged=so_far` by default: the published code judges a token by all queries of one pass, those after the
        reading one included, and so has no decoding; `judged=pass` does that for each pass of the prompt. For the
        last query of a prompt both are the same in the first layer that acts. `Heads.search` is the paper's search by
        any score, and `Heads.calibrate` by the loss of texts; without its folder all of the middle layers act.
    Relations
        `probe/active_dormant` shows which heads have sinks. It saves nothing: every probability is made.
    """

    card = Card(
        title="Unveiling and Harnessing Hidden Attention Sinks: Enhancing Large Language Models without Training "
        "through Attention Calibration",
        year=2024,
        url="https://arxiv.org/abs/2406.15765",
        summary="attention is taken from later sinks and given to the other tokens in proportion",
        action="weigh",
        granularity="token",
        evidence="observed attention",
        identity_at={"beta": 1.0},
        trial={"beta": 0.2, "threshold": 0.03, "heads": (0, 1, 4, 6, 9)},
        deviations=(
            "a token is judged by the queries up to the one that reads; `judged=pass` by those of the whole pass",
            "generated tokens are calibrated as well",
        ),
    )

    beta: float = between(0.0, 1.0, default=0.4, doc="what is left of the attention to a sink")
    threshold: float = between(0.0, 1.0, default=0.1, doc="mean attention above which a token is a sink")
    heads: tuple[int, ...] = counts(
        0, 1048575, default=(), doc="layer x heads + head of each that acts; empty for all of the middle layers"
    )
    calibration: str | None = folder(None, doc="folder of heads that were found to improve; none for `heads`")
    judged: str = choice("so_far", "pass", default="so_far", doc="by which queries a token is judged")
    State = Given

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads and self.calibration is not None:
            raise InvalidValue(
                "SinkCalibration: one of heads and calibration must be given; "
                f"got heads={'+'.join(map(str, self.heads))} and calibration={self.calibration}."
            )

    def covers(self, seen: int) -> bool:
        return self.beta == 1

    def attend(self, site: Site, state: Given) -> Float[Tensor, "B H Q Dv"]:
        acting = self._acting(site)
        if self.beta == 1 or site.buffer is None or not bool(acting.any()):
            return site.dense()
        self.refuse_evicted(site)
        state.begin(site)
        sinks = None
        if self.judged == "pass" and not site.later:
            ahead = Given(state.mass, state.asked)
            for _, part in site.streamed():
                sinks = self._judge(part, part.probs(), ahead)[..., -1:, :]

        def calibrate(_: slice, part: Site, probs: Float[Tensor, "B H Q K"]) -> Float[Tensor, "B H Q K"]:
            found = self._judge(part, probs, state)
            if sinks is not None:
                found = sinks[..., : probs.shape[-1]].expand_as(probs)
            return torch.where(acting.view(-1, 1, 1), calibrated(probs, found, self.beta), probs)

        return site.reweighted(calibrate)

    def _judge(self, part: Site, probs: Float[Tensor, "B H Q K"], state: Given) -> Bool[Tensor, "B H Q K"]:
        """Which keys are sinks for each query, by all queries up to it; these are entered into the state."""
        assert state.mass is not None
        assert state.asked is not None
        k, columns, places = probs.shape[-1], part.key_columns()[:, :1], part.positions()[:, :1]
        sees = columns.unsqueeze(2) <= part.query_columns().view(1, 1, -1, 1)
        if part.facts is not None and part.facts.padding is not None:
            sees = sees & part.facts.padding[:, part.query_columns()][:, None, :, None]
        given = state.mass[..., None, :k] + (probs.detach() * sees).cumsum(2)
        asked = state.asked[..., None, :k] + sees.cumsum(2)
        real = part.real()
        later = (places > 0) if real is None else (places > 0) & real[:, :1]
        rest = state.mass.shape[-1] - k
        state.mass, state.asked = (
            torch.cat((new[:, :, -1], old[..., k:]), -1) if rest else new[:, :, -1]
            for new, old in ((given, state.mass), (asked, state.asked))
        )
        return (given > self.threshold * asked) & later.unsqueeze(2)

    def _acting(self, site: Site) -> Bool[Tensor, "H"]:
        heads = site.q.shape[1]
        chosen = self.heads if self.calibration is None else Heads.at(self.calibration).improving
        if self.heads or self.calibration is not None:
            mine = [h % heads for h in chosen if h // heads == site.layer]
            return torch.isin(torch.arange(heads), torch.tensor(mine, dtype=torch.long)).to(site.q.device)
        assert site.model is not None
        inside = 2 <= site.layer <= ModelAdapter.of(site.model).depth - 2
        return torch.full((heads,), inside, device=site.q.device)

    def _adapter(self, model: Any) -> Any:
        adapter = super()._adapter(model)
        count = adapter.depth * adapter.model.config.get_text_config().num_attention_heads
        if self.heads and max(self.heads) >= count:
            raise InvalidValue(
                f"sink_calibration: heads must be below {count}, which {type(adapter.model).__name__} has; "
                f"got {max(self.heads)}."
            )
        if self.calibration is not None:
            self._check(Heads.at(self.calibration), model)
        return adapter

    def _check(self, found: Heads, model: Any) -> None:
        make = "Heads.calibrate(model, samples, method=SinkCalibration(…))"
        found.check(model, "sink_calibration: calibration", make)
        for name in ("beta", "threshold", "judged"):
            mine, its = getattr(self, name), getattr(found, name)
            if mine != its:
                raise InvalidValue(
                    f"sink_calibration: {name} must be that of the calibration, {its}; got {mine}; "
                    f"make one with {make}."
                )


def calibrated(
    probs: Float[Tensor, "B H Q K"], sinks: Bool[Tensor, "B H Q K"], beta: float
) -> Float[Tensor, "B H Q K"]:
    """Rows with `beta` of what sinks had, and the rest given to the others; rows of sinks alone stay as they are."""
    held = (probs * sinks).sum(-1, keepdim=True)
    rest = (probs * ~sinks).sum(-1, keepdim=True)
    taken = torch.where(rest > 0, 1 - beta, 0.0)
    return torch.where(sinks, probs * (1 - taken), probs * (1 + taken * held / rest.clamp_min(1e-30)))
