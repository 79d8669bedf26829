"""ELECTRA: learn to tell which tokens of a text were replaced by those of a small generator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, choice, natural, part, setting
from tokenry.learn.base import Batch, Loss, Objective, Watch
from tokenry.learn.parts.generator import Generator, Guesser, Small
from tokenry.learn.replaced.detector import Detector
from tokenry.learn.replaced.masking import draw, hidden_count, hide, seeds
from tokenry.learn.selection.labels import Labelled
from tokenry.models.attention.adapter import unwrap

TASKS = ("detect", "detect_hidden", "replace_mlm", "all_tokens_mlm", "mlm")


@dataclass(frozen=True, kw_only=True)
class Electra(Objective):
    """Let a small generator replace some tokens, and the model say of every token whether it is the original.

    What it does
        `share` of the labelled tokens are hidden; the generator says what they are, L_MLM in nats over the hidden ones,
        and one token is drawn for each. The model reads the text with these in place.
        L = L_MLM + weight BCE, where BCE is over all labelled tokens, and the answer is yes where the drawn token is
        not the original.
        task detect_hidden: BCE over the hidden tokens only.  replace_mlm: the model says what the originals of the
        hidden tokens were; all_tokens_mlm: of all tokens.  mlm: hidden tokens are the mark `mark`, without a generator:
        what encoders are otherwise trained with.
    Where it acts
        On an encoder; on a causal model it works too, which then looks back only. Labels are the ids themselves, -100
        at special tokens and padding, which are neither hidden nor judged.
    Shapes
        ids (B, N), labels (B, N) -> value (), token_weights (B, N) of 0 and 1.
    Guarantees
        `weight=0` is the generator's masked language modelling. No gradient of the judgement reaches the generator but
        by the embeddings, which both read. What is hidden and drawn depends on the sample, the seed and where the
        training stands, not on the batch or its padding; the global random state stays. Splitting a step changes
        nothing.
    Raises
        InvalidValue: labels that are not the ids themselves or -100, packed rows, no label, or no mark where one is
            needed.
    Deviations
        The generator has sinusoidal positions of its own; only token embeddings are shared, through a projection.
        A token that has no other before it is not judged.
    Relations
        `mlm` is its baseline, `detect_hidden`, `replace_mlm` and `all_tokens_mlm` its ablations, the generators
        `unigram` and `uniform` its controls.
    """

    card = Card(
        title="ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators",
        year=2020,
        url="https://arxiv.org/abs/2003.10555",
        summary="learn to tell tokens that a small generator replaced from the originals",
        trial={"generator": "small[layers=1]", "weight": 5.0},
        deviations=(
            "the generator's positions are sinusoids of its own; the published code shares the discriminator's",
            "the first token of a row is neither hidden nor judged",
            "both losses are divided by their tokens in the whole optimiser step",
        ),
        exempt={
            "identity_is_cross_entropy": "no setting is the cross-entropy of the next token: the model reads other "
            "tokens than the text's and is asked about those in place",
        },
    )

    task: str = choice(*TASKS, default="detect", doc="what the model is asked")
    generator: Generator = part(Small(), doc="who says what could stand in place of a hidden token")
    share: float = between(0.0, 1.0, default=0.15, doc="of the labelled tokens that are hidden")
    weight: float = between(0.0, 1000.0, default=50.0, doc="of what the model is asked, beside the generator's loss")
    temperature: float = between(0.01, 100.0, default=1.0, doc="at which tokens are drawn")
    mark: int | None = setting(None, doc="id of the mask, which the model reads with task=mlm")
    seed: int = natural(0, doc="of what is hidden and drawn, and of the head's first weights")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task == "mlm" and self.mark is None:
            raise InvalidValue("Electra: mark must be an id where task is mlm; got none; pass the tokenizer's mask id.")

    def watch(self, model: Any) -> Watch:
        return ElectraWatch(self, model)

    def count(self, batch: Batch) -> Counter[str]:
        counts = Labelled.of(batch, self.name()).counted.sum(1).tolist()
        return Counter(tokens=sum(counts), hidden=sum(hidden_count(self.share, n) for n in counts if n))

    def loss(self, outputs: Any, batch: Batch, watch: Watch, of: Counter[str] | None = None) -> Loss:
        assert isinstance(watch, ElectraWatch)
        labelled, of, asked = self.checked(batch, watch), of or self.count(batch), watch.asked
        if not of["tokens"]:
            raise InvalidValue(
                f"{self.name()}: batch must hold a label after the first token of a row; all are -100; leave out "
                f"such samples."
            )
        if asked is None:
            raise InvalidValue(f"{self.name()}: the model must read watch.inputs(batch) before its loss is asked for.")
        parts: dict[str, Tensor] = {}
        if watch.guesser.module is not None and self.task != "mlm":
            wrong = cross_entropy(asked.logits, asked.originals, reduction="sum")
            parts["generator"] = wrong / max(1, of["hidden"])
        judged = asked.hidden if self.task not in ("detect", "all_tokens_mlm") else labelled.counted
        if self.weight > 0 or not parts:
            number = of["tokens"] if self.task in ("detect", "all_tokens_mlm") else of["hidden"]
            factor = 1.0 if self.task == "mlm" else self.weight
            parts["model"] = factor * self._asked(outputs, labelled, judged, watch) / max(1, number)
        value = torch.stack([part.float() for part in parts.values()]).sum()
        return Loss(value, {name: part.detach().float() for name, part in parts.items()}, judged.float())

    def checked(self, batch: Batch, watch: ElectraWatch) -> Labelled:
        """The labels of a batch, which must be its ids."""
        labelled = Labelled.of(batch, self.name())
        wanted, size = labelled.labels[labelled.counted], watch.size
        if len(wanted) and not bool((wanted.min() >= 0) & (wanted.max() < size)):
            raise InvalidValue(
                f"{self.name()}: labels must be -100 or ids below the model's {size}; got {int(wanted.min())} to "
                f"{int(wanted.max())}; use the model's own tokenizer."
            )
        if labelled.ids is None or not torch.equal(labelled.ids[labelled.counted], wanted):
            raise InvalidValue(
                f"{self.name()}: labels must be the ids themselves or -100; got others; do not shift them."
            )
        return labelled

    def _asked(self, outputs: Any, labelled: Labelled, judged: Bool[Tensor, "B N"], watch: ElectraWatch) -> Tensor:
        assert watch.asked is not None
        if self.task.startswith("detect"):
            found = watch.detector(judged)
            return binary_cross_entropy_with_logits(found, watch.asked.replaced[judged].float(), reduction="sum")
        return cross_entropy(outputs.logits[judged].float(), labelled.labels[judged], reduction="sum")


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One batch with tokens replaced.

    Args:
        hidden: which tokens the generator was asked for.
        originals: what stood there.
        logits: what the generator said.
        replaced: where something else stands now.
    """

    hidden: Bool[Tensor, "B N"]
    originals: Int[Tensor, "H"]
    logits: Float[Tensor, "H V"]
    replaced: Bool[Tensor, "B N"]


