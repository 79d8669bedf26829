"""Train a hypernetwork: first to give the rows that there are, then to make a frozen model predict text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import log
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from tokenry.core.errors import InvalidValue
from tokenry.core.schooling import Entry, Schooling, school
from tokenry.embed.hypernetwork.network import Hypernetwork, Made, source_of, spellings
from tokenry.embed.hypernetwork.sampling import Sampler, Sampling
from tokenry.embed.transfer.donor import Donor
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.embeddings import Matrices, matrices_of, with_matrices
from tokenry.models.text.vocabulary import pieces_of

HELD_OUT = 16
"""Of so many parts of the texts one is kept out of training, to measure on."""

LOOKED_AT = 8
"""Rows of held-out text that are measured."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a hypernetwork is trained; the paper's numbers are those of `paper`.

    Args:
        first: steps in which it learns the rows that there are.
        first_rows: rows of such a step.
        first_rate: their learning rate.
        steps: steps in which the model reads text over drawn vocabularies.
        rows: texts of such a step.
        tokens: tokens of each text.
        rate: learning rate.
        negatives: pieces that no text of the step holds, but compete in every prediction.
        auxiliary: weight of the distance from rows that there are.
        each: steps that share a drawn vocabulary.
        seed: of everything that is drawn.
        every: steps between two entries of the log, each with a checkpoint.
    """

    first: int = 0
    first_rows: int = 2048
    first_rate: float = 3e-4
    steps: int = 1000
    rows: int = 8
    tokens: int = 128
    rate: float = 3e-4
    negatives: int = 1024
    auxiliary: float = 0.5
    each: int = 4
    seed: int = 0
    every: int = 50

    @classmethod
    def paper(cls) -> Course:
        """The numbers of the paper: of days on many accelerators."""
        return cls(first=10_000, first_rows=16_384, steps=200_000, rows=128, rate=6e-5, each=1)


class Lesson(NamedTuple):
    """Texts over a drawn vocabulary.

    Args:
        ids: numbers of the pieces in `pieces`.
        pieces: those that the texts hold, then some that they do not.
        held: how many of them the texts hold.
        others: pieces of the vocabulary that the texts do not hold.
    """

    ids: Int[Tensor, "B N"]
    pieces: list[bytes | None]
    held: int
    others: int


class Teacher:
    """A frozen model that says how good rows are.

    Args:
        language: the model; its weights stay.
        texts: what it predicts.
        course: how.
        sampling: how vocabularies are drawn.
    """

    def __init__(self, language: LanguageModel, texts: Sequence[str], course: Course, sampling: Sampling) -> None:
        self.course = course
        self.donor = Donor.of(language)
        self.source = source_of(self.donor)
        self.model = _without_padding(language)
        found = Sampler(texts, sampling)
        self.sampler = found
        held = set(range(0, len(found.texts), HELD_OUT))
        self.train = [text for i, text in enumerate(found.texts) if i not in held]
        self.test = [text for i, text in enumerate(found.texts) if i in held]
        self.begin = next(
            (i for i in (language.tokenizer.bos_token_id, language.tokenizer.eos_token_id) if i is not None), None
        )
        self._drawn: tuple[int, Tokenizer, list[bytes | None]] | None = None

    def vocabulary(self, number: int) -> tuple[Tokenizer, list[bytes | None]]:
        """The drawn vocabulary of this number, and what each of its ids spells."""
        if self._drawn is None or self._drawn[0] != number:
            import json

            tokenizer = self.sampler.draw(torch.Generator().manual_seed(self.course.seed << 32 | number))
            self._drawn = (number, tokenizer, list(pieces_of(json.loads(tokenizer.to_str()))))
        return self._drawn[1], self._drawn[2]

    def lesson(self, number: int, chance: torch.Generator) -> Lesson:
        """Texts and negatives of one step."""
        tokenizer, pieces = self.vocabulary(number)
        rows = self._rows(tokenizer, self.train, self.course.rows, chance)
        held, ids = rows.unique(return_inverse=True)
        absent = torch.ones(len(pieces), dtype=torch.bool)
        absent[held] = False
        others = absent.nonzero()[:, 0]
        picked = others[torch.randperm(len(others), generator=chance)[: self.course.negatives]]
        wanted = [pieces[i] for i in [*held.tolist(), *picked.tolist()]]
        return Lesson(ids, wanted, len(held), len(others))

    def _rows(self, tokenizer: Tokenizer, texts: list[str], count: int, chance: torch.Generator) -> Int[Tensor, "B N"]:
        """Rows of as many tokens each, from texts that follow each other in the corpus."""
        found: list[list[int]] = []
        for _ in range(100 * count):
            at = int(torch.randint(len(texts), (), generator=chance))
            ids = tokenizer.encode("".join(texts[at : at + 2 + self.course.tokens // 64])).ids
            if len(ids) >= self.course.tokens:
                found.append(ids[: self.course.tokens])
            if len(found) == count:
                return torch.tensor(found)
        raise InvalidValue("zett: texts must be longer to learn from; give more of them.")

    def bits(self, made: Made, lesson: Lesson, known: Tensor) -> Tensor:
        """Cross-entropy of the texts in nats a token, over the pieces of the lesson as if all others were there."""
        # The sum over negatives stands for that over all pieces that the texts do not hold.
        size = len(lesson.pieces)
        chosen = size - lesson.held
        rows, output = made.input, made.output
        ids, shift = lesson.ids, 0
        if self.begin is not None:
            rows = torch.cat((rows, self.donor.input[self.begin][None].float().cpu()))
            if output is not None:
                assert self.donor.output is not None
                output = torch.cat((output, self.donor.output[self.begin][None].float().cpu()))
            ids, shift = torch.cat((torch.full((len(ids), 1), size), ids), 1), 1
        logits = _logits(self.model, rows, output, ids)[:, : -1, :size].float()
        if chosen:
            weight = torch.zeros(size)
            weight[lesson.held :] = log(max(1, lesson.others) / chosen)
            logits = logits + weight
        wanted = ids[:, 1:]
        return cross_entropy(logits.flatten(0, 1), wanted.flatten())

    def loss(self, pupil: Hypernetwork, number: int, chance: torch.Generator) -> Tensor:
        """Of one step of the second stage."""
        lesson = self.lesson(number, chance)
        spelled = spellings(self.donor, lesson.pieces)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.model.dtype == torch.bfloat16):
            made = pupil.rows(self.source, spelled)
        whole = torch.tensor([ids[0] if len(ids) == 1 and ids[0] < len(self.source) else -1 for ids in spelled])
        return self.bits(made, lesson, whole) + self.course.auxiliary * self.distance(made, whole)

    def distance(self, made: Made, whole: Int[Tensor, "P"]) -> Tensor:
        """Mean squared distance from the rows that there are, in units of the squared mean norm."""
        mine = (whole >= 0).nonzero()[:, 0]
        parts = [(made.input, self.donor.input)]
        if made.output is not None:
            assert self.donor.output is not None
            parts.append((made.output, self.donor.output))
        total = torch.zeros(())
        for rows, matrix in parts:
            old = matrix[whole[mine]].float().cpu()
            total = total + (rows[mine] - old).square().sum(1).mean() / old.norm(dim=1).mean().square()
        return total / len(parts)


def _logits(model: Any, rows: Tensor, output: Tensor | None, ids: Tensor) -> Tensor:
    """What the model says when these are its rows."""
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    names = {id(p): n for n, p in model.named_parameters(remove_duplicate=False)}
    width = head.in_features
    given = {names[id(table.weight)]: rows.to(table.weight.dtype)}
    if head.weight is table.weight:
        given |= {n: given[names[id(table.weight)]] for n, p in model.named_parameters(remove_duplicate=False) if p is table.weight}
    else:
        assert output is not None
        given[names[id(head.weight)]] = output[:, :width].to(head.weight.dtype)
        if head.bias is not None:
            given[names[id(head.bias)]] = output[:, width].to(head.weight.dtype)
    return functional_call(model, given, (), {"input_ids": ids, "use_cache": False}).logits


def _without_padding(language: LanguageModel) -> Any:
    """The model with weights that do not learn, and without an id whose row is never learned."""
    matrices = matrices_of(language.model)
    model = with_matrices(language.model, Matrices(matrices.input, matrices.output), {})
    for p in model.parameters():
        p.requires_grad_(False)
    model.set_attn_implementation("eager")
    return model.eval()
