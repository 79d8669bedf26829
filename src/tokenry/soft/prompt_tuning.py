"""Prompt tuning: learn the vectors that stand before a prompt, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenry.core.card import Card
from tokenry.core.fields import positive
from tokenry.core.sequence import Modality
from tokenry.core.tokens import TokenBatch
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.lookup import lookup, prove
from tokenry.soft.base import SoftTokens, bounded


@dataclass(eq=False, repr=False, kw_only=True)
class PromptTuning(SoftTokens):
    """Put S learned vectors before the embeddings of every prompt.

    What it does
        X = [P ; E[ids]], with P (S x E) learned and the model as it is. The loss is the mean cross-entropy of the
        answers' tokens in nats.
    Where it acts
        On the input embeddings, before the first layer; S tokens more in every prompt.
    Shapes
        ids (B, N) -> embeds (B, S + N, E).
    Guarantees
        With P = E[ids of a text] the logits are those of that text, bit for bit. Rows with different prompts in one
        batch are equal to single rows. P is a 32-bit float, whatever the model computes in.
    Raises
        Incompatible: P was made for another model.
        InvalidValue: a start that does not exist or lacks its text.
        UnsupportedModel: embeddings in place of ids change the model's logits.
    Deviations
        Adam with a constant learning rate of 0.03 in place of Adafactor with 0.3 and weight decay; 20 tokens in place
        of 100; causal models in place of T5.
    Relations
        `prefix_tuning` learns keys and values of every layer, and `PrefixTuning.of` reads a prompt once for all.
    """

    card = Card(
        title="The Power of Scale for Parameter-Efficient Prompt Tuning",
        year=2021,
        url="https://arxiv.org/abs/2104.08691",
        summary="learned vectors before the prompt of a model that stays as it is",
        trial={"tokens": 3},
        claims=(
            "SmolLM2-135M learns capitals from 20 pairs in 20 steps with 8 tokens: for 10 other countries the loss of "
            "the first token falls from 10.1 nats with an instruction in words to 1.9 from that text, 5.8 from words "
            "of the vocabulary and 6.0 from noise (means of two seeds; the last two are too close to tell apart)",
            "with the same start and batches it follows PEFT's prompt tuning step by step",
        ),
        deviations=(
            "Adam at 0.03 without weight decay, not Adafactor at 0.3; the paper trains 30,000 steps of 32 examples",
            "20 tokens unless told otherwise, not 100: long prompts gain little on small models",
            "causal models; T5 and its adaptation as a language model are not tried",
            "`random` draws from the same interval as the paper; `vocabulary` takes the first 5,000 pieces that spell "
            "text for the most frequent ones",
        ),
        training=True,
    )

    tokens: int = positive(20, doc="learned vectors before the prompt")

    def make(self, *, width: int) -> None:
        super().make()
        self.table = nn.Parameter(torch.zeros(bounded(self.name(), self.tokens, width)))

    @property
    def rate(self) -> float:
        return 0.03

    def begin_from(self, language: LanguageModel, rows: Float[Tensor, "S E"], how: str, seed: int) -> Self:
        prove(language.model)
        return self.begin(language, rows)

    @torch.no_grad()
    def begin(self, language: LanguageModel, rows: Float[Tensor, "S E"]) -> Self:
        """Build the parameters as these vectors."""
        self.build(width=rows.shape[1])
        self.table.copy_(rows)
        self.remember(language)
        return self

    def embed(self, batch: TokenBatch, language: LanguageModel) -> TokenBatch:
        self.check(language)
        rows = self.table.to(batch.mask.device).expand(batch.shape[0], -1, -1)
        return batch.insert(0, rows, Modality.SOFT, lookup(language.model))
