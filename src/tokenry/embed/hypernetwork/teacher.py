"""A frozen model that says how good predicted rows are: near the rows that there are, and good for predicting text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import log
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from tokenry.core.errors import InvalidValue
from tokenry.embed.hypernetwork.network import Hypernetwork, Made, source_of, spellings
from tokenry.embed.hypernetwork.sampling import Sampler, Sampling, parts_of
from tokenry.embed.transfer.donor import Donor
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.embeddings import Matrices, matrices_of, with_matrices

HELD_OUT = 16
"""Of so many parts of the texts one is kept out of training, to measure on."""

STRETCH = 128
"""Characters: what is measured on is cut into pieces of so many, none of which stands in a part of the training."""

TRIES = 100
"""Places in the texts that are looked at for each row, before they are found to be too short."""


class Lesson(NamedTuple):
    """Texts over a drawn vocabulary.

    Args:
        ids: numbers of the pieces in `pieces`.
        pieces: those that the texts hold, then some that they do not.
        held: how many of them the texts hold.
        others: pieces of the vocabulary that the texts do not hold.
    """

    ids: Int[Tensor, "B N"]
    pieces: list[bytes]
    held: int
    others: int

    @property
    def bytes(self) -> int:
        """How long the texts are."""
        return sum(len(self.pieces[i]) for i in self.ids.flatten().tolist())


class Teacher:
    """A frozen model with texts.

    Args:
        language: the model.
        texts: what it predicts; parts of them are kept to measure on, and nothing that repeats these is trained on.
        sampling: how vocabularies are drawn.
    """

    def __init__(self, language: LanguageModel, texts: Sequence[str], sampling: Sampling) -> None:
        self.donor = Donor.of(language)
        self.source = source_of(self.donor)
        matrices = matrices_of(language.model)
        # A copy without an id for padding, whose row would learn nothing; attention of short rows is fastest in parts.
        self.model = with_matrices(language.model, Matrices(matrices.input, matrices.output), {}).eval()
        self.model.set_attn_implementation("eager")
        parts = [part for text in texts for part in parts_of(text)]
        if not parts:
            raise InvalidValue("hypernetwork: texts must hold some text; got none.")
        self.test = parts[::HELD_OUT]
        self.train = apart([part for i, part in enumerate(parts) if i % HELD_OUT], self.test)
        if not self.train:
            raise InvalidValue(
                f"hypernetwork: texts must hold more than what is measured on, one of {HELD_OUT} parts and what "
                f"repeats it; got nothing else in {len(parts)} parts; give more text."
            )
        self.sampler = Sampler(self.train, sampling)
        marks = (language.tokenizer.bos_token_id, language.tokenizer.eos_token_id)
        self.begin = next((i for i in marks if i is not None), None)

    @property
    def fingerprint(self) -> str:
        """The same for the same texts."""
        return hashlib.sha256(json.dumps([self.train, self.test]).encode()).hexdigest()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The model's weights get no gradients inside the block."""
        learning = [p for p in self.model.parameters() if p.requires_grad]
        for p in learning:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in learning:
                p.requires_grad_(True)

    def lesson(self, rows: int, tokens: int, negatives: int, chance: torch.Generator, *, test: bool = False) -> Lesson:
        """Texts over a vocabulary that is drawn for them."""
        drawn = self.sampler.draw(chance)
        read = _rows(drawn.tokenizer, self.test if test else self.train, rows, tokens, chance)
        held, ids = read.unique(return_inverse=True)
        absent = torch.ones(len(drawn.pieces), dtype=torch.bool)
        absent[held] = False
        others = absent.nonzero()[:, 0]
        picked = others[torch.randperm(len(others), generator=chance)[:negatives]]
        pieces = [drawn.pieces[i] for i in [*held.tolist(), *picked.tolist()]]
        return Lesson(ids, pieces, len(held), len(others))

    def made(self, pupil: Hypernetwork, lesson: Lesson) -> tuple[Made, Int[Tensor, "P"]]:
        """The predicted rows of a lesson's pieces, and the old id of each that is one old piece, else -1."""
        spelled = spellings(self.donor, lesson.pieces)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.model.dtype == torch.bfloat16):
            made = pupil.rows(self.source, spelled)
        known = [ids[0] if len(ids) == 1 and ids[0] < len(self.source) else -1 for ids in spelled]
        return made, torch.tensor(known)

    def nats(self, made: Made, lesson: Lesson) -> Tensor:
        """Cross-entropy of the texts, a token; what they do not hold competes as if all of it were there."""
        size = len(lesson.pieces)
        rows, output, ids = made.input, made.output, lesson.ids
        if self.begin is not None:
            rows = torch.cat((rows, self.donor.input[[self.begin]].float().cpu()))
            if output is not None and self.donor.output is not None:
                output = torch.cat((output, self.donor.output[[self.begin]].float().cpu()))
            ids = torch.cat((torch.full((len(ids), 1), size), ids), 1)
        logits = _logits(self.model, rows, output, ids)[:, :-1, :size].float()
        if chosen := size - lesson.held:
            # The sum over the random pieces stands for that over all that the texts do not hold.
            weight = torch.zeros(size)
            weight[lesson.held :] = log(lesson.others / chosen)
            logits = logits + weight
        return cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    def distance(self, made: Made, known: Int[Tensor, "P"]) -> Tensor:
        """Mean squared distance from the rows that there are, in units of their squared mean length."""
        here = (known >= 0).nonzero()[:, 0]
        pairs = [(made.input, self.donor.input)]
        if made.output is not None and self.donor.output is not None:
            pairs.append((made.output, self.donor.output))
        total = torch.zeros(())
        for rows, matrix in pairs if len(here) else []:
            old = matrix[known[here]].float().cpu()
            total = total + (rows[here] - old).square().sum(1).mean() / old.norm(dim=1).mean().square()
        return total / len(pairs)


