"""How much attention each token pays to the prompt in the last layer: streamed, never a whole map."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokenry.core.errors import InvalidValue, UnsupportedModel
from tokenry.learn.selection.labels import Labelled
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.site import Site


class PromptAttention:
    """Watches the last layer of a model while it reads a batch that was announced by `ask`.

    The model attends as ever, by its fast kernels; the probabilities of the response rows are computed beside it,
    some rows at a time and without gradients.

    Args:
        model: a causal model, perhaps inside a wrapper.

    Raises:
        UnsupportedModel: its attention cannot be reached.
    """

    def __init__(self, model: Any) -> None:
        self._adapter = ModelAdapter.of(model)
        places = [place for place in self._adapter.sites.values() if place.kind == "self"]
        if not places:
            raise UnsupportedModel(
                f"{type(self._adapter.model).__name__}: must attend to what it decodes; it has no such layer; use a "
                f"causal model."
            )
        self._last = max(places, key=lambda place: place.layer)
        self._asked: Labelled | None = None
        self._found: Float[Tensor, "B N"] | None = None

    @contextmanager
    def attached(self) -> Iterator[None]:
        """While the model runs."""
        with self._adapter.attached_to(lambda _: self._attend):
            yield

    def ask(self, labelled: Labelled) -> None:
        """The next forward reads this batch."""
        self._asked, self._found = labelled, None

    def take(self, who: str) -> Float[Tensor, "B N"]:
        """What that forward showed; later ones are not watched until the next `ask`.

        Raises:
            InvalidValue: no forward of the batch was seen.
        """
        found, self._asked, self._found = self._found, None, None
        if found is None:
            raise InvalidValue(
                f"{who}: attention to the prompt must be seen; the model did not run; call "
                f"model(**watch.inputs(batch)) inside the block `with objective(model) as watch`."
            )
        return found

    def _attend(self, site: Site) -> Tensor:
        if self._asked is not None and (site.kind, site.stack, site.layer) == (
            "self",
            self._last.stack,
            self._last.layer,
        ):
            self._found = to_prompt(site, self._asked.prompt, self._asked.counted)
        return site.dense()


@torch.no_grad()
def to_prompt(site: Site, prompt: Bool[Tensor, "B N"], readers: Bool[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """Attention probability that each reader gives to the prompt tokens it may see, mean over heads; 0 for others."""
    prompt, readers = prompt.to(site.q.device), readers.to(site.q.device)
    found = torch.zeros(readers.shape, device=site.q.device)
    columns = readers.any(0).nonzero()[:, 0]
    if len(columns):
        for rows, part in site.streamed(range(int(columns[0]), int(columns[-1]) + 1)):
            probs = part.probs().mean(1)
            found[:, rows] = (probs @ prompt[:, : probs.shape[-1], None].to(probs.dtype)).squeeze(-1)
    return found * readers
