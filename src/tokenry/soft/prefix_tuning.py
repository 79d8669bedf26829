"""Prefix tuning: learn keys and values that stand before the prompt in every layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.cache_utils import Cache

from tokenry.core.card import Card
from tokenry.core.errors import Incompatible
from tokenry.core.fields import natural, positive
from tokenry.core.sequence import Modality
from tokenry.core.tokens import TokenBatch
from tokenry.models.cache.prefix import Prefix, check_gaps, geometry, prefix_cache
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.lookup import lookup
from tokenry.soft.base import SoftTokens, bounded
from tokenry.soft.prompt_tuning import PromptTuning
from tokenry.soft.prompts.rows import ahead


@dataclass(eq=False, repr=False, kw_only=True)
class PrefixTuning(SoftTokens):
    """Let every layer read S learned keys and values before the prompt.

    What it does
        [K ; V] = [K0 ; V0] + W2 tanh(W1 P' + b1) + b2, with P' (S x E), W1, b1, W2 and b2 learned, and K0 and V0 what
        the model caches of S tokens of text, or zero for a random start. `hidden=0` learns K and V themselves.
    Where it acts
        In attention of every layer, as if S tokens at the positions 0 to S - 1 had been read; K are keys after
        rotation. In the batch S placeholders without meaning stand for them.
    Shapes
        P' (S, E) -> keys (L, G, S, D), values (L, G, S, Dv), of which a cache of B rows is made.
    Guarantees
        A start from S tokens of text gives the logits of that text, before any step and with any `hidden`. `fold`
        makes plain keys and values with the same logits. Prompts keep their length: the model reads N tokens.
    Raises
        Incompatible: the prefix was made for another model, its placeholders are not the first columns, or prompts of
        different lengths would be read through sliding windows in one batch.
        InvalidValue: a start that does not exist or lacks its text, or more tokens than a sliding window holds.
        UnsupportedModel: layers that do not cache keys and values of one shape.
    Deviations
        What a text leaves in the cache is added to the MLP, whose last layer begins at zero; in the paper the MLP is
        first fitted to it. Causal models only.
    Relations
        `prompt_tuning` learns the input of the first layer alone. `PrefixTuning.of` makes a prefix of such a prompt.
    """

    card = Card(
        title="Prefix-Tuning: Optimizing Continuous Prompts for Generation",
        year=2021,
        url="https://arxiv.org/abs/2101.00190",
        summary="learned keys and values before the prompt in every layer",
        trial={"tokens": 3, "hidden": 8},
        claims=(
            "SmolLM2-135M learns capitals from 20 pairs in 20 steps with 8 positions: for 10 other countries the loss "
            "of the first token falls from 10.1 nats with an instruction in words to 0.9 from that text without MLP, "
            "and to 1.2 with it (0.95 after 10 steps), where `prompt_tuning` comes to 1.9; from noise it learns "
            "nothing in this time, 13.7 and 14.4 nats (means of two seeds)",
            "with the same start and batches it follows PEFT's prefix tuning step by step",
        ),
        deviations=(
            "keys and values of a start from text are added to what the MLP makes, whose last layer begins at zero; "
            "the published code fits the MLP to them in 500 steps",
            "a random start without MLP draws from N(0, 1) as the published ablation does; with MLP its layers begin "
            "as torch's do",
            "Adam with a constant learning rate, without the paper's decay; no dropout of the prefix",
            "causal models; the encoder and cross attention of BART are not tried",
        ),
        training=True,
    )

    has_cache: ClassVar[bool] = True

    tokens: int = positive(10, doc="positions before the prompt")
    hidden: int = natural(512, doc="width of the MLP that makes keys and values in training; 0 learns them directly")

    def make(self, *, width: int, layers: int, heads: int, key_width: int, value_width: int) -> None:
        super().make()
        who = self.name()
        parts = {
            "keys": torch.zeros(bounded(who, layers, heads, self.tokens, key_width)),
            "values": torch.zeros(bounded(who, layers, heads, self.tokens, value_width)),
        }
        for name, part in parts.items():
            if self.hidden:
                self.register_buffer(name, part)
            else:
                self.register_parameter(name, nn.Parameter(part))
        if self.hidden:
            wide = layers * heads * (key_width + value_width)
            for shape in ((self.tokens, width), (self.hidden, width), (self.hidden, wide)):
                bounded(who, *shape)
            self.table = nn.Parameter(torch.randn(self.tokens, width))
            self.first, self.second = nn.Linear(width, self.hidden), nn.Linear(self.hidden, wide)

    @property
    def rate(self) -> float:
        # A step of Adam moves a number that the MLP makes by about the rate times half the MLP's width.
        return 1e-4 if self.hidden else 0.01

    def begin_from(self, language: LanguageModel, rows: Float[Tensor, "S E"], how: str, seed: int) -> Self:
        if how == "random":
            return self.begin(language, self._noise(language, seed), seed=seed, exact=False)
        return self.begin(language, Prefix.read(language.model, rows), seed=seed)

    @torch.no_grad()
    def begin(self, language: LanguageModel, prefix: Prefix, *, seed: int = 0, exact: bool = True) -> Self:
        """Build the parameters as these keys and values.

        Args:
            seed: of the first weights of the MLP, where there is one.
            exact: let the MLP add nothing at first.
        """
        width = lookup(language.model)(torch.zeros(1, dtype=torch.long)).shape[-1]
        sizes: dict[str, Any] = {"width": width} | asdict(geometry(language.model))
        self.build(generator=torch.Generator().manual_seed(seed), **sizes)
        self.keys.copy_(prefix.keys)
        self.values.copy_(prefix.values)
        if self.hidden and exact:
            self.second.weight.zero_()
            self.second.bias.zero_()
        self.remember(language)
        return self

    @classmethod
    @torch.no_grad()
    def of(cls, prompt: PromptTuning, language: LanguageModel) -> PrefixTuning:
        """What the model caches of a learned prompt, so that no request reads it again."""
        prompt.check(language)
        return cls(tokens=prompt.tokens, hidden=0).begin(language, Prefix.read(language.model, prompt.table))

    def embed(self, batch: TokenBatch, language: LanguageModel) -> TokenBatch:
        self.check(language)
        embed = lookup(language.model)
        width = embed(torch.zeros(1, dtype=torch.long)).shape[-1]
        spare = torch.zeros(batch.shape[0], self.tokens, width, device=batch.mask.device)
        return ahead(batch.insert(0, spare, Modality.SOFT, embed), self.tokens)

    def cache(self, batch: TokenBatch, language: LanguageModel) -> Cache:
        self.check(language)
        self._check_placeholders(batch)
        check_gaps(language.model, batch.mask, self.tokens)
        return prefix_cache(language.model, [self.prefix()] * batch.shape[0])

    def prefix(self) -> Prefix:
        """Keys and values as they are now, in 32-bit floats; gradients reach the parameters."""
        if not self.hidden:
            return Prefix(self.keys, self.values)
        made = self.second(torch.tanh(self.first(self.table)))
        layers, heads, s, key_width = self.keys.shape
        split: Float[Tensor, "L G S D+Dv"] = made.view(s, layers, heads, -1).permute(1, 2, 0, 3)
        return Prefix(self.keys + split[..., :key_width], self.values + split[..., key_width:])

    @torch.no_grad()
    def fold(self) -> PrefixTuning:
        """The same keys and values without the MLP that made them."""
        if not self.hidden:
            return self
        sizes: dict[str, Any] = dict(self._sizes or {})
        folded, made = replace(self, hidden=0).build(**sizes), self.prefix()
        folded.keys.copy_(made.keys)
        folded.values.copy_(made.values)
        folded.witness.copy_(self.witness)
        return folded

    def _noise(self, language: LanguageModel, seed: int) -> Prefix:
        """Keys and values of N(0, 1); zero where an MLP makes the noise."""
        shape, generator = geometry(language.model), torch.Generator().manual_seed(seed)
        sizes = [(shape.layers, shape.heads, self.tokens, wide) for wide in (shape.key_width, shape.value_width)]
        keys, values = (torch.randn(size, generator=generator) * (not self.hidden) for size in sizes)
        return Prefix(keys, values)

    def _check_placeholders(self, batch: TokenBatch) -> None:
        first = slice(0, self.tokens)
        soft = (batch.modality[:, first] == int(Modality.SOFT)) & batch.mask[:, first]
        if batch.embeds is None or soft.shape[1] < self.tokens or not bool(soft.all()) or batch.embeds[:, first].any():
            raise Incompatible(
                f"{self.name()}: its {self.tokens} placeholders must be the first columns of every row, before any "
                "padding; they are not; embed it last, and shorten rows of different lengths one by one."
            )
