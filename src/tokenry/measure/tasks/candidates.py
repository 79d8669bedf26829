"""Judge an answer among candidates: what does a model prefer where they part?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from tokenry.core.errors import InvalidValue

Ids = Sequence[int]


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen where a right item and its candidates stood side by side.

    Args:
        picked: number of the candidate that was preferred, or None for the right one.
        logprob: of the right one in nats, among the candidates.
    """

    picked: int | None
    logprob: float


def choose(right: Ids, others: Sequence[Ids], logits: Float[Tensor, "N V"]) -> Choice:
    """Decode greedily among given answers, as if no other token existed.

    Answers are ways through a tree of tokens. Where only one token goes on, nothing is chosen; where several do, the
    model's most likely one is. All forks on the way of the right answer are known from reading that answer once, which
    is enough to say whether it is found, and how likely it is: the product over its forks of its token's share.

    Args:
        right: ids of the right answer.
        others: ids of wrong ones.
        logits: for every token of the right answer, before it was read.

    Raises:
        InvalidValue: a wrong answer that begins with the right one, or the other way round.
    """
    forks: dict[int, dict[int, int]] = {}
    for number, other in enumerate(others):
        at = _part(right, other)
        forks.setdefault(at, {}).setdefault(other[at], number)
    picked, logprob = None, 0.0
    for at in sorted(forks):
        tokens = [right[at], *forks[at]]
        shares = logits[at, tokens].float().log_softmax(-1)
        logprob += float(shares[0])
        # A tie is no preference for the right one: a model that says nothing finds nothing.
        if picked is None and bool(shares[1:].max() >= shares[0]):
            picked = forks[at][tokens[1 + int(shares[1:].argmax())]]
    return Choice(picked, logprob)


def _part(right: Ids, other: Ids) -> int:
    """The first token at which two answers differ."""
    for at, (a, b) in enumerate(zip(right, other, strict=False)):
        if a != b:
            return at
    raise InvalidValue(
        f"candidates: must differ from the right answer at some token; got {len(other)} tokens that begin as its "
        f"{len(right)} do; end answers with a mark such as a quotation mark."
    )
