"""What soft tokens begin as: embeddings of a text, of words of the vocabulary, of class labels, or noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.as_text import text_ids
from tokenry.models.text.lookup import lookup, vocabulary_size
from tokenry.models.text.vocabulary import vocabulary_of

STARTS = ("vocabulary", "text", "labels", "random")
COMMON = 5000
"""Pieces of the vocabulary that are drawn from; tokenizers number the frequent ones first."""
SPREAD = 0.5
"""Noise is uniform in [-SPREAD, SPREAD]."""


@torch.no_grad()
def beginning(
    who: str,
    language: LanguageModel,
    tokens: int,
    how: str,
    *,
    text: str | None = None,
    labels: Sequence[str] = (),
    seed: int = 0,
) -> Float[Tensor, "S E"]:
    """The embeddings that `tokens` soft tokens begin as, in 32-bit floats.

    Raises:
        InvalidValue: a start that does not exist or lacks its text.
    """
    check_start(who, how, text, labels)
    generator = torch.Generator().manual_seed(seed)
    embed = lookup(language.model)
    if how == "text":
        ids = _ids(who, language, text or "")
        return embed(ids.repeat(-(-tokens // len(ids)))[:tokens]).float()
    drawn = embed(_common(language, tokens, generator)).float()
    if how == "random":
        return (torch.rand(drawn.shape, generator=generator) * 2 - 1) * SPREAD
    if how == "labels":
        # A label of several tokens is their mean.
        named = torch.stack([embed(_ids(who, language, label)).float().mean(0) for label in labels[:tokens]])
        drawn[: len(named)] = named
    return drawn


def check_start(who: str, how: str, text: str | None, labels: Sequence[str]) -> None:
    """Refuse a start that does not exist, or that is given what it does not use."""
    if how not in STARTS:
        raise InvalidValue(f"{who}: start must be one of {', '.join(STARTS)}; got {how!r}.")
    for name, given in (("text", bool(text and text.strip())), ("labels", bool(labels))):
        if given != (how == name):
            state = "must be given" if how == name else "must be left out"
            raise InvalidValue(f"{who}: {name} {state} with start={how}; change one of them.")


def _ids(who: str, language: LanguageModel, text: str) -> Tensor:
    ids = text_ids(language.tokenizer, text)
    if not ids:
        raise InvalidValue(f"{who}: start needs a text with at least one token; got {text!r}.")
    return torch.tensor(ids, dtype=torch.long)


def _common(language: LanguageModel, tokens: int, generator: torch.Generator) -> Tensor:
    """Ids of different pieces of text, drawn from the first ones of the vocabulary; again from all where these end."""
    held = vocabulary_size(language.model)
    ids = [i for i, piece in enumerate(vocabulary_of(language.tokenizer)) if piece is not None and i < held]
    among = torch.tensor(ids[: max(COMMON, tokens)])
    times = -(-tokens // len(among))
    return torch.cat([among[torch.randperm(len(among), generator=generator)] for _ in range(times)])[:tokens]
