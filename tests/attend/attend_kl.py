"""How far a method's predictions are from dense ones, on real prose that is fed as if it were generated."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import torch

from tokenry.data import read
from tokenry.models.cache.name import cache_of, with_cache
from tokenry.models.generate.answer import divergence

DOCUMENTS = ("moby_dick", "sotu_1930", "sotu_1975", "in_the_year_2889")
PROMPT, STEPS = 800, 64


class Passage:
    """The beginning of a document: 800 tokens are read, 64 follow one by one. The dense reading is done once."""

    def __init__(self, language, document):
        ids = language.tokenizer(read(document), return_tensors="pt", verbose=False)["input_ids"]
        self.model, self.ids = language.model, ids[:, : PROMPT + STEPS]
        with torch.no_grad():
            self._read = cache_of(self.model(input_ids=self.ids[:, :PROMPT], use_cache=True))
        self._dense = self._follow(nullcontext(), copy.deepcopy(self._read))

    def kl(self, method, *, watches_prompt=False):
        """Mean KL(dense || method) in nats; a method that looks at the prompt being read reads it itself."""
        attached = method(self.model, prompt_tokens=PROMPT)
        other = self._follow(attached, None if watches_prompt else copy.deepcopy(self._read))
        return divergence(self._dense, other)[0].mean().item()

    def _follow(self, attached, cache):
        rows = []
        with torch.no_grad(), attached:
            if cache is None:
                cache = cache_of(self.model(input_ids=self.ids[:, :PROMPT], use_cache=True))
            for i in range(PROMPT, PROMPT + STEPS):
                out = self.model(input_ids=self.ids[:, i : i + 1], **with_cache(cache))
                rows.append(out.logits[0, -1].float())
        return torch.stack(rows)
