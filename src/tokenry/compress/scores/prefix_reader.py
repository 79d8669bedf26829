"""Surprise of a text that stands after another one: a causal model whose cache holds what does not change."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache

from tokenry.compress.scores.information import CHUNK, beginning
from tokenry.models.cache.name import with_cache
from tokenry.models.files.load import LanguageModel


class PrefixReader:
    """A scorer that reads after a text which only grows; its cache is kept as far as what it holds is still right."""

    def __init__(self, scorer: LanguageModel, piece: int, window: int) -> None:
        self.scorer, self.piece, self.window = scorer, piece, window
        self.begin = beginning(scorer).tolist()
        # Layers that forget, as those of sliding windows do, could not be cropped.
        self.cache = DynamicCache()
        self.held: list[int] = []
        self.start = 0

    @torch.no_grad()
    def read(self, standing: list[int], ids: Int[Tensor, "F"]) -> Float[Tensor, "F"]:
        """-log p in nats of each of `ids`, which stand after `standing`."""
        fresh, parts = ids.tolist(), [torch.zeros(0)]
        for low in range(0, len(fresh), self.piece):
            parts.append(self._after(standing + fresh[:low], fresh[low : low + self.piece]))
        return torch.cat(parts)

    def _after(self, before: list[int], fresh: list[int]) -> Float[Tensor, "F"]:
        room = self.window - len(self.begin) - len(fresh)
        if len(before) - self.start > room:
            # Half of the room stays free, so that this does not happen with every segment.
            self.start = len(before) - room // 2
        context = self.begin + before[self.start :]
        whole = context + fresh
        # The last token of the context is always read, since it predicts the first one after it.
        same = min(_common(whole, self.held), max(0, len(context) - 1))
        self.cache.crop(same - len(self.held))
        found = self._run(torch.tensor(whole, device=self.scorer.device), same)
        self.held = whole
        return found[-len(fresh) :]

    def _run(self, whole: Int[Tensor, "C"], same: int) -> Float[Tensor, "_"]:
        """Surprise of all tokens after the one at `same`; of that too where it is the first and nothing precedes."""
        parts: list[Tensor] = []
        for low in range(same, len(whole), CHUNK):
            ids = whole[low : low + CHUNK].unsqueeze(0)
            logits = self.scorer.model(input_ids=ids, **with_cache(self.cache), use_cache=True).logits[0]
            if low == 0:
                parts.append(torch.full((1,), float(logits.shape[-1])).log())
            following = whole[low + 1 : low + CHUNK + 1]
            logits = logits[: len(following)].float()
            parts.append((logits.logsumexp(-1) - logits.gather(-1, following.unsqueeze(-1)).squeeze(-1)).cpu())
        return torch.cat(parts)


def _common(a: list[int], b: list[int]) -> int:
    """Length of the longest common beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
