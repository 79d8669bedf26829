"""Active-dormant heads: which heads switch off on some inputs by looking at the first token, and what goes with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import between, natural, setting
from tokenry.core.tokens import TokenBatch
from tokenry.models.text.begin import begin_mark
from tokenry.probe.base import Probe, network_of
from tokenry.probe.bigram.toy import BigramToy
from tokenry.probe.reports.report import Report, Table
from tokenry.probe.views.losses import losses, silenced
from tokenry.probe.views.rows import begun, first_columns
from tokenry.probe.views.sight import Sight, sight
from tokenry.probe.views.weights import softmax

Groups = dict[str, tuple[str, Bool[Tensor, "B N"]]]
"""Queries that belong together: their domain, and which of its tokens they are."""


@dataclass(frozen=True, kw_only=True)
class ActiveDormant(Probe):
    """Find heads that sleep on some inputs: they put their attention on the first token, whose value is small.

    What it does
        For every layer and head, over queries at least `skip` tokens behind the first one of their row:
        sink = mean attention on the first token;
        lead = mean of (logit of the first token - mean logit of the other tokens that the query sees).
        For every layer: value ratio = |v_first| / median |v_j|, residual peak = |h_first| / median |h_j| over the
        other tokens of a row, mean over rows. Norms are Euclidean, of the values of each KV head and of the residual
        stream behind the layer.
        difference = largest sink - smallest sink over the groups of queries: domains, each with a name, or for a
        `BigramToy` the dormant and the active queries, those at triggers.
        ablation: the output of a head is set to zero, and the loss of each group is taken again.
    Where it acts
        In one forward over the batch, and one more for each head that is silenced. Nothing is changed.
    Shapes
        Layers L, heads H, KV heads G, groups S, domains C: sink, lead (S, L, H); difference (L, H);
        control (C, L, H); value_ratio (C, L, G); residual_peak (C, L); loss (S); ablation (heads, S), in nats.
    Guarantees
        The numbers are those of the full attention maps, which never exist at once. Padding changes nothing. A row
        that does not begin with the model's beginning mark gets it, since many tokenizers do not add it and the sink
        is there. In layers with a sliding window, queries that cannot see the first token count with zero attention.
    Raises
        InvalidValue: no tokens, or tokens without ids.
        ContextOverflow: rows longer than the model's context, the beginning mark included.
        UnsupportedModel: not a causal language model, or attention that cannot be reached.
    Deviations
        The toy is smaller and learns from another text. Means and medians leave the first token out. Domains are
        what the user brings.
    Relations
        `window` and other methods keep the first tokens because of these heads. The toy is trained by
        `python -m tokenry.probe.bigram.training`.
    """

    card = Card(
        title="Active-Dormant Attention Heads: Mechanistically Demystifying Extreme-Token Phenomena in LLMs",
        year=2024,
        url="https://arxiv.org/abs/2410.13835",
        summary="find heads that sleep on some inputs, by their attention on the first token and what goes with it",
        trial={"skip": 4, "ablate": 2},
        claims=(
            "after 2,000 steps a toy of one layer puts 0.85 of the attention of dormant queries on the first token "
            "(seed 0, where it still comes and goes) or 0.98 (seed 1), and below 0.01 at triggers; an untrained toy "
            "0.02, and one with ReLU attention 0.00",
            "three layers trained with Adam have two such heads; with SGD no sink is above 0.16",
            "SmolLM2-135M: 131 of 270 heads put more than 0.3 on the beginning mark in prose; the median value ratio "
            "is 0.27, and the largest residual peak 184, behind layer 11",
            "SmolLM2-135M: the sinks of 21 heads differ by more than 0.2 between prose and Python, of none between "
            "halves of one domain",
        ),
        deviations=(
            "no residual peaks in toys of three layers: 2,500 steps at width 64 do not make them, with Adam or SGD",
            "bigrams of any text, in the tests and results of one public-domain document, not of tiny-Shakespeare",
            "the toy has rotary positions, width 64, rows of 64 ids and two thousand steps; the paper's has learned "
            "positions, width 256, rows of 256 ids and at least ten thousand steps",
            "the mean logit is over the other tokens that a query sees, the first one left out",
            "medians are over the other tokens of a row, and the lower one of two",
            "domains are texts that the user brings; the paper contrasts Wikipedia and GitHub",
        ),
    )

    compares: ClassVar[bool] = True

    skip: int = natural(32, doc="queries of each row, from its first token on, that no mean counts")
    begin: bool = setting(True, doc="whether rows without the model's beginning mark get it")
    sleeps: float = between(0.0, 1.0, default=0.3, doc="sink above which the summary calls a head asleep")
    switches: float = between(0.0, 1.0, default=0.2, doc="difference above which the summary says that a head switches")
    ablate: int = natural(4, doc="heads to silence: those that differ most, of one group alone the strongest sinks")

    def observe(self, model: Any, domains: Mapping[str, TokenBatch]) -> Report:
        network = network_of(model)
        weigh = model.weigh if isinstance(model, BigramToy) else softmax
        mark = begin_mark(model) if self.begin else None
        batches = {name: begun(batch, mark) for name, batch in domains.items()}
        seen = {name: sight(network, batch, weigh) for name, batch in batches.items()}
        groups = self._groups(model, batches)
        names = tuple(groups)
        sink = _means(groups, {name: s.sink for name, s in seen.items()})
        lead = _means(groups, {name: s.lead for name, s in seen.items()})
        difference = sink.amax(0) - sink.amin(0)
        loss = _losses(groups, {name: s.loss for name, s in seen.items()})
        heads = _strongest(difference if len(groups) > 1 else sink[0], self.ablate)
        changed = [
            _losses(groups, {name: losses(network, b, silenced(*head, weigh)) for name, b in batches.items()}) - loss
            for head in heads
        ]
        of = {"group": names}
        by = {"domain": tuple(name or "all" for name in domains)}
        called = {"head": tuple(f"{layer}.{head}" for layer, head in heads)}
        tables = {
            "sink": Table(sink, ("group", "layer", "head"), "mean attention on the first token", of),
            "difference": Table(difference, ("layer", "head"), "largest sink minus smallest, over the groups"),
            "control": Table(
                torch.stack([self._halves(seen[n], batches[n]) for n in domains]), ("domain", "layer", "head"),
                "difference of the sinks of even and odd rows of one domain", by,
            ),
            "lead": Table(lead, ("group", "layer", "head"), "logit of the first token minus mean of others", of),
            "value_ratio": Table(
                torch.stack([_ratios(seen[n].values, batches[n]) for n in domains]), ("domain", "layer", "kv_head"),
                "norm of the first value over the median one", by,
            ),
            "residual_peak": Table(
                torch.stack([_ratios(seen[n].states, batches[n]) for n in domains]), ("domain", "layer"),
                "norm of the first state over the median one, behind each layer", by,
            ),
            "loss": Table(loss, ("group",), "mean -log p of the next token, in nats", of),
            "ablation": Table(
                torch.stack(changed) if changed else torch.zeros(0, len(names)), ("head", "group"),
                "change of the loss when a head (layer.head) gives nothing, in nats", called | of,
            ),
        }  # fmt: skip
        return Report(self, tables, tuple(_sentences(self, tables)))

    def _groups(self, model: Any, batches: Mapping[str, TokenBatch]) -> Groups:
        """Queries by domain, of a toy also by whether they stand at triggers."""
        found: Groups = {}
        for name, batch in batches.items():
            counted = self._counted(batch)
            if not isinstance(model, BigramToy):
                found[name or "all"] = name, counted
                continue
            assert batch.ids is not None
            active = model.data.active(batch.ids).cpu()
            for word, kind in (("dormant", ~active), ("active", active)):
                found[f"{name} {word}".strip()] = name, counted & kind
        return found

    def _counted(self, batch: TokenBatch) -> Bool[Tensor, "B N"]:
        """Real tokens at least `skip` behind the first one of their row."""
        mask, first = batch.mask.cpu(), first_columns(batch).cpu()
        return mask & (torch.arange(mask.shape[1]) - first.unsqueeze(1) >= self.skip)

    def _halves(self, seen: Sight, batch: TokenBatch) -> Float[Tensor, "L H"]:
        """How far two halves of one domain differ; NaN for a single row."""
        counted = self._counted(batch)
        odd = torch.arange(len(counted)).unsqueeze(1) % 2 == 1
        return (_mean(seen.sink, counted & ~odd) - _mean(seen.sink, counted & odd)).abs()


def _means(groups: Groups, values: Mapping[str, Float[Tensor, "L B H N"]]) -> Float[Tensor, "S L H"]:
    return torch.stack([_mean(values[domain], queries) for domain, queries in groups.values()])


def _mean(values: Float[Tensor, "L B H N"], queries: Bool[Tensor, "B N"]) -> Float[Tensor, "L H"]:
    """Mean over some queries of all rows; those without a value are left out."""
    return values.masked_fill(~queries.unsqueeze(1), torch.nan).transpose(1, 2).flatten(2).nanmean(-1)


def _losses(groups: Groups, values: Mapping[str, Float[Tensor, "B N"]]) -> Float[Tensor, "S"]:
    return torch.stack([values[domain][queries].nanmean() for domain, queries in groups.values()])


def _ratios(norms: Float[Tensor, "L B *G N"], batch: TokenBatch) -> Float[Tensor, "L *G"]:
    """Norm at the first token over the median of the others, mean over rows."""
    mask = batch.mask.cpu()
    found = []
    for row in range(len(mask)):
        real = norms[:, row][..., mask[row]]
        found.append(
            real[..., 0] / real[..., 1:].nanmedian(-1).values if real.shape[-1] > 1 else real[..., 0] * torch.nan
        )
    return torch.stack(found).nanmean(0)


def _strongest(values: Float[Tensor, "L H"], count: int) -> list[tuple[int, int]]:
    """Layer and head of the largest values."""
    order = values.nan_to_num(-torch.inf).flatten().argsort(descending=True, stable=True)[:count]
    return [divmod(int(i), values.shape[1]) for i in order]


def _sentences(probe: ActiveDormant, tables: Mapping[str, Table]) -> Iterator[str]:
    sink, ratio, peak = (tables[name].values for name in ("sink", "value_ratio", "residual_peak"))
    for name, one in zip(tables["sink"].named("group"), sink, strict=True):
        yield (
            f"{name}: {int((one > probe.sleeps).sum())} of {one.numel()} heads put more than {probe.sleeps:g} of their "
            f"attention on the first token; mean {float(one.nanmean()):.2f}."
        )
    for name, r, p in zip(tables["value_ratio"].named("domain"), ratio, peak, strict=True):
        layer = int(p.nan_to_num(-1).argmax())
        yield (
            f"{name}: its value has {float(r.nanmedian()):.2f} of the median norm in the median KV head; its state has "
            f"{float(p[layer]):.1f} times the median norm behind layer {layer}."
        )
    if len(sink) > 1:
        apart = int((tables["difference"].values > probe.switches).sum())
        chance = [int((c > probe.switches).sum()) for c in tables["control"].values if not bool(c.isnan().all())]
        yield (
            f"{apart} of {sink[0].numel()} heads differ by more than {probe.switches:g} between groups"
            + (f"; between halves of one domain {', '.join(map(str, chance))}." if chance else ".")
        )
    groups = tables["ablation"].named("group")
    for name, change in zip(tables["ablation"].named("head"), tables["ablation"].values.tolist(), strict=True):
        parts = ", ".join(f"{value:+.3f} ({group})" for group, value in zip(groups, change, strict=True))
        yield f"Without head {name} the loss changes by {parts}."
