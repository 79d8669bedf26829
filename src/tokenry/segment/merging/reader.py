"""A model that reads merged tokens: which they are, their embeddings, mask and positions."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenry.core.errors import InvalidValue
from tokenry.core.vocabulary import Vocabulary
from tokenry.embed.base import EmbeddingTable
from tokenry.embed.transfer.donor import Donor, silent
from tokenry.models.attention.adapter import unwrap
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.as_text import text_ids
from tokenry.models.text.lookup import prove
from tokenry.models.text.vocabulary import vocabulary_of
from tokenry.segment.merging.boundaries import Boundary
from tokenry.segment.merging.pairs import APART, Merges, merge_all
from tokenry.segment.merging.rows import RowCache


class Merging(Protocol):
    """The fields of a method that merges."""

    @property
    def boundary(self) -> str: ...
    @property
    def ratio(self) -> float: ...
    @property
    def merges(self) -> int | None: ...
    @property
    def scope(self) -> str: ...
    @property
    def provider(self) -> EmbeddingTable: ...
    @property
    def cache(self) -> int: ...


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """One text in tokens of which some are several of the vocabulary.

    Args:
        parts: the ids of the vocabulary that each token stands for.
        starts: the first of them, counted in the old tokens.
        pieces: what each token spells; None for marks.
    """

    parts: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]
    pieces: tuple[bytes | None, ...]

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def ids(self) -> list[int]:
        """The tokens of the vocabulary, as they were before."""
        return [i for part in self.parts for i in part]

    def spelled(self) -> bytes:
        """The bytes of the text."""
        return b"".join(piece or b"" for piece in self.pieces)


class DynamicReader:
    """A model with a method that merges its tokens.

    Args:
        method: what is merged, how far, and who makes the rows.
        language: a causal model or an encoder, perhaps inside PEFT's wrapper.

    Raises:
        Incompatible: the tokenizer does not split text, and the method merges within its pieces.
        UnsupportedModel: a model whose embeddings cannot be reached, or that does not read embeddings as it reads ids.
    """

    def __init__(self, method: Merging, language: LanguageModel) -> None:
        self.method, self.language = method, language
        base = unwrap(language.model)
        self.causal = base.get_output_embeddings() is not None and not getattr(base.config, "is_encoder_decoder", False)
        self.donor = _donor(language)
        self.vocabulary, self._spaced = _spelled(language)
        self.rows = RowCache(method.provider, self.donor, method.cache)
        self.boundary = Boundary(method.boundary, language.tokenizer)
        self._positions = self.causal and "position_ids" in inspect.signature(base.forward).parameters
        if self.causal:
            prove(base)

    @property
    def own(self) -> int:
        """Rows that the model has."""
        return len(self.donor.input)

    def curve(self, rows: Sequence[Sequence[int]], free: Sequence[Sequence[bool]] | None = None) -> Merges:
        """All merges of a batch, from none to the last that is allowed; marks and what is not free stay apart.

        Args:
            rows: ids of the vocabulary.
            free: tokens that may be merged; all by default.
        """
        size = len(self.vocabulary)
        return merge_all(
            [
                [i if (free is None or free[r][c]) and i < size else APART for c, i in enumerate(row)]
                for r, row in enumerate(rows)
            ],
            self.vocabulary.pieces,
            self.vocabulary.ids.get,
            self.boundary.allows,
        )

    def merge(
        self,
        rows: Sequence[Sequence[int]],
        free: Sequence[Sequence[bool]] | None = None,
        *,
        ratio: float | None = None,
    ) -> list[Merged]:
        """Rows of ids in merged tokens.

        Args:
            rows: ids of the vocabulary.
            free: tokens that may be merged; all by default.
            ratio: in place of the method's.

        Raises:
            InvalidValue: a ratio that is none.
        """
        if ratio is not None and not 0.0 <= ratio <= 1.0:
            raise InvalidValue(f"dynamic_bpe: ratio must be in [0, 1]; got {ratio}.")
        if self.method.scope == "sequence" and len(rows) > 1:
            return [
                self.merge([row], None if free is None else [free[r]], ratio=ratio)[0] for r, row in enumerate(rows)
            ]
        merges = self.curve(rows, free)
        count = self.method.merges if ratio is None else None
        if count is None:
            count = merges.count_at(self.method.ratio if ratio is None else ratio)
        found = merges.after(min(count, len(merges.made)))
        return [self._merged(row, tokens) for row, tokens in zip(rows, found, strict=True)]

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of texts in the model's own vocabulary; an encoder's stand between its marks."""
        if self.causal:
            return [text_ids(self.language.tokenizer, text) for text in texts]
        found: list[list[int]] = self.language.tokenizer(list(texts), verbose=False)["input_ids"]
        return found

    def inputs(self, rows: Sequence[Merged]) -> dict[str, Tensor]:
        """What the model is called with to read a batch; causal models are padded on the left, encoders on the right.

        Raises:
            InvalidValue: no rows, or one without tokens.
        """
        if not rows or not all(map(len, rows)):
            raise InvalidValue("dynamic_bpe: rows must hold a token each; got none; leave empty texts out.")
        made = self._made(rows)
        device, longest = self.language.device, max(map(len, rows))
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        embeds = torch.zeros(len(rows), longest, self.donor.input.shape[1], dtype=self.language.dtype, device=device)
        for r, row in enumerate(rows):
            place = slice(longest - len(row), longest) if self.causal else slice(0, len(row))
            mask[r, place], embeds[r, place] = 1, self._embedded(row, made)
        found = {"inputs_embeds": embeds, "attention_mask": mask.to(device)}
        if self._positions:
            found["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0).to(device)
        return found

    def embed(self, row: Merged) -> Float[Tensor, "N E"]:
        """The embeddings of the tokens: those of the vocabulary as the model has them, the others by the provider."""
        return self._embedded(row, self._made([row]))

    def _embedded(self, row: Merged, made: Mapping[bytes, Float[Tensor, "E"]]) -> Float[Tensor, "N E"]:
        table: Any = unwrap(self.language.model).get_input_embeddings()
        known = self._known(row)
        ids = torch.tensor(known, device=table.weight.device)
        embeds = table(ids.clamp_min(0))
        new = [c for c, i in enumerate(known) if i < 0]
        if new:
            rows = through(table, torch.stack([made[self._bare(row.pieces[c])] for c in new]))
            embeds = embeds.index_copy(0, torch.tensor(new, device=ids.device), rows.to(embeds))
        return embeds.to(self.language.dtype)

    def _made(self, rows: Sequence[Merged]) -> dict[bytes, Float[Tensor, "E"]]:
        """The rows of a whole batch, made at once: some providers look at all of the vocabulary in every call."""
        wanted = [self._bare(row.pieces[c]) for row in rows for c, i in enumerate(self._known(row)) if i < 0]
        pieces = list(dict.fromkeys(wanted))
        return dict(zip(pieces, self.rows.rows(pieces).input, strict=True))

    def _known(self, row: Merged) -> list[int]:
        """The id of each token that the model has a row for, -1 for the others."""
        whole = self.vocabulary.ids if self._spaced else self.donor.ids
        return [
            part[0] if len(part) == 1 else whole.get(piece or b"", -1)
            for part, piece in zip(row.parts, row.pieces, strict=True)
        ]

    def _merged(self, row: Sequence[int], tokens: Sequence[tuple[int, int]]) -> Merged:
        starts = [start for _, start in tokens]
        parts = [tuple(row[a:b]) for a, b in zip(starts, [*starts, len(row)][1:], strict=True)]
        return Merged(tuple(parts), tuple(starts), tuple(self._piece(part) for part in parts))

    def _piece(self, part: tuple[int, ...]) -> bytes | None:
        pieces = [self.vocabulary[i] if i < len(self.vocabulary) else None for i in part]
        return None if None in pieces else b"".join(p or b"" for p in pieces)

    def _bare(self, piece: bytes | None) -> bytes:
        assert piece is not None
        return piece.removeprefix(b" ") if self._spaced else piece


@torch.no_grad()
def through(table: Any, rows: Float[Tensor, "P E"]) -> Float[Tensor, "P E"]:
    """Rows as an embedding layer gives them: some scale what is in their table."""
    probe: Any = copy.copy(table)
    probe._parameters = {"weight": nn.Parameter(rows.to(table.weight), requires_grad=False)}
    probe.num_embeddings, probe.padding_idx = len(rows), None
    found: Tensor = probe(torch.arange(len(rows), device=table.weight.device))
    return found


def _donor(language: LanguageModel) -> Donor:
    """The model that gives rows; an encoder has none for the output."""
    base = unwrap(language.model)
    if base.get_output_embeddings() is not None:
        return Donor.of(replace(language, model=base))
    table: Any = base.get_input_embeddings()
    return Donor(language.tokenizer, vocabulary_of(language.tokenizer), table.weight.detach(), None, silent)


def _spelled(language: LanguageModel) -> tuple[Vocabulary, bool]:
    """What each id spells in a text, and whether pieces of WordPiece that begin a word got a space before them."""
    own = vocabulary_of(language.tokenizer)
    names: Any = language.tokenizer.convert_ids_to_tokens(list(range(len(own))))
    if not any((name or "").startswith("##") for name in names) or any(p and b" " in p for p in own):
        return own, False
    spaced = (
        piece if piece is None or name.startswith("##") else b" " + piece
        for name, piece in zip(names, own, strict=True)
    )
    return Vocabulary(tuple(spaced)), True