class ElectraWatch(Watch):
    """The generator and the judging head beside one model."""

    objective: Electra

    def __init__(self, objective: Electra, model: Any) -> None:
        super().__init__(objective, model)
        base: Any = unwrap(model)
        self.size = len(base.get_input_embeddings().weight)
        if objective.task == "mlm" and not 0 <= int(objective.mark or 0) < self.size:
            raise InvalidValue(
                f"{objective.name()}: mark must be an id below the model's {self.size}; got {objective.mark}; pass the "
                f"tokenizer's mask id."
            )
        self.guesser: Guesser = objective.generator.begin(base)
        self.detector = Detector(base, objective.seed)
        self.asked: Asked | None = None
        learned = {"generator": self.guesser.module if objective.task != "mlm" else None}
        learned["detector"] = self.detector if objective.task.startswith("detect") and objective.weight > 0 else None
        beside = nn.ModuleDict({name: module for name, module in learned.items() if module is not None})
        self.learned = beside if len(beside) else None

    @contextmanager
    def attached(self) -> Iterator[None]:
        with self.detector.attached():
            yield
        self.asked = None

    def prepare(self, batches: Iterable[Batch]) -> None:
        self.guesser.prepare(self.objective.checked(batch, self) for batch in batches)

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | self.guesser.tensors()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        super().restore(tensors)
        self.guesser.restore(tensors)

    def inputs(self, batch: Batch) -> dict[str, Any]:
        self.detector.forget()
        labelled = self.objective.checked(batch, self)
        generators = seeds(labelled, self.objective.seed, self.done)
        hidden = hide(labelled, self.objective.share, generators)
        assert labelled.ids is not None
        ids = labelled.ids.clone()
        if self.objective.task == "mlm":
            ids[hidden] = int(self.objective.mark or 0)
            logits = torch.zeros(int(hidden.sum()), 0, device=ids.device)
        else:
            logits = self.guesser.logits(labelled, hidden)
            ids[hidden] = draw(logits, hidden, generators, self.objective.temperature)
        self.asked = Asked(hidden, labelled.ids[hidden], logits, hidden & (ids != labelled.ids))
        return super().inputs({**batch, "input_ids": ids})
