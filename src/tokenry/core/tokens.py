"""The one structure that flows through the rooms: tokens that know where they came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.core.fate import Fate
from tokenry.core.notebook import MOST_ROWS
from tokenry.core.origin import Origin
from tokenry.core.sequence import Modality, TokenSequence, there


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenBatch:
    """A left-padded batch of tokens with provenance. Methods return new batches; fields never change in place.

    Args:
        ids: vocabulary ids, -1 where a token has none; None when only embeddings exist.
        embeds: input embeddings, or None when ids say everything.
        mask: True for real tokens, False for padding.
        positions: A position axes, 1 for text, 3 or 4 for multi-axis rotary embeddings.
        modality: values of `Modality`.
        protected: tokens that no method may remove.
        fate: where each original went.
        origin: where each original came from.

    Raises:
        InvalidValue: neither ids nor embeds, or shapes that do not agree.
    """

    ids: Int[Tensor, "B N"] | None = None
    embeds: Float[Tensor, "B N E"] | None = None
    mask: Bool[Tensor, "B N"]
    positions: Int[Tensor, "A B N"]
    modality: Int[Tensor, "B N"]
    protected: Bool[Tensor, "B N"]
    fate: Fate
    origin: Origin

    def __post_init__(self) -> None:
        if self.ids is None and self.embeds is None:
            raise InvalidValue("TokenBatch: needs ids or embeds; got neither.")
        shape = tuple(self.mask.shape)
        for name in ("ids", "embeds", "modality", "protected"):
            value = getattr(self, name)
            if value is not None and tuple(value.shape[:2]) != shape:
                raise InvalidValue(f"TokenBatch: {name} must start with (B, N) = {shape}; got {tuple(value.shape)}.")
        if tuple(self.positions.shape[1:]) != shape or self.fate.shape[:2] != shape:
            raise InvalidValue(
                f"TokenBatch: positions and fate must cover (B, N) = {shape}; "
                f"got {tuple(self.positions.shape[1:])} and {self.fate.shape[:2]}."
            )
        originals = (self.fate.shape[0], self.fate.shape[2])
        if tuple(self.origin.source.shape) != originals or tuple(self.origin.spans.shape) != (*originals, 6):
            raise InvalidValue(
                f"TokenBatch: origin must tell of (B, N0) = {originals}; got {tuple(self.origin.source.shape)} and "
                f"{tuple(self.origin.spans.shape)}."
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(B, N)."""
        b, n = self.mask.shape
        return b, n

    @property
    def lengths(self) -> Int[Tensor, "B"]:
        """Real tokens of each row."""
        return self.mask.sum(1)

    @classmethod
    def from_ids(cls, ids: Int[Tensor, "B N"], mask: Bool[Tensor, "B N"] | None = None) -> TokenBatch:
        """A batch of text ids whose sources are not known."""
        mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        b, n = ids.shape
        return cls(
            ids=ids,
            mask=mask,
            positions=_count(mask),
            modality=torch.where(mask, int(Modality.TEXT), int(Modality.PAD)),
            protected=torch.zeros_like(mask),
            fate=Fate.identity(mask),
            origin=Origin.nowhere(b, n, ids.device),
        )

    @classmethod
    def collate(cls, rows: Sequence[TokenSequence], pad_id: int = 0) -> TokenBatch:
        """Left-pad sequences to one batch.

        Raises:
            InvalidValue: no sequences, or embeddings in some of them only.
        """
        if not rows:
            raise InvalidValue("TokenBatch: collate needs at least one sequence; got none.")
        if len({r.embeds is None for r in rows}) != 1:
            raise InvalidValue("TokenBatch: collate needs sequences that all have embeddings, or all have none.")
        # A row of no tokens is one column of padding, which every step can work on.
        n = max(1, *(len(r) for r in rows))

        def pad(parts: list[Tensor], fill: int) -> Tensor:
            out = parts[0].new_full((len(parts), n, *parts[0].shape[1:]), fill)
            for row, part in enumerate(parts):
                out[row, n - len(part) :] = part
            return out

        mask = pad([torch.ones_like(r.ids, dtype=torch.bool) for r in rows], 0)
        whole = TokenSequence.joined(rows)
        lengths = [len(r) for r in rows]
        return cls(
            ids=pad([r.ids for r in rows], pad_id),
            embeds=None if whole.embeds is None else pad([there(r.embeds) for r in rows], 0),
            mask=mask,
            positions=_count(mask),
            modality=pad([r.shows for r in rows], 0),
            protected=pad([r.guarded for r in rows], 0),
            fate=Fate.identity(mask),
            origin=Origin(whole.sources, pad(list(whole.source.split(lengths)), -1), pad([r.spans for r in rows], 0)),
        )

    def take(self, keep: Int[Tensor, "B M"]) -> TokenBatch:
        """Keep the columns `keep`, in that order; -1 makes a column of padding. The rest is dropped."""
        at, real = keep.clamp_min(0), keep >= 0
        mask = self.mask.gather(1, at) & real
        return replace(
            self,
            ids=None if self.ids is None else _gather(self.ids, at) * mask,
            embeds=None if self.embeds is None else _gather(self.embeds, at) * mask.unsqueeze(-1),
            mask=mask,
            positions=torch.stack([_gather(p, at) for p in self.positions]),
            modality=_gather(self.modality, at) * mask,
            protected=_gather(self.protected, at) & mask,
            fate=self.fate.then(Fate.taking(torch.where(mask, keep, -1), self.shape[1])),
        )

    def only(self, stays: Bool[Tensor, "B N"]) -> TokenBatch:
        """Keep these tokens of every row, in their order and at their positions; padding is on the left."""
        stays = stays.to(self.mask.device) & self.mask
        columns = torch.where(stays, torch.arange(stays.shape[1], device=stays.device), -1)
        return self.take(columns.sort(1).values[:, stays.shape[1] - int(stays.sum(1).max()) :])

    def merge(self, group: Int[Tensor, "B N"], embeds: Float[Tensor, "B M E"]) -> TokenBatch:
        """Put every column `j` into the new column `group[j]`, which has the given embedding; -1 drops it."""
        b, n = self.shape
        step = torch.zeros(b, embeds.shape[1], n, device=group.device)
        row, old = (group >= 0).logical_and(self.mask).nonzero(as_tuple=True)
        step[row, group[row, old], old] = 1.0
        return self.resample(step, embeds)

    def resample(self, weights: Float[Tensor, "B M N"], embeds: Float[Tensor, "B M E"]) -> TokenBatch:
        """Replace all columns by M weighted sums; each takes position and modality of its heaviest column."""
        weights = weights * self.mask.unsqueeze(1)
        heaviest = weights.argmax(-1)
        mask = weights.sum(-1) > 0
        return replace(
            self,
            ids=None,
            embeds=embeds * mask.unsqueeze(-1),
            mask=mask,
            positions=torch.stack([_gather(p, heaviest) for p in self.positions]),
            modality=_gather(self.modality, heaviest) * mask,
            protected=((weights > 0) & self.protected.unsqueeze(1)).any(-1),
            fate=self.fate.then(Fate.from_dense(weights)),
        ).tidied()

    def insert(
        self,
        at: int,
        embeds: Float[Tensor, "B S E"],
        modality: Modality = Modality.SOFT,
        lookup: Callable[[Tensor], Tensor] | None = None,
    ) -> TokenBatch:
        """Put S tokens without originals before column `at`; no method may remove them.

        Padding stays on the left: a row's new tokens follow its padding. One position axis is counted anew; on several,
        the new tokens go on behind the largest position before them, and what follows makes room.

        Args:
            lookup: embeds the ids of the others, as the model does: `model.get_input_embeddings()`.
        """
        b, n = self.shape
        s = embeds.shape[1]
        if not 0 <= at <= n:
            raise InvalidValue(f"TokenBatch: insert at must be in [0, {n}]; got {at}.")
        old = self.embedded(lookup)
        columns = torch.arange(n, device=self.mask.device)
        step = torch.cat((columns[:at], columns.new_full((s,), -1), columns[at:])).expand(b, -1)
        new = (step < 0).clone()
        pads = (~self.mask[:, at:]).sum(1)
        step, new = _after_padding(step, new, pads, at, s)
        fresh = self.take(step)
        filled = _gather(old, step.clamp_min(0)) * fresh.mask.unsqueeze(-1)
        filled[new] = embeds.reshape(-1, embeds.shape[-1]).to(filled)
        mask = fresh.mask | new
        return replace(
            fresh,
            ids=None if fresh.ids is None else torch.where(new, -1, fresh.ids),
            embeds=filled,
            mask=mask,
            positions=_count(mask) if len(self.positions) == 1 else _with_room(self, step, new, at, s),
            modality=torch.where(new, int(modality), fresh.modality),
            protected=fresh.protected | new,
        )

    def join(self, other: TokenBatch, lookup: Callable[[Tensor], Tensor] | None = None) -> TokenBatch:
        """These tokens followed by the other's, row by row.

        Where both have one position axis, positions are counted anew. Where one has more, the other's positions go on
        behind the largest of these, on all axes.

        Args:
            lookup: embeds the ids of the batch that has no embeddings, where the other one has them.

        Raises:
            InvalidValue: another number of rows, or embeddings in one of the two only and no `lookup`.
        """
        b, n, n0 = self.fate.shape
        _, m, m0 = other.fate.shape
        if other.shape[0] != b:
            raise InvalidValue(f"TokenBatch: join needs equal rows; got {b} and {other.shape[0]}.")
        embeds = None
        if self.embeds is not None or other.embeds is not None:
            embeds = torch.cat((self.embedded(lookup), other.embedded(lookup)), 1)
        named = self.ids is not None or other.ids is not None
        mine = _spread(self.fate.index, n, n0, n + m, n0 + m0)
        theirs = _spread(other.fate.index, m, m0, n + m, n0 + m0, n, n0)
        fate = Fate.summed(
            torch.cat((mine, theirs), 1), torch.cat((self.fate.weight, other.fate.weight)), (b, n + m, n0 + m0)
        )
        mask = torch.cat((self.mask, other.mask), 1)
        joined = TokenBatch(
            ids=torch.cat((_named(self), _named(other)), 1) if named else None,
            embeds=embeds,
            mask=mask,
            positions=_behind(self, other),
            modality=torch.cat((self.modality, other.modality), 1),
            protected=torch.cat((self.protected, other.protected), 1),
            fate=fate,
            origin=self.origin.join(other.origin),
        ).tidied()
        return joined.renumbered() if len(joined.positions) == 1 else joined

    def retold(
        self,
        columns: Sequence[Int[Tensor, "T"]],
        rows: Sequence[Sequence[tuple[int, Sequence[tuple[int, float]]]]],
    ) -> TokenBatch:
        """Put other ids in the place of some columns of each row; all other tokens stay where they are.

        Args:
            columns: of each row the columns that go, ascending; the new tokens stand where they stood.
            rows: of each row, for every new token its id and the columns it holds some of, as places in `columns` with
                the share of each; one that holds none is protected. A row without new tokens stays as it is.
        """
        b, n = self.shape
        ids, steps = _named(self), []
        made: list[list[tuple[int, int, list[tuple[int, float]]]]] = []
        for row, (gone, new) in enumerate(zip(columns, rows, strict=True)):
            at = gone.tolist()
            fresh = [(i, -1, [(at[t], share) for t, share in held]) for i, held in new]
            stays = [(int(ids[row, c]), c, [(c, 1.0)]) for c in self.mask[row].nonzero()[:, 0].tolist()]
            if fresh:
                first = sum(c < at[0] for _, c, _ in stays)
                taken = set(at)
                stays = [*(s for s in stays[:first]), *fresh, *(s for s in stays[first:] if s[1] not in taken)]
            made.append(stays)
        m = max(1, *(len(row) for row in made))
        out = torch.full((b, m), 0, dtype=torch.long, device=self.mask.device)
        old = torch.full((b, m), -1, dtype=torch.long, device=self.mask.device)
        mask = torch.zeros(b, m, dtype=torch.bool, device=self.mask.device)
        own = torch.zeros_like(mask)
        for row, tokens in enumerate(made):
            for place, (i, c, held) in enumerate(tokens, m - len(tokens)):
                out[row, place], old[row, place], mask[row, place], own[row, place] = i, c, True, not held
                steps += [(row * m + place, row * n + h, share) for h, share in held]
        step = Fate.summed(
            torch.tensor([s[:2] for s in steps], dtype=torch.long, device=mask.device).view(-1, 2).T,
            torch.tensor([s[2] for s in steps], device=mask.device),
            (b, m, n),
        )
        stayed = old.clamp_min(0)
        return replace(
            self,
            ids=out,
            embeds=None,
            mask=mask,
            positions=_count(mask),
            modality=torch.where(mask, int(Modality.TEXT), int(Modality.PAD)),
            protected=own | (_gather(self.protected, stayed) & (old >= 0)),
            fate=self.fate.then(step),
        )

    def embedded(self, lookup: Callable[[Tensor], Tensor] | None) -> Float[Tensor, "B N E"]:
        """The embeddings of all tokens; where there are none yet, `lookup` makes them of the ids.

        Raises:
            InvalidValue: there are none, and no `lookup`.
        """
        if self.embeds is not None:
            return self.embeds
        if lookup is None or self.ids is None:
            raise InvalidValue("TokenBatch: embeddings beside ids need the model's embeddings; pass lookup=.")
        return lookup(self.ids.clamp_min(0)) * self.mask.unsqueeze(-1)

    def tidied(self) -> TokenBatch:
        """The same tokens with all padding moved to the left, and no more of it than the longest row needs."""
        longest = max(1, int(self.lengths.max()))
        order = self.mask.long().argsort(dim=1, stable=True)[:, -longest:]
        return self.take(torch.where(self.mask.gather(1, order), order, -1))

    def renumbered(self) -> TokenBatch:
        """Positions counted anew over the tokens that are left; several axes, which say where patches lie, stay."""
        return replace(self, positions=_count(self.mask)) if len(self.positions) == 1 else self

    def spans(self) -> Int[Tensor, "B N 8"]:
        """Where each column came from: (first source, last source, t0, t1, y0, y1, x0, x1) around its originals.

        A column without originals has source -1.
        """
        b, n, n0 = self.fate.shape
        column, original = self.fate.index
        row = original // n0
        source = self.origin.source[row, original % n0]
        boxes = self.origin.spans[row, original % n0]
        known = source >= 0
        column, source, boxes = column[known], source[known], boxes[known]
        out = torch.full((b * n, 8), -1, dtype=torch.long, device=column.device)
        values = torch.cat((source[:, None], source[:, None], boxes), 1)
        low, high = values[:, [0, 2, 4, 6]], values[:, [1, 3, 5, 7]]
        where = column[:, None].expand(-1, 4)
        out[:, [0, 2, 4, 6]] = out[:, [0, 2, 4, 6]].scatter_reduce(0, where, low, "amin", include_self=False)
        out[:, [1, 3, 5, 7]] = out[:, [1, 3, 5, 7]].scatter_reduce(0, where, high, "amax", include_self=False)
        return out.view(b, n, 8)

    def sequence(self, row: int) -> TokenSequence:
        """The real tokens of one row with the places that they have now; a token of several sources has none."""
        real = self.mask[row]
        spans = self.spans()[row, real]
        spans[spans[:, 0] != spans[:, 1]] = -1
        return TokenSequence(
            ids=_named(self)[row, real],
            source=spans[:, 0],
            spans=spans[:, 2:],
            sources=self.origin.sources,
            protected=self.protected[row, real],
            modality=self.modality[row, real],
            embeds=None if self.embeds is None else self.embeds[row, real],
        )

    def survival(self) -> Float[Tensor, "B N0"]:
        """How much of each original is left."""
        return self.fate.survival()

    def _repr_html_(self) -> str:
        """What notebooks show: the first rows, and how many of their originals are left."""
        left, b = (self.survival() > 0).sum(1).tolist(), len(self.mask)
        originals = (self.origin.source >= 0).sum(1).tolist()
        rows = [
            f"<p>row {row + 1} of {b}: {left[row]:,} of {originals[row]:,} tokens of its sources are left</p>"
            + self.sequence(row)._repr_html_()
            for row in range(min(b, MOST_ROWS))
        ]
        return "".join(rows)

    def model_inputs(self) -> dict[str, Any]:
        """Arguments of a Hugging Face forward or `generate`: ids (or embeddings), mask and positions if unusual."""
        inputs: dict[str, Any] = {"attention_mask": self.mask.long()}
        if self.embeds is not None:
            inputs["inputs_embeds"] = self.embeds
        else:
            inputs["input_ids"] = self.ids
        if not torch.equal(self.positions, _count(self.mask).expand_as(self.positions)):
            inputs["position_ids"] = self.positions[0] if self.positions.shape[0] == 1 else self.positions
        return inputs

    def to(self, device: torch.device | str) -> TokenBatch:
        moved = {
            name: value.to(device)
            for name in ("ids", "embeds", "mask", "positions", "modality", "protected", "fate", "origin")
            if (value := getattr(self, name)) is not None
        }
        return replace(self, **moved)


