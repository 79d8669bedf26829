"""Which heads are better off without their sinks: the offline search, each head by itself, kept in a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from tokenry.attend.calibrated.known import OfModel, texts
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, choice
from tokenry.core.progress import counted
from tokenry.models.attention.adapter import ModelAdapter

if TYPE_CHECKING:
    from tokenry.attend.sink_calibration import SinkCalibration


@dataclass(eq=False, repr=False, kw_only=True)
class Heads(OfModel):
    """How much better a score is when one head alone is calibrated, (L, H); nan for heads that were not tried."""

    room: ClassVar[str] = "attend"

    beta: float = between(0.0, 1.0, default=0.4, doc="what was left of the attention to a sink")
    threshold: float = between(0.0, 1.0, default=0.1, doc="mean attention above which a token was a sink")
    judged: str = choice("so_far", "pass", default="so_far", doc="by which queries a token was judged")

    @classmethod
    def name(cls) -> str:
        return "heads"

    def make(self, *, layers: int, heads: int) -> None:
        super().make()
        self.register_buffer("gain", torch.full((layers, heads), float("nan")))

    @property
    def improving(self) -> tuple[int, ...]:
        """The heads that made the score better, each as layer x heads + head."""
        return tuple((self.gain.flatten() > 0).nonzero()[:, 0].tolist())

    @classmethod
    def search(cls, model: Any, score: Callable[[], float], *, method: SinkCalibration) -> Heads:
        """Calibrate one head at a time, and compare with the model as it is.

        Args:
            model: the model, whose weights stay as they are.
            score: asks the model on samples kept for this, such as its share of right answers; higher is better. It is
                called once for each head, and once before.
            method: its `beta`, `threshold` and `judged`, and its heads as candidates, all of the middle layers if
                empty.

        Raises:
            InvalidValue: no head to try.
        """
        adapter = ModelAdapter.of(model)
        layers, heads = adapter.depth, adapter.model.config.get_text_config().num_attention_heads
        candidates = method.heads or tuple(range(2 * heads, (layers - 1) * heads))
        if not candidates:
            raise InvalidValue(
                f"{cls.name()}: heads must name at least one where a model has no middle layers; got none of "
                f"{layers} layers; give method=SinkCalibration(heads=…)."
            )
        found = cls(beta=method.beta, threshold=method.threshold, judged=method.judged)
        found.build(layers=layers, heads=heads).remember(model)
        plain = score()
        for head in counted(candidates, "trying head", len(candidates)):
            with replace(method, heads=(head,), calibration=None)(model):
                found.gain[head // heads, head % heads] = score() - plain
        return found

    @classmethod
    def calibrate(
        cls, model: Any, samples: Sequence[Int[Tensor, "T"]] | Int[Tensor, "N T"], *, method: SinkCalibration
    ) -> Heads:
        """The same search by how well texts are predicted, in nats per token.

        Args:
            samples: ids (T) of texts.

        Raises:
            InvalidValue: no samples, one of fewer than 8 tokens, or no head to try.
        """
        rows = [ids.to(model.device) for ids in texts(cls.name(), samples, 8)]

        def score() -> float:
            with torch.no_grad():
                said = [model(input_ids=ids[None]).logits[0, :-1].float() for ids in rows]
            losses = [cross_entropy(logits, ids[1:], reduction="sum") for logits, ids in zip(said, rows, strict=True)]
            return -float(torch.stack(losses).sum()) / sum(len(ids) - 1 for ids in rows)

        return cls.search(model, score, method=method)
