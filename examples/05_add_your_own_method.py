"""A method is one class: here a selector that reads the keys with the largest product in any head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tokenry import Budget, TokenSelect
from tokenry.attend.base import Selector
from tokenry.attend.rows.choose import choose
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import size
from tokenry.models.attention.site import Site
from tokenry.models.cache.name import cache_of, with_cache
from tokenry.models.files.tiny import tiny


@dataclass(frozen=True, kw_only=True)
class Strongest(Selector):
    """Read the keys with the largest query-key product in any head."""

    card = Card(
        title="An example of a method",
        year=2026,
        url="https://example.org",
        summary="per-step selection of the keys with the largest product in any head",
        identity_at={"budget": 1000000},
    )

    budget: Budget = size(
        Budget(tokens=256, sink=4, recent=32, per="head"), doc="tokens read per step, sinks and recent ones included"
    )

    def select(self, site: Site, state: Any) -> Int[Tensor, "B G M"] | None:
        assert site.buffer is not None
        products = site.logits()
        b, h, _, k = products.shape
        scores = products.view(b, site.k.shape[1], h // site.k.shape[1], k).amax(2)
        return choose(self.budget, scores, site.real(), site.seen(site.buffer.seen))


def main() -> None:
    method = Strongest(budget="32:sink=2:recent=8")
    print("as a value:    ", method)
    print("as JSON:       ", method.to_dict())
    try:
        Strongest(budget=0)
    except InvalidValue as error:
        print("a wrong value: ", error)

    model = tiny("qwen3")
    ids = torch.randint(3, 128, (1, 150), generator=torch.Generator().manual_seed(0))
    dense = logits(model, ids)
    print("\ntokens read at a step, and how far the prediction moves from dense (KL in nats):")
    for other in (method, TokenSelect(budget="32:sink=2:recent=8:per=head", chunk=0), Strongest(budget=1000)):
        with other(model) as run:
            p, q = dense.log_softmax(-1), logits(model, ids).log_softmax(-1)
        kl = float((p.exp() * (p - q)).sum(-1).mean())
        print(f"  {type(other).__name__:12} {run.reads.per_step[0]:5.0f}  {kl:.6f}")


@torch.no_grad()
def logits(model: Any, ids: Tensor) -> Tensor:
    """Read all but the last token of a prompt, then predict after the last one."""
    read = model(ids[:, :-1])
    return model(ids[:, -1:], **with_cache(cache_of(read))).logits[:, -1]


if __name__ == "__main__":
    main()