def _named(batch: TokenBatch) -> Int[Tensor, "B N"]:
    return torch.full(batch.shape, -1, device=batch.mask.device) if batch.ids is None else batch.ids


def _behind(first: TokenBatch, second: TokenBatch) -> Int[Tensor, "A B N"]:
    axes = max(len(first.positions), len(second.positions))
    mine, theirs = (batch.positions.expand(axes, -1, -1) for batch in (first, second))
    behind = (mine.masked_fill(~first.mask, -1).amax((0, 2)) + 1).view(1, -1, 1)
    return torch.cat((mine, theirs + behind), 2)


def _with_room(
    batch: TokenBatch, step: Int[Tensor, "B M"], new: Bool[Tensor, "B M"], at: int, s: int
) -> Int[Tensor, "A B M"]:
    behind = torch.arange(batch.shape[1], device=step.device) >= at
    first = batch.positions.masked_fill(~batch.mask | behind, -1).amax((0, 2)) + 1
    moved = batch.positions + s * behind
    made = torch.stack([_gather(p, step.clamp_min(0)) for p in moved])
    made[:, new] = (first[:, None] + torch.arange(s, device=step.device)).flatten()
    return made


def _count(mask: Bool[Tensor, "B N"]) -> Int[Tensor, "1 B N"]:
    return (mask.long().cumsum(1) - 1).clamp_min(0).unsqueeze(0)


def _gather(values: Tensor, at: Int[Tensor, "B M"]) -> Tensor:
    index = at.reshape(*at.shape, *[1] * (values.ndim - 2)).expand(*at.shape, *values.shape[2:])
    return values.gather(1, index)


def _spread(
    index: Int[Tensor, "2 Z"], n: int, n0: int, width: int, width0: int, shift: int = 0, shift0: int = 0
) -> Int[Tensor, "2 Z"]:
    column, original = index
    return torch.stack((column // n * width + column % n + shift, original // n0 * width0 + original % n0 + shift0))


def _after_padding(
    step: Int[Tensor, "B M"], new: Bool[Tensor, "B M"], pads: Int[Tensor, "B"], at: int, s: int
) -> tuple[Tensor, Tensor]:
    """Move the S new columns of each row behind the padding that would otherwise follow them."""
    m = step.shape[1]
    columns = torch.arange(m, device=step.device).expand_as(step)
    end = at + pads[:, None]
    source = torch.where((columns >= at) & (columns < end), columns + s, columns)
    source = torch.where((columns >= end) & (columns < end + s), columns - pads[:, None], source)
    return step.gather(1, source), new.gather(1, source)
