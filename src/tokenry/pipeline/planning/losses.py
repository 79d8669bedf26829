"""What a setting loses beside the model alone: predictions, answers that were right, or needles that were found."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from tokenry.core.errors import InvalidValue
from tokenry.pipeline.planning.samples import Sample

_NAMES = "amber birch cedar delta ember fjord grove heron iris juniper kestrel linden maple north onyx poplar".split()


class Loss:
    """How much is lost of a sample.

    `tolerated` is a loss that is hard to notice, in the loss's own unit.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    tolerated: ClassVar[float]

    def prepare(self, given: Sequence[Sample]) -> list[Sample]:
        """The samples that are asked."""
        return list(given)

    def describe(self) -> str:
        """What decides the numbers."""
        return self.name


class Kl(Loss):
    """The mean KL to dense in nats a token, over what the model alone answers."""

    name, unit, tolerated = "kl", "nats a token", 0.05


class Answers(Loss, ABC):
    """Of the samples that the model alone answers rightly, those that are not any more."""

    @abstractmethod
    def right(self, sample: Sample, answer: str) -> bool:
        """Whether an answer is right."""


@dataclass(frozen=True)
class Check(Answers):
    """Answers that a command takes for right: it reads one, and its exit status says so.

    Args:
        command: a program and its arguments, for no shell; the answer is its standard input, the question stands
            in `TOKENRY_ASK` and the name of the text in `TOKENRY_TEXT`.
        seconds: that it may take.
    """

    name, unit, tolerated = "check", "of the right answers", 0.25

    command: str
    seconds: float = 60.0

    def right(self, sample: Sample, answer: str) -> bool:
        told = {"TOKENRY_ASK": sample.ask, "TOKENRY_TEXT": sample.documents[0].name}
        try:
            done = subprocess.run(
                shlex.split(self.command), input=answer.encode(errors="replace"), stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, timeout=self.seconds, env=os.environ | told, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise InvalidValue(f"check: must end within {self.seconds:g} s; {self.command!r} does not.") from None
        except (OSError, ValueError, IndexError) as error:
            raise InvalidValue(f"check: must be a command that runs; {self.command!r} does not: {error}.") from None
        return done.returncode == 0

    def describe(self) -> str:
        return f"{self.name}: {self.command}"


class Needles(Answers):
    """Numbers hidden in the texts, one in each, and asked for."""

    name, unit, tolerated = "needles", "of the needles found", 0.25

    def prepare(self, given: Sequence[Sample]) -> list[Sample]:
        return [_hidden(sample, Random(i)) for i, sample in enumerate(given)]

    def right(self, sample: Sample, answer: str) -> bool:
        return re.search(rf"(?<!\d){sample.answer}(?!\d)", answer) is not None


def _hidden(sample: Sample, random: Random) -> Sample:
    """A sample with a needle between two lines or sentences, and the question for it."""
    document = sample.documents[0]
    name, number = random.choice(_NAMES), str(random.randrange(10_000, 100_000))
    ends = [m.end() for m in re.finditer(r"\n|[.!?]\s", document.text)] or [len(document.text)]
    at = random.choice(ends)
    before = document.text[:at]
    needle = f"{'' if before.endswith((' ', chr(10))) else ' '}The code of {name} is {number}.\n"
    text = f"{before}{needle}{document.text[at:]}"
    # Whatever stands behind the needle stands further on.
    protect = tuple((a + len(needle) * (a >= at), b + len(needle) * (b > at)) for a, b in document.protect)
    hidden = replace(document, text=text, protect=protect)
    return Sample((hidden, *sample.documents[1:]), f"What is the code of {name}?", number)


def loss_of(name: str, command: str | None) -> Loss:
    """The loss of a name: `kl`, `check` with a command, or `needles`.

    Raises:
        InvalidValue: no such loss, a check without its command, or a command without a check.
    """
    if name not in ("kl", "check", "needles"):
        raise InvalidValue(f"by: must be one of kl, check, needles; got {name!r}.")
    if name == "check":
        if not command:
            raise InvalidValue("check: must be a command that says whether an answer is right; got none.")
        return Check(command)
    if command:
        raise InvalidValue(f"check: must be left out where the loss is {name}; got {command!r}; take --by check.")
    return Kl() if name == "kl" else Needles()
