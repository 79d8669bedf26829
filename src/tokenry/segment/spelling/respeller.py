"""The base of methods that spell the same text in other tokens of the same vocabulary."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenry.core.errors import Incompatible
from tokenry.core.fate import Fate
from tokenry.core.method import Method
from tokenry.core.origin import Origin
from tokenry.core.sequence import Modality, TokenSequence
from tokenry.core.tokens import TokenBatch
from tokenry.core.vocabulary import Vocabulary
from tokenry.segment.spelling.respelling import Respelling, piece_lengths


@dataclass(frozen=True, kw_only=True)
class Respeller(Method):
    """A method that replaces tokens by several others with the same bytes.

    The bytes of the text never change, and neither do tokens that are not free or that stand for no text. A method
    says only which tokens are spelled how: `respell`. The first step of a pipeline is `apply`; examples for training
    go through `RespellingCollator`.
    """

    room: ClassVar[str] = "segment"

    seed: int

    @abstractmethod
    def respell(
        self,
        ids: Int[Tensor, "N"],
        vocabulary: Vocabulary,
        generator: torch.Generator,
        free: Bool[Tensor, "N"] | None = None,
    ) -> Respelling:
        """Other tokens with the same bytes.

        Args:
            ids: one sequence, without padding.
            generator: of all random choices, on the CPU; the global random state is neither read nor changed.
            free: tokens that may change; all by default. Marks of the vocabulary never do.
        """

    def apply(self, batch: TokenBatch, vocabulary: Vocabulary) -> TokenBatch:
        """Respell the free document tokens of every row, each row by itself.

        The parts are the originals of the new batch; each knows its bytes in the source. A token whose place in the
        source is not as long as its bytes, as where several tokens share one character, stays as it is. The choices
        of a row depend on `seed` and its free tokens only. A batch in which nothing changes is returned as it is.

        Raises:
            Incompatible: tokens were already dropped, merged, inserted or embedded.
        """
        ids = self._ids(batch).cpu()
        mask, free = batch.mask.cpu(), self._free(batch, vocabulary).cpu()
        rows = []
        for row, real in enumerate(mask):
            mine, changeable = ids[row][real], free[row][real]
            rows.append(self.respell(mine, vocabulary, _generator(self.seed, mine[changeable]), changeable))
        if all(torch.equal(new.ids, ids[row][mask[row]]) for row, new in enumerate(rows)):
            return batch
        return _rebuilt(batch, rows, vocabulary)

    def _ids(self, batch: TokenBatch) -> Int[Tensor, "B N"]:
        fate, untouched = batch.fate, Fate.identity(batch.mask)
        same = fate.shape == untouched.shape and torch.equal(fate.index, untouched.index)
        if batch.ids is None or batch.embeds is not None or not same or bool((fate.weight != 1).any()):
            raise Incompatible(
                f"{self.name()}: must come first, on tokens as the tokenizer gave them; got a batch in which some were "
                f"dropped, merged, inserted or embedded; put it before all other methods."
            )
        return batch.ids

    def _free(self, batch: TokenBatch, vocabulary: Vocabulary) -> Bool[Tensor, "B N"]:
        assert batch.ids is not None
        lengths = piece_lengths(vocabulary).to(batch.ids.device)
        known = (batch.ids >= 0) & (batch.ids < len(lengths))
        spans = batch.origin.spans
        whole = spans[..., 1] - spans[..., 0] == lengths[torch.where(known, batch.ids, 0)]
        text = batch.mask & ~batch.protected & (batch.modality == int(Modality.TEXT))
        return text & known & (whole | (batch.origin.source < 0))


def _rebuilt(batch: TokenBatch, rows: list[Respelling], vocabulary: Vocabulary) -> TokenBatch:
    """A batch of the parts, with the sources of the old one."""
    origin, old = batch.origin, batch.to("cpu")
    sequences = []
    for row, new in enumerate(rows):
        real = old.mask[row]
        source = new.spread(old.origin.source[row][real])
        spans = new.spread_spans(old.origin.spans[row][real], vocabulary)
        sequences.append(
            TokenSequence(
                ids=new.ids,
                source=source,
                spans=torch.where(source[:, None] >= 0, spans, 0),
                sources=(),
                protected=new.spread(old.protected[row][real]),
                modality=new.spread(old.modality[row][real]),
            )
        )
    made = TokenBatch.collate(sequences)
    axes = batch.positions.shape[0]
    return replace(
        made,
        positions=made.positions.repeat(axes, 1, 1),
        origin=Origin(origin.sources, made.origin.source, made.origin.spans),
    ).to(batch.mask.device)


def _generator(seed: int, ids: Int[Tensor, "N"]) -> torch.Generator:
    """Random numbers of one row: the same tokens give the same, other tokens others."""
    digest = blake2b(f"{seed}:".encode() + ids.long().numpy().tobytes(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
