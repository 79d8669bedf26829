"""Concept-aware fine-tuning: while a model is tuned, heads beside it predict the tokens after the next one too."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn.functional import cross_entropy

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, choice, positive, setting
from tokenry.learn.base import Batch, Loss, Objective, Watch
from tokenry.learn.concepts.heads import COPIES, ConceptHeads
from tokenry.learn.selection.labels import Labelled


@dataclass(frozen=True, kw_only=True)
class ConceptAware(Objective):
    """Learn the next token, and a little the tokens after it, so that names of several tokens are learned as one.

    What it does
        CE_0 is the cross-entropy of the next token, CE_k that of the token k places after it, said by head k.
        stage tune: L = CE_0 + weight g(t) sum_k decay^k CE_k, where g(t) = sin(pi/2 (T - t)/T) falls from 1 to 0 over
        the T steps.  stage heads: L = sum_k decay^k CE_k, and only the heads learn.
        A head is one layer, which begins as a copy of the model's; norm and output rows behind it are the model's own.
    Where it acts
        On a causal model while it is trained. The heads read what its last layer reads. Afterwards they are gone.
    Shapes
        logits (B, N, V), labels (B, N) -> value (), token_weights (B, N) of 0 and 1, those of CE_0.
    Guarantees
        `weight=0` is plain cross-entropy, bit for bit, and no head is built. The model that was tuned has the modules
        and the names that it had before. A label counts at head k where the token that would say it is one of its row.
        Each CE_k is divided by the number of its labels in the whole optimiser step.
    Raises
        InvalidValue: labels that do not fit, packed rows, or no label.
        UnsupportedModel: no single list of layers, or a last layer that, run again, does not give the model's logits.
        StorageError: the folder holds no heads, or those of another model.
    Deviations
        Heads read what the last layer reads, in both stages. They are tuned whole, also where the model has LoRA.
    Relations
        `ss_token` learns from fewer tokens; this learns more from each.
    """

    card = Card(
        title="Improving LLMs with Concept-Aware Fine-Tuning",
        year=2025,
        url="https://arxiv.org/abs/2506.07833",
        summary="predict tokens after the next one too while tuning, by heads that are thrown away",
        identity_at={"weight": 0.0},
        trial={"heads": 2, "weight": 0.3},
        deviations=(
            "heads read what the last layer reads, in both stages; the published code reads another layer in each",
            "heads are tuned whole beside a model with LoRA; `learns=false` leaves them as they are",
            "each head's loss is divided by its own labels in the whole optimiser step; the published code does not "
            "count them under accumulation",
            "heads are trained before on any examples, not on text that the model wrote itself",
        ),
    )

    heads: int = positive(4, doc="tokens after the next one that are predicted")
    weight: float = between(0.0, 10.0, default=0.01, doc="of the heads beside the next token")
    decay: float = between(0.0, 1.0, default=0.8, doc="factor from each head to the next")
    fade: str = choice("reverse_sine", "none", default="reverse_sine", doc="how the weight falls over the training")
    stage: str = choice("tune", "heads", default="tune", doc="tune the model, or only train the heads before that")
    copied: str = choice(*COPIES, default="last", doc="which layer the heads begin as")
    folder: str = setting("", doc="of heads that were trained before")
    learns: bool = setting(True, doc="whether the heads learn while the model is tuned")

    @property
    def looks_ahead(self) -> bool:
        """Whether the heads count at all."""
        return self.stage == "heads" or self.weight > 0

    def watch(self, model: Any) -> Watch:
        return ConceptWatch(self, model)

    def count(self, batch: Batch) -> Counter[str]:
        labelled = Labelled.of(batch, self.name())
        heads = range(self.heads) if self.looks_ahead else ()
        ahead = {f"ahead_{k + 1}": int(_counted(labelled, k + 1).sum()) for k in heads}
        return Counter(tokens=int(labelled.counted.sum()), **ahead)

    def loss(self, outputs: Any, batch: Batch, watch: Watch, of: Counter[str] | None = None) -> Loss:
        assert isinstance(watch, ConceptWatch)
        labelled = Labelled.of(batch, self.name())
        losses, of = labelled.losses(outputs.logits, self.name()), of or self.count(batch)
        if not of["tokens"]:
            raise InvalidValue(
                f"{self.name()}: batch must hold a label after the first token of a row; all are -100; leave out "
                f"samples without a response."
            )
        parts = {} if self.stage == "heads" else {"next": losses[labelled.counted].sum() / of["tokens"]}
        if watch.heads is not None:
            for k in range(1, self.heads + 1):
                factor = self.decay**k * (1.0 if self.stage == "heads" else self.weight * self._left(watch.done))
                parts[f"ahead_{k}"] = factor * _ahead(watch.heads, labelled, k) / max(1, of[f"ahead_{k}"])
        value = torch.stack(list(parts.values())).sum()
        return Loss(value, {name: part.detach() for name, part in parts.items()}, labelled.counted.float())

    def _left(self, done: float) -> float:
        return 1.0 if self.fade == "none" else math.sin(math.pi / 2 * (1 - done))


class ConceptWatch(Watch):
    """The heads beside one model."""

    objective: ConceptAware

    def __init__(self, objective: ConceptAware, model: Any) -> None:
        super().__init__(objective, model)
        self.heads = ConceptHeads(model, objective.heads, objective.copied) if objective.looks_ahead else None
        if self.heads is not None:
            if objective.folder:
                self.heads.fill(objective.folder)
            if objective.stage == "heads" or objective.learns:
                self.learned = self.heads
            else:
                self.heads.requires_grad_(False)

    @contextmanager
    def attached(self) -> Iterator[None]:
        if self.heads is None:
            yield
            return
        with self.heads.attached():
            if self.objective.stage == "tune":
                yield
                return
            learning = [p for p in self.model.parameters() if p.requires_grad]
            try:
                for p in learning:
                    p.requires_grad_(False)
                yield
            finally:
                for p in learning:
                    p.requires_grad_(True)

    def inputs(self, batch: Batch) -> dict[str, Any]:
        if self.heads is not None:
            self.heads.forget()
        return super().inputs(batch)


def _counted(labelled: Labelled, k: int) -> Bool[Tensor, "B N"]:
    """The labels that head k is asked for: k + 1 tokens before them stands one of the same row."""
    found = torch.zeros_like(labelled.counted)
    if k + 1 < found.shape[1]:
        found[:, k + 1 :] = labelled.counted[:, k + 1 :] & labelled.real[:, : -k - 1]
    return found


def _ahead(heads: ConceptHeads, labelled: Labelled, k: int) -> Tensor:
    """The sum of the cross-entropies of head k, in nats."""
    row, column = _counted(labelled, k).nonzero(as_tuple=True)
    states = heads(k - 1)[row, column - 1 - k]
    return cross_entropy(heads.logits(states).float(), labelled.labels[row, column], reduction="sum")
