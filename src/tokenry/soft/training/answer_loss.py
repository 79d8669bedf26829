"""How well a model gives the answers after prompts with soft tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from tokenry.core.errors import InvalidValue
from tokenry.models.cache.name import with_cache
from tokenry.models.cache.prefix import slides
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.lookup import lookup
from tokenry.soft.base import SoftTokens
from tokenry.soft.prompts.rows import stack, with_embeds
from tokenry.soft.training.examples import Lesson, answers


def loss(method: SoftTokens, language: LanguageModel, batch: Sequence[Lesson]) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, of the answers' tokens after their prompts with the soft tokens."""
    # Sliding windows count the padding between a prefix and a shorter prompt, so such prompts are read apart.
    apart = sorted(batch, key=_length) if slides(language.model) else batch
    groups = [list(g) for _, g in groupby(apart, _length)] if slides(language.model) else [list(batch)]
    parts = [answer_logits(method, language, group) for group in groups]
    return cross_entropy(torch.cat([logits for logits, _ in parts]), torch.cat([ids for _, ids in parts]))


@torch.no_grad()
def evaluate(method: SoftTokens, language: LanguageModel, lessons: Sequence[Lesson], batch: int) -> float:
    """The loss over all lessons, `batch` of them at a time."""
    total = count = 0.0
    for start in range(0, len(lessons), batch):
        part = lessons[start : start + batch]
        tokens = sum(len(lesson.answer) for lesson in part)
        total, count = total + float(loss(method, language, part)) * tokens, count + tokens
    return total / count


def answer_logits(
    method: SoftTokens | None, language: LanguageModel, batch: Sequence[Lesson]
) -> tuple[Float[Tensor, "M V"], Int[Tensor, "M"]]:
    """Logits for all tokens of the answers, of which each sees those before it, and these tokens; row after row.

    Args:
        method: None for the model alone.

    Raises:
        InvalidValue: more tokens than the model's context.
    """
    device = language.device
    prompts = stack([lesson.prompt for lesson in batch]).to(device)
    embed = lookup(language.model)
    asked = with_embeds(prompts, embed) if method is None else method.embed(prompts, language)
    cache = None if method is None else method.cache(asked, language)
    held = 0 if cache is None else cache.get_seq_length()
    ids, real = (t.to(device) for t in answers(batch))
    assert asked.embeds is not None
    fed = ids.shape[1] - 1
    n = int(asked.lengths.max()) + fed
    if language.context is not None and n > language.context:
        raise InvalidValue(
            f"tune: soft tokens, prompt and answer must fit into a context of {language.context} tokens; got {n}; "
            "shorten the example or take fewer soft tokens."
        )
    embeds = torch.cat((asked.embeds, embed(ids[:, :fed]).to(asked.embeds)), 1)
    after = asked.positions[0, :, -1:] + 1 + torch.arange(fed, device=device)
    logits = language.model(
        inputs_embeds=embeds[:, held:],
        attention_mask=torch.cat((asked.mask, real[:, :fed]), 1).long(),
        position_ids=torch.cat((asked.positions[0], after), 1)[:, held:],
        **with_cache(cache),
        use_cache=cache is not None,
        # By index, since a slice is not contiguous and several times slower to multiply.
        logits_to_keep=torch.arange(embeds.shape[1] - held - fed - 1, embeds.shape[1] - held, device=device),
    ).logits
    return logits[real].float(), ids[real]


def _length(lesson: Lesson) -> int:
    return lesson.prompt.shape[1]
