"""A causal model that scores a text: which one, in what windows, and how its values reach the document's tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.compress.units.page import Page
from tokenry.core.errors import InvalidValue
from tokenry.core.progress import counted
from tokenry.models.files.load import LanguageModel, load
from tokenry.models.text.as_text import text_ids, text_tokens

BETWEEN = "\n\n"
"""Stands between a text and what is read after it."""


def scorer_for(name: str | None, model: LanguageModel | None, who: str) -> LanguageModel:
    """The model called `name`; the one that answers where no other is named.

    Raises:
        InvalidValue: neither a name nor a model.
        UnknownModel: no model of this name.
    """
    if name is not None and (model is None or model.name != name):
        return _load(name)
    if model is None:
        raise InvalidValue(
            f"{who}: scorer must be named where no model answers; got none; pass scorer=smollm2 or model=."
        )
    return model


def by_token(
    document: Page,
    scorer: LanguageModel,
    model: LanguageModel | None,
    measure: Callable[[Int[Tensor, "S"]], Float[Tensor, "S"]],
) -> Float[Tensor, "T"]:
    """What `measure` finds in the ids of a document; through its text where `scorer` cuts it into other tokens."""
    if document.ids is None or scorer is not model or bool((document.ids < 0).any()):
        return through_text(document, scorer, measure)
    return measure(document.ids)


def through_text(
    document: Page, scorer: LanguageModel, measure: Callable[[Int[Tensor, "S"]], Float[Tensor, "S"]]
) -> Float[Tensor, "T"]:
    """Values of the document's tokens from a model with a tokenizer of its own."""
    tokens = text_tokens(scorer.tokenizer, document.text)
    return spread(measure(torch.tensor(tokens.ids, dtype=torch.long)), tokens.spans, document)


def spread(values: Float[Tensor, "S"], spans: np.ndarray, document: Page) -> Float[Tensor, "T"]:
    """Hand values of other tokens, at the characters `spans`, on to the document's tokens in proportion."""
    density = np.zeros(len(document.text) + 1)
    for value, (start, end) in zip(values.tolist(), spans.tolist(), strict=True):
        density[start:end] += value / max(1, end - start)
    total = np.concatenate(([0.0], np.cumsum(density)))
    ends = np.maximum.accumulate(document.ends) if len(document.ends) else document.ends
    # Space between tokens belongs to the token after it.
    starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
    return torch.from_numpy(total[ends] - total[starts]).float()


def plain_ids(scorer: LanguageModel, text: str) -> Int[Tensor, "T"]:
    """The ids of a text without special tokens; of no text without asking a tokenizer."""
    if not text:
        return torch.zeros(0, dtype=torch.long)
    return torch.tensor(text_ids(scorer.tokenizer, text), dtype=torch.long)


def check_below_window(who: str, name: str, value: int, window: int) -> None:
    """A part of a window leaves others before it.

    Raises:
        InvalidValue: the part fills the window.
    """
    if value >= window:
        raise InvalidValue(
            f"{who}: {name} must be below window={window}, so that every token has others before it; got {value}."
        )


def reach(scorer: LanguageModel, window: int, stride: int) -> tuple[int, int]:
    """Window and stride, made smaller where the model's context is."""
    if scorer.context is not None and scorer.context < window:
        return scorer.context, min(stride, max(1, scorer.context * 3 // 4))
    return window, stride


def room(window: int, fixed: int, who: str) -> int:
    """Tokens of the document that a window holds beside `fixed` others.

    Raises:
        InvalidValue: none.
    """
    if fixed >= window:
        raise InvalidValue(
            f"{who}: window must hold the {fixed} tokens of the question and the begin mark, and some of the "
            f"document; got {window}; raise window or ask in fewer words."
        )
    return window - fixed


def sliding(n: int, body: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """First token of each window, its first token that no window before had, and its end; all are equally long."""
    last, new = max(0, n - body), 0
    starts = (*range(0, last, min(stride, body)), last)
    for start in counted(starts, "reading chunk", len(starts)):
        end = min(n, start + body)
        yield start, new, end
        new = end


def side_by_side(n: int, body: int) -> Iterator[tuple[int, int, int]]:
    """The same for windows that share no token; their lengths differ by at most one."""
    count = -(-n // body)
    for start, end in counted(pairwise(i * n // count for i in range(count + 1)), "reading chunk", count):
        yield start, start, end


@lru_cache(maxsize=1)
def _load(name: str) -> LanguageModel:
    """A scorer of its own is loaded once; its weights are ordinary tensors, wherever they were asked for."""
    with torch.inference_mode(False):
        return load(name)
