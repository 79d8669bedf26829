"""STILL: a trained model whose layers keep a few tokens of each chunk and fold all others into a linear state."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenry.attend.base import Attention
from tokenry.attend.calibrated.known import OfModel
from tokenry.attend.linearising.folded import Folded, Held, without_gradient
from tokenry.attend.parts.feature_map import FeatureMap, NormPreserving
from tokenry.core.card import Card
from tokenry.core.errors import Incompatible, InvalidValue, UnsupportedModel
from tokenry.core.fields import between, choice, natural, part, positive, setting
from tokenry.core.learned import Unbuilt
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.site import Site, wide
from tokenry.models.files.load import LanguageModel

EPSILON = 1e-8
OPEN = 4.0
"""What gates begin with, before their sigmoid."""
LOWEST = -80.0
"""The largest product of a query that sees nothing, which padding does."""


@dataclass(eq=False, repr=False, kw_only=True)
class Still(Attention, OfModel):
    """Linearise layers of a trained model: exact attention to what leans on itself, sums of all the rest.

    What it does
        A token of chunk c reads exactly what it may see of the chunks c - 1 and c, and of older chunks the tokens that
        were kept. All others are in S = sum f(k) v' and z = sum f(k), and its output is
        (sum exp(s - m) v + g * f(q) S) / (sum exp(s - m) + f(q) z), where m is the largest exact product s. The gate
        g = sigmoid(W x) is on the numerator alone. When a chunk has left the window, those of its tokens stay that
        lean most on themselves: sum over the last `chunk` tokens of a log((a + e) / (b + e)), where a is the softmax
        over them and b the same without the token itself.
    Where it acts
        In the layers that it was begun for, in the prompt as in decoding; other layers stay dense. Rows that are
        folded are freed.
    Shapes
        site.q (B, H, Q, D), site.k and site.v (B, G, K, D) -> output (B, H, Q, Dv). What is remembered is
        S (B, G, 2 D, Dv), z (B, G, 2 D), two chunks of keys and values and `share` of all before.
    Guarantees
        With `share=1` it is the model's own attention. A prompt read at once, in chunks and token by token give the
        same, and so does a row alone and padded: chunks are of a row's own tokens. A token of an older chunk is kept
        or folded, exactly once.
    Raises
        Unbuilt: no layer was begun; call `begun(model, layers)`.
        UnsupportedModel: a layer with learned sinks, a bias by position or a window.
        Incompatible: another model, or a crop to before the last token that was folded.
    Deviations
        Tokens are chosen and folded for each KV head, by the mean over the query heads that share it, where the paper
        repeats KV heads first; the state is so many times smaller. Gates begin nearly open. The first chunk has
        nothing before it, where the published code lets it read 64 keys of zeros. With `shift=both` the linear part
        is divided by exp(m) as well, so that m does not matter.
    Relations
        `nats_linear` sends whole chunks and is trained from the start. `window` and `h2o` forget what is folded here.
    """

    card = Card(
        title="STILL: Selecting Tokens for Intra-Layer Hybrid Attention to Linearize LLMs",
        year=2026,
        url="https://arxiv.org/abs/2602.02180",
        summary="a trained model keeps few tokens of each chunk and folds the others into a linear state",
        action="summarise",
        granularity="token",
        evidence="observed attention",
        identity_at={"share": 1.0},
        trial={"chunk": 8, "share": 0.25},
        training=True,
        claims=(
            "what is folded is freed: while a model generates, a layer holds its window and the kept tokens",
            "in three layers of SmolLM2 its outputs are nearer to attention's than with Hedgehog's maps, and than with "
            "random tokens kept, also where these are beside the first one; the loss is that of dense attention",
        ),
        deviations=(
            "one choice and one state for each KV head, by the mean over its query heads",
            "gates begin nearly open, with weights of zero",
            "nothing stands before the first chunk",
            "shift=both, where the linear part is divided by exp(m) as well, is an addition",
        ),
    )

    chunk: int = positive(64, doc="tokens of a chunk; the window is this one and the one before")
    share: float = between(0.0, 1.0, default=1 / 16, doc="tokens of a chunk that stay when it has left the window")
    choose: str = choice(
        "saliency", "random", "first", default="saliency",
        doc="which stay; random ones are the control, with first beside the first token of a text",
    )  # fmt: skip
    map: FeatureMap = part(NormPreserving(), doc="what makes features of queries and keys")
    shift: str = choice("exact", "both", default="exact", doc="whose products the largest one is taken off")
    layers: tuple[int, ...] = setting((), doc="the layers that are linearised")
    seed: int = natural(0, doc="of a random choice")
    shares_rows = False
    State = Folded

    @classmethod
    def begun(cls, model: Any, layers: tuple[int, ...], *, seed: int = 0, **settings: Any) -> Self:
        """A new method for some layers of a model, with maps that have learned nothing yet.

        Raises:
            InvalidValue: a layer that the model does not have.
            UnsupportedModel: a layer with learned sinks, a bias by position or a window.
        """
        adapter = ModelAdapter.of(model.model if isinstance(model, LanguageModel) else model)
        seen = _sites(adapter)
        for layer in layers:
            if layer not in seen:
                raise InvalidValue(f"still: layers must be among 0 to {max(seen)}; got {layer}.")
            _refuse(seen[layer])
        if not layers:
            raise InvalidValue("still: layers must name at least one; got none.")
        site = seen[layers[0]]
        assert site.hidden is not None
        method = cls(layers=layers, **settings)
        method.build(
            heads=site.q.shape[1], keys=site.k.shape[1], width=site.q.shape[-1], hidden=site.hidden.shape[-1],
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        method.remember(adapter.model)
        return method.to(adapter.model.device).eval()

    def make(self, *, heads: int, keys: int, width: int, hidden: int) -> None:
        if not self.layers:
            raise InvalidValue("still: layers must name at least one; got none; call begun(model, layers).")
        super().make()
        self.of_layer: Any = nn.ModuleDict()
        for layer in self.layers:
            own: Any = nn.ModuleDict()
            own["q"] = copy.deepcopy(self.map).build(heads=heads, width=width)
            own["k"] = copy.deepcopy(self.map).build(heads=keys, width=width)
            own["gate"] = nn.Linear(hidden, heads * width)
            nn.init.zeros_(own["gate"].weight)
            nn.init.constant_(own["gate"].bias, OPEN)
            self.of_layer[str(layer)] = own

    @property
    def kept(self) -> int:
        """Tokens of a chunk that stay."""
        return round(self.share * self.chunk)

    def _unbuilt(self, wanted: str) -> Unbuilt:
        return Unbuilt(
            f"still: layers must be begun before {wanted!r} is used; call begun(model, layers) or load a folder."
        )

    @classmethod
    def load(cls, folder: Any) -> Self:
        return super().load(folder).eval()

    def _adapter(self, model: Any) -> ModelAdapter:
        adapter = super()._adapter(model)
        if self.built:
            self.check(model, "still: layers", "Still.begun(model, layers)")
        return adapter

    def attend(self, site: Site, state: Folded) -> Float[Tensor, "B H Q Dv"]:
        if not self.built:
            raise self._unbuilt("attend")
        if site.layer not in self.layers or self.kept == self.chunk:
            return site.dense()
        _refuse(site)
        if site.buffer is None:
            return self.read(site, Folded())
        before = site.buffer.seen - site.q.shape[2]
        if before < site.buffer.final:
            raise Incompatible(
                f"still: a crop must leave what was seen when tokens were last folded, since these do not return; got "
                f"one to {before} tokens, folded was at {site.buffer.final}; use a new cache."
            )
        return self.read(site, state)

    def read(self, site: Site, state: Folded) -> Float[Tensor, "B H Q Dv"]:
        """What the queries of a site read; what has left their window is folded, and freed where there is a cache."""
        own = self.of_layer[str(site.layer)]
        held = Held(
            site, state, own["k"], self.chunk, self.kept, None if self.choose == "saliency" else self.seed,
            first=self.choose == "first",
        )  # fmt: skip
        places, count = _places(site)
        parts = []
        for queries in _pieces(places // self.chunk):
            here = places[:, queries]
            held.send((here.amax(1) // self.chunk - 1).clamp_min(0))
            parts.append(self._piece(held, own, queries, here))
        held.finish(count)
        return torch.cat(parts, 2)

    def _piece(self, held: Held, own: Any, queries: slice, places: Int[Tensor, "B Q"]) -> Float[Tensor, "B H Q Dv"]:
        """Queries of one chunk of each sequence."""
        site, state = held.site, held.state
        near, rows = held.seen_by(queries, places)
        out, probs = near.dense_and_probs()
        b, h, n, _ = near.q.shape
        g = near.k.shape[1]
        self._score(held, rows, probs.detach(), places)
        # The softmax divides by the sum of exp(s - m); where s is m, its numerator is 1.
        exact = 1 / probs.amax(-1, keepdim=True)
        features = own["q"](near.q).view(b, g, (h // g) * n, -1)
        assert state.cross is not None
        assert state.total is not None
        above = (features @ state.cross).view(b, h, n, -1)
        below = (features @ state.total.unsqueeze(-1)).view(b, h, n, 1)
        if self.shift == "both":
            least = (-near.logits().amax(-1, keepdim=True).clamp_min(LOWEST)).exp()
            above, below = above * least, below * least
        above = above * self._gate(own["gate"], site, queries, above)
        return ((exact * wide(out) + above) / (exact + below)).to(out.dtype)

    def _gate(self, gate: nn.Linear, site: Site, queries: slice, like: Tensor) -> Float[Tensor, "B H Q D"]:
        assert site.hidden is not None
        first = (0 if site.facts is None else site.facts.first_query) - site.hidden_first
        x = site.hidden[:, first + queries.start : first + queries.stop].to(gate.weight.dtype)
        return wide(gate(x)).sigmoid().unflatten(-1, (like.shape[1], -1)).transpose(1, 2)

    def _score(
        self, held: Held, rows: Int[Tensor, "B G M"], probs: Float[Tensor, "B H Q M"], places: Int[Tensor, "B Q"]
    ) -> None:
        """How much each query leans on itself, entered for the row of its own key."""
        b, h, n, m = probs.shape
        g = rows.shape[1]
        keys = held.places.gather(-1, rows.clamp_min(0)).masked_fill(rows < 0, -1).unsqueeze(2)
        at = places[:, None, :, None]
        itself = (keys == at) & (keys >= 0)
        window = (keys > at - self.chunk) & (keys <= at) & (keys >= 0)
        given = probs.view(b, g, h // g, n, m) * window.unsqueeze(2)
        others = given.masked_fill(itself.unsqueeze(2), 0)
        given = given / given.sum(-1, keepdim=True).clamp_min(torch.finfo(given.dtype).tiny)
        others = others / others.sum(-1, keepdim=True).clamp_min(torch.finfo(given.dtype).tiny)
        leans = (given * ((given + EPSILON) / (others + EPSILON)).log()).sum(-1).mean(2)
        # At most one query of a piece is the token of a row.
        scores = (leans.unsqueeze(-1) * itself).sum(2)
        held.score(rows, scores, itself.any(2))


def _places(site: Site) -> tuple[Int[Tensor, "B Q"], Int[Tensor, "B"]]:
    """How many real tokens of its sequence stand before each query, -1 for padding; and how many there are by now."""
    columns = site.query_columns()
    if site.facts is None or site.facts.padding is None:
        places = columns.expand(len(site.q), -1)
        return places, places[:, -1] + 1
    padding = site.facts.padding.expand(len(site.q), -1)
    count = padding.cumsum(1)[:, columns]
    return torch.where(padding[:, columns], count - 1, -1), count[:, -1]


def _pieces(chunks: Int[Tensor, "B Q"]) -> list[slice]:
    """Queries in runs in which no sequence comes to another chunk."""
    cuts = (chunks[:, 1:] != chunks[:, :-1]).any(0).nonzero().flatten() + 1
    ends = [*cuts.tolist(), chunks.shape[1]]
    return [slice(low, high) for low, high in zip([0, *ends], ends, strict=False)]


def _refuse(site: Site) -> None:
    window = site.facts is not None and site.facts.window is not None
    if site.sinks is not None or site.bias is not None or window:
        raise UnsupportedModel(
            f"still: layer {site.layer} must have plain attention; it has sinks, a bias by position or a window; "
            "choose other layers."
        )


def _sites(adapter: ModelAdapter) -> dict[int, Site]:
    """What attention sees in each layer, of three tokens."""
    seen: dict[int, Site] = {}

    def look(site: Site) -> Tensor:
        if site.kind == "self":
            seen[site.layer] = replace(without_gradient(site), cache=None)
        return site.dense()

    with torch.no_grad(), adapter.attached_to(lambda _: look):
        adapter.model(input_ids=torch.zeros(1, 3, dtype=torch.long, device=adapter.model.device), use_cache=False)
    return seen
