"""Which frequency chunks of every head rank keys as the whole head does, found on samples and kept in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.attend.calibrated.known import OfModel, texts
from tokenry.attend.rows.frequencies import agreements, paired
from tokenry.core.fields import choice, positive
from tokenry.core.progress import counted
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.rotary import Rotary
from tokenry.models.attention.site import Site


@dataclass(eq=False, repr=False, kw_only=True)
class Frequencies(OfModel):
    """Mean agreement of every frequency chunk with its head, (L, G, P).

    Of the `top` keys with the largest products, the share that the chunk alone also ranks among its `top`, over the
    last `queries` of every sample.
    """

    room: ClassVar[str] = "attend"

    top: int = positive(256, doc="keys that are compared, at most a quarter of a sample")
    queries: int = positive(32, doc="last queries of every sample that are asked")
    pairing: str = choice("rope", "adjacent", default="rope", doc="channels of a chunk")

    def make(self, *, layers: int, heads: int, chunks: int) -> None:
        super().make()
        self.register_buffer("agreement", torch.zeros(layers, heads, chunks))

    @classmethod
    def name(cls) -> str:
        return "frequencies"

    @classmethod
    @torch.no_grad()
    def calibrate(
        cls, model: Any, samples: Sequence[Int[Tensor, "T"]] | Int[Tensor, "N T"], **fields: Any
    ) -> Frequencies:
        """Ask a model on samples, eight in the paper, each as long as the texts to come.

        Args:
            model: the model, whose weights stay as they are.
            samples: ids (T) of texts.
            fields: `top`, `queries` and `pairing`.

        Raises:
            InvalidValue: no samples, or one of fewer than 8 tokens.
            UnsupportedModel: the model cannot be reproduced exactly.
        """
        found = cls(**fields)
        samples = texts(cls.name(), samples, 8)
        if found.pairing == "rope":
            Rotary.of(model)
        sums: dict[int, Float[Tensor, "G P"]] = {}

        def attend(site: Site) -> Tensor:
            if site.kind == "self":
                asking = site.for_queries(slice(-found.queries, None))
                columns, pairs = asking.query_columns()[None], paired(site, found.pairing)
                new = agreements(asking.q, columns, site, pairs, lambda _: found.top)[0]
                sums[site.layer] = sums.get(site.layer, torch.zeros_like(new)) + new
            return site.dense()

        with ModelAdapter.of(model).attached_to(lambda _: attend):
            for sample in counted(samples, "calibrating sample", len(samples)):
                model(input_ids=sample[None].to(model.device), use_cache=False)
        heads, chunks = sums[0].shape
        found.build(layers=max(sums) + 1, heads=heads, chunks=chunks)
        found.remember(model)
        for layer, total in sums.items():
            found.agreement[layer] = total.cpu() / len(samples)
        return found
