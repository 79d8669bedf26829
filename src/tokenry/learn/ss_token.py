"""ssToken: learn from the tokens that the model already learns, and that attend to the prompt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, natural, part
from tokenry.learn.base import Batch, Watch
from tokenry.learn.parts.history import Beforehand, History
from tokenry.learn.parts.scale import AsIs, MinMax, Scale
from tokenry.learn.selection.labels import Labelled
from tokenry.learn.selection.prompt_attention import PromptAttention
from tokenry.learn.selection.selective import Selective


@dataclass(frozen=True, kw_only=True)
class SsToken(Selective):
    """Learn from the response tokens whose loss has fallen most and that attend most to the prompt.

    What it does
        REL_i = L_history(i) - L(i), in nats;  A_i = attention from token i to the tokens of the prompt in the last
        layer, mean over heads;  score_i = gamma scale(REL)_i + (1 - gamma) A_i.  Of the n response tokens of a sample
        the ceil(rho n) best are kept; the loss is their mean cross-entropy in nats, over the whole optimiser step.
        The prompt is every token before i that has no label.
    Where it acts
        On the labels of a causal model. The model attends by its own fast kernels; only the response rows of the last
        layer are computed beside it, in slices and without gradients.
    Shapes
        logits (B, N, V), labels (B, N) -> value (), token_weights (B, N) of 0 and 1.
    Guarantees
        `rho=1.0` is plain cross-entropy, and nothing is watched. Scores of a sample depend neither on the batch nor on
        its padding. Prompt, padding and labels of -100 are never chosen. Equal scores keep the first.
    Raises
        InvalidValue: labels that do not fit, packed rows, no label, a sample without a prompt where attention counts,
            or samples whose history was not measured.
        UnsupportedModel: attention cannot be reached.
        Incompatible: an attention method is attached to the model, or its attention has dropout.
    Deviations
        A loss signal whose range within a sample is below 0.001 nats counts as constant. The published code adds 1e-8
        to the range, by which rounding noise decides before the model has moved. The loss is averaged over all kept
        tokens of an optimiser step; the published code averages over those of a device's batch and then over batches.
        In a conversation of several turns the prompt is all that has no label, where the published code takes the
        first columns.
    Relations
        `random` is its control, and did better on text with damaged tokens: see the benchmarks. With
        `history=another_model` the loss signal is an excess loss as in Rho-1, with the other sign.
    """

    card = Card(
        title="ssToken: Self-modulated and Semantic-aware Token Selection for LLM Fine-tuning",
        year=2025,
        url="https://arxiv.org/abs/2510.18250",
        summary="learn from response tokens whose loss has fallen and that attend to the prompt",
        identity_at={"rho": 1.0},
        trial={"rho": 0.5},
        claims=(
            "Where tokens were replaced at random it did harm: in damaged passages 20 % of the labels it left out were "
            "wrong, where chance gives 31 %, and SmolLM2 was then worse on other text than after random labels, by "
            "0.07 nats. The loss signal prefers damaged tokens; attention alone is no better than chance.",
        ),
        deviations=(
            "A loss signal whose range within a sample is below 0.001 nats counts as constant; the published code "
            "adds 1e-8 to the range, by which rounding noise decides before the model has moved.",
            "The loss is averaged over all kept tokens of an optimiser step; the published code averages over the "
            "batch of a device, then over batches.",
            "In a conversation of several turns the prompt is all that has no label; the published code takes as many "
            "columns from the beginning.",
            "The warm-up is off, and counts samples seen; the published code has 10,000, by their number in the data.",
        ),
    )

    rho: float = between(0.01, 1.0, default=0.6, doc="share of each sample's labels that is learned, rounded up")
    gamma: float = between(0.0, 1.0, default=0.5, doc="weight of the loss signal; the rest is that of attention")
    history: History = part(Beforehand(), doc="who gives the losses that the model's own are subtracted from")
    scale: Scale = part(MinMax(), doc="how the loss signal of a sample is scaled")
    attention_scale: Scale = part(AsIs(), doc="how the attention of a sample is scaled")
    warm_up: int = natural(0, doc="first samples of each process, which are chosen by attention alone")

    @property
    def compares(self) -> bool:
        """Whether losses decide anything."""
        return self.rho < 1.0 and self.gamma > 0.0

    @property
    def looks(self) -> bool:
        """Whether attention decides anything."""
        return self.rho < 1.0 and (self.gamma < 1.0 or self.warm_up > 0)

    def watch(self, model: Any) -> Watch:
        return SignalWatch(self, model)

    def score(self, losses: Float[Tensor, "B N"], labelled: Labelled, watch: Watch) -> list[Float[Tensor, "T"]]:
        """For each row, the weighted sum of both signals."""
        assert isinstance(watch, SignalWatch)
        fallen, attention = watch.signals(losses, labelled)
        found = []
        for row, counted in enumerate(labelled.counted):
            gamma = 0.0 if watch.samples + row < self.warm_up else self.gamma
            score = torch.zeros(int(counted.sum()), device=losses.device)
            if fallen is not None and gamma > 0.0:
                score += gamma * self.scale.scale(fallen[row, counted])
            if attention is not None and gamma < 1.0:
                score += (1 - gamma) * self.attention_scale.scale(attention[row, counted])
            found.append(score)
        return found


class SignalWatch(Watch):
    """What `ss_token` sees of a forward, and the history it compares with."""

    objective: SsToken

    def __init__(self, objective: SsToken, model: Any) -> None:
        super().__init__(objective, model)
        self.attention = PromptAttention(model) if objective.looks else None
        self.past = objective.history.begin(model) if objective.compares else None
        self._inputs: dict[str, Any] = {}

    @contextmanager
    def attached(self) -> Iterator[None]:
        if self.attention is None:
            yield
        else:
            with self.attention.attached():
                yield

    def prepare(self, batches: Iterable[Batch]) -> None:
        if self.past is not None:
            self.past.prepare(batches)

    def inputs(self, batch: Batch) -> dict[str, Any]:
        given = super().inputs(batch)
        if self.attention is not None:
            labelled = Labelled.of(batch, self.objective.name())
            blind = labelled.counted.any(1) & ~labelled.prompt.any(1)
            if bool(blind.any()):
                raise InvalidValue(
                    f"{self.objective.name()}: every sample must have a prompt, tokens whose label is -100; row "
                    f"{int(blind.nonzero()[0])} has none; mask its prompt, or use gamma=1."
                )
            self.attention.ask(labelled)
        if self.past is not None:
            self._inputs = given
        return given

    def signals(
        self, losses: Float[Tensor, "B N"], labelled: Labelled
    ) -> tuple[Float[Tensor, "B N"] | None, Float[Tensor, "B N"] | None]:
        """By how many nats each loss has fallen, and each token's attention to the prompt; None where not needed."""
        attention = None if self.attention is None else self.attention.take(self.objective.name()).to(losses.device)
        if self.past is None:
            return None, attention
        return self.past.losses(labelled, self._inputs).to(losses.device) - losses, attention

    def stepped(self) -> None:
        if self.past is not None:
            self.past.stepped()

    def tensors(self) -> dict[str, Tensor]:
        past = {} if self.past is None else self.past.tensors()
        return super().tensors() | {f"history.{name}": value for name, value in past.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        super().restore(tensors)
        if self.past is not None:
            prefix = "history."
            self.past.restore({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
