"""Bits per byte: how well a model predicts a text, comparable between vocabularies."""

from __future__ import annotations

from math import log, log2

import torch

from tokenry.core.errors import ContextOverflow
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.as_text import text_ids
from tokenry.models.text.vocabulary import vocabulary_of


def bits_per_byte(language: LanguageModel, text: str) -> float:
    """-log2 p(text) over its length in UTF-8.

    Raises:
        ContextOverflow: the text is longer than the model's context.
    """
    return bits_of(language, text_ids(language.tokenizer, text)) / len(text.encode())


@torch.no_grad()
def bits_of(language: LanguageModel, ids: list[int]) -> float:
    """-log2 p of the tokens of a text.

    Before them stands the mark for a beginning, else that for an end; without either the first token is taken to be as
    likely as any other.
    """
    marks = (language.tokenizer.bos_token_id, language.tokenizer.eos_token_id)
    begin = [i for i in marks if i is not None][:1]
    ids = begin + ids
    if language.context is not None and len(ids) > language.context:
        raise ContextOverflow(
            f"bits per byte: a text must fit into the {language.context} tokens that the model reads; got {len(ids)}; "
            f"cut it into passages."
        )
    logits = language.model(torch.tensor([ids], device=language.device)).logits[0].float()
    known = logits[:-1].log_softmax(-1).gather(1, torch.tensor(ids[1:], device=logits.device).unsqueeze(1))
    first = 0.0 if begin else log2(logits.shape[1])
    return first - float(known.double().sum()) / log(2)


def spells(language: LanguageModel, text: str) -> bool:
    """Whether the tokens of a text spell it exactly, but for a space that some tokenizers put before every text.

    What is left out of a text would cost no bits.
    """
    ids = text_ids(language.tokenizer, text)
    return vocabulary_of(language.tokenizer).spell(ids) in (text.encode(), b" " + text.encode())
