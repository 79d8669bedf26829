"""Questions over short passages of the sample documents: what half of a passage is worth to a model that answers."""

from __future__ import annotations

import random
from dataclasses import replace

import torch

from tests.compress.compress_rows import pieces, row
from tokenry.compress.random import RandomUnits
from tokenry.data import Question, questions, read
from tokenry.measure.statistics.intervals import of_mean
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.document import Document
from tokenry.models.text.prompt import prompt

# Layers and units were looked at on the other two documents only.
HELD_OUT = ("moby_dick", "in_the_year_2889", "constitution")


class Pieces:
    """A tokenizer that cuts ASCII as `compress_rows` does, for tiny models of 128 entries."""

    def __call__(self, text: str, **_):
        return {"input_ids": row(text).ids.tolist(), "offset_mapping": [(a, b) for _, a, b in pieces(text)]}


def held_out() -> list[Question]:
    return [q for q in questions() if q.document in HELD_OUT]


def passage(question: Question, characters: int = 1300) -> str:
    """About 300 tokens around the evidence of a question, which may stand anywhere in them."""
    text = read(question.document)
    at = text.index(question.evidence)
    low = max(0, at - random.Random(question.id).randint(0, max(0, characters - len(question.evidence))))
    high = min(len(text), low + characters)
    low = max(0, min(low, high - characters))
    while low > 0 and not text[low - 1].isspace():
        low -= 1
    while high < len(text) and not text[high - 1].isspace():
        high -= 1
    return text[low:high].strip()


@torch.no_grad()
def likelihood(language: LanguageModel, batch, answer: str) -> float:
    """log p of an answer behind a prompt, in nats per token."""
    ids = torch.tensor([language.tokenizer(answer, add_special_tokens=False)["input_ids"]])
    logits = language.model(input_ids=torch.cat((batch.ids, ids), 1), logits_to_keep=ids.shape[1] + 1).logits[0, :-1]
    return float(logits.float().log_softmax(-1).gather(1, ids[0, :, None]).mean())


def compared(method, language: LanguageModel, asked: list[Question]) -> dict[str, torch.Tensor]:
    """Likelihood of the first answer of every question: best half, worst half, and the mean of four random halves."""
    found: dict[str, list[float]] = {"best": [], "worst": [], "random": []}
    for question in asked:
        batch = prompt(language.tokenizer, [Document(passage(question))], question.ask)
        ranking = method.rank(batch, question.ask, model=language)

        def value(half, answer=question.answers[0]):
            return likelihood(language, half, answer)

        chance = RandomUnits(units=method.units, budget=method.budget)
        found["best"].append(value(method.fit(batch, ranking)))
        found["worst"].append(value(method.fit(batch, ranking.inverted())))
        halves = [replace(chance, seed=seed).compress(batch) for seed in range(4)]
        found["random"].append(sum(map(value, halves)) / len(halves))
    return {name: torch.tensor(values) for name, values in found.items()}


def lower_end(values: torch.Tensor) -> float:
    """Lower end of the 95 % interval of a mean."""
    return of_mean(values)[0]