def apart(parts: Sequence[str], test: Sequence[str]) -> list[str]:
    """Parts that are no part of the test, and share no stretch of twice `STRETCH` characters with one."""
    held = set(test)
    held |= {part[at : at + STRETCH] for part in test for at in range(0, len(part) - STRETCH + 1, STRETCH)}
    return [
        part
        for part in parts
        if part not in held and not any(part[at : at + STRETCH] in held for at in range(len(part) - STRETCH + 1))
    ]


def _rows(tokenizer: Tokenizer, texts: Sequence[str], rows: int, tokens: int, chance: torch.Generator) -> Tensor:
    """Rows of as many tokens each, from places in the texts."""
    found: list[list[int]] = []
    for _ in range(TRIES * rows):
        at = int(torch.randint(len(texts), (), generator=chance))
        ids = tokenizer.encode("".join(texts[at : at + 1 + tokens // 32])).ids
        if len(ids) >= tokens:
            found.append(ids[:tokens])
        if len(found) == rows:
            return torch.tensor(found)
    raise InvalidValue(f"hypernetwork: texts must be longer than {tokens} tokens; got {len(texts)} short parts.")


def _logits(model: Any, rows: Float[Tensor, "P E"], output: Float[Tensor, "P F"] | None, ids: Tensor) -> Tensor:
    """What the model says of ids when these are its rows."""
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    given: dict[int, Tensor] = {}
    if output is not None:
        given[id(head.weight)] = output[:, : head.in_features].to(head.weight.dtype)
        if head.bias is not None:
            given[id(head.bias)] = output[:, head.in_features].to(head.weight.dtype)
    given[id(table.weight)] = rows.to(table.weight.dtype)
    named = {n: given[id(p)] for n, p in model.named_parameters(remove_duplicate=False) if id(p) in given}
    return functional_call(model, named, (), {"input_ids": ids, "use_cache": False}, tie_weights=False).logits
