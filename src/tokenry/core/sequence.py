"""One encoded text, sound or picture: tokens with their places, before they are batched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.core.notebook import MOST_TOKENS, html_of_tokens
from tokenry.core.origin import Source


class Modality(IntEnum):
    """What a token shows."""

    PAD = 0
    TEXT = 1
    IMAGE = 2
    AUDIO = 3
    VIDEO = 4
    SOFT = 5
    CONTROL = 6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenSequence:
    """One encoded text, sound or picture: ids with their places, before batching.

    Args:
        ids: vocabulary ids, -1 where a token has none.
        source: index into `sources` per token, -1 where a token has no source.
        spans: half-open (t0, t1, y0, y1, x0, x1) per token in units of its source.
        sources: the raw data.
        protected: tokens that no method may remove.
        modality: what each token shows; all text by default.
        embeds: input embeddings, where ids do not say everything.
    """

    ids: Int[Tensor, "N"]
    source: Int[Tensor, "N"]
    spans: Int[Tensor, "N 6"]
    sources: tuple[Source, ...]
    protected: Bool[Tensor, "N"] | None = None
    modality: Int[Tensor, "N"] | None = None
    embeds: Float[Tensor, "N E"] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def _repr_html_(self) -> str:
        """What notebooks show: the first tokens; an id stands for one whose text is not known."""
        raw = [s.data.encode("utf-8", "surrogatepass") if isinstance(s.data, str) else None for s in self.sources]
        texts: list[tuple[str, bool]] = []
        for i in range(min(len(self), MOST_TOKENS)):
            source, token, (start, end) = int(self.source[i]), int(self.ids[i]), self.spans[i, :2].tolist()
            data = raw[source] if source >= 0 else None
            if data is not None:
                text = data[start:end].decode("utf-8", "replace")
            else:
                text = f"⟨{token}⟩" if token >= 0 else f"⟨{Modality(int(self.shows[i])).name.lower()}⟩"
            texts.append((text, bool(self.guarded[i])))
        return f"<p>{len(self):,} tokens</p>{html_of_tokens(texts, len(self) - len(texts))}"

    @classmethod
    def joined(cls, parts: Sequence[TokenSequence]) -> TokenSequence:
        """One sequence after the other, each with its own sources.

        Raises:
            InvalidValue: no parts, or embeddings in some of them only.
        """
        if not parts or len({p.embeds is None for p in parts}) != 1:
            raise InvalidValue("TokenSequence: joined needs parts that all have embeddings, or all have none.")
        ahead = list(accumulate((len(p.sources) for p in parts), initial=0))
        return cls(
            ids=torch.cat([p.ids for p in parts]),
            source=torch.cat(
                [torch.where(p.source >= 0, p.source + n, -1) for p, n in zip(parts, ahead, strict=False)]
            ),
            spans=torch.cat([p.spans for p in parts]),
            sources=tuple(source for p in parts for source in p.sources),
            protected=torch.cat([p.guarded for p in parts]),
            modality=torch.cat([p.shows for p in parts]),
            embeds=None if parts[0].embeds is None else torch.cat([there(p.embeds) for p in parts]),
        )

    def size(self, who: str) -> tuple[int, ...]:
        """The size of the one signal that these tokens are of, as its source says it.

        Raises:
            InvalidValue: no tokens, tokens of several signals, or of none whose size is known.
        """
        if not len(self):
            raise InvalidValue(f"{who}: tokens must be at least one; got none.")
        known = self.source[(self.source >= 0) & (self.source < len(self.sources))].unique().tolist()
        found = {id(self.sources[i]): self.sources[i].size for i in known}
        if len(found) > 1:
            raise InvalidValue(f"{who}: tokens must be of one signal; got several sources; decode each alone.")
        size = next(iter(found.values()), ())
        if not size:
            raise InvalidValue(
                f"{who}: tokens must have a source that says how large the signal is; got none; keep the `sources` of "
                "what was encoded, or give `Source(kind, None, size=…)`."
            )
        return size

    @property
    def guarded(self) -> Bool[Tensor, "N"]:
        """`protected`, all False where nothing is said."""
        return torch.zeros(len(self), dtype=torch.bool) if self.protected is None else self.protected

    @property
    def shows(self) -> Int[Tensor, "N"]:
        """`modality`, all text where nothing is said."""
        return torch.full_like(self.ids, int(Modality.TEXT)) if self.modality is None else self.modality


def there(values: Tensor | None) -> Tensor:
    """What is known to be there."""
    assert values is not None
    return values
