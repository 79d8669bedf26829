"""A small encoder of pictures in stages: patches, layers of attention, and fewer patches of more width."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tokenry.attend.softmax_free import SoftmaxFree
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import positive, setting
from tokenry.core.learned import Learned
from tokenry.core.registry import parse
from tokenry.core.schooling import Entry, Schooling, school
from tokenry.data.tasks.shapes import Shapes

LARGEST = 1024
"""Width beyond which a model is refused, also one that was loaded."""
TEST_SEED = (1 << 63) - 1
"""Pictures that are measured come from this seed, which no step uses."""


class Stage(nn.Module):
    """Patches made of smaller ones, then a layer and a network of each patch, each added to what came in."""

    def __init__(self, layer: SoftmaxFree, before: int, width: int, patch: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(before, width, patch, stride=patch)
        self.first, self.layer, self.second = nn.LayerNorm(width), layer, nn.LayerNorm(width)
        self.network = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, picture: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B E V U"]:
        made = self.patches(picture)
        x = made.flatten(2).mT
        x = x + self.layer(self.first(x), made.shape[-2:])
        x = x + self.network(self.second(x))
        return x.mT.unflatten(-1, made.shape[-2:])


@dataclass(eq=False, repr=False, kw_only=True)
class VisionModel(Learned):
    """Says which of some classes a picture shows: a stage for each layer, the last one's patches averaged."""

    room: ClassVar[str] = "attend"

    stages: tuple[Any, ...] = setting(
        ("softmax_free:ratio=4", "softmax_free:ratio=2"), doc="the layer of each stage, as values or one-line forms"
    )
    patch: int = positive(2, doc="pixels of a side that are a patch of the first stage; later ones halve the sides")

    def __post_init__(self) -> None:
        super().__post_init__()
        stages: tuple[Any, ...] = tuple(parse(layer) if isinstance(layer, str) else layer for layer in self.stages)
        if not stages or not all(isinstance(layer, SoftmaxFree) and not layer.built for layer in stages):
            raise InvalidValue(
                f"VisionModel: stages must be softmax_free layers that are not built yet; got {stages}; a layer is "
                "built with its model."
            )
        object.__setattr__(self, "stages", stages)

    def make(self, *, classes: int, width: int) -> None:
        if width << len(self.stages) > 2 * LARGEST:
            raise InvalidValue(f"VisionModel: width of the last stage must be at most {LARGEST}; got more.")
        made, before = [], 1
        for i, layer in enumerate(self.stages):
            size = width << i
            made.append(Stage(copy.deepcopy(layer).build(width=size), before, size, 2 if i else self.patch))
            before = size
        self.body = nn.Sequential(*made)
        self.last, self.head = nn.LayerNorm(before), nn.Linear(before, classes)

    def forward(self, pixels: Float[Tensor, "B 1 Y X"]) -> Float[Tensor, "B C"]:
        """Logits of the classes."""
        return self.head(self.last(self.body(pixels).flatten(2).mean(-1)))

    @classmethod
    def load(cls, folder: Any) -> Self:
        return super().load(folder).eval()


def train(
    model: VisionModel,
    task: Shapes,
    steps: int,
    folder: Path | None = None,
    how: Schooling | None = None,
    *,
    tell: Callable[[int], None] | None = None,
) -> tuple[VisionModel, list[Entry]]:
    """Train a built model up to a number of steps, from where the folder's last checkpoint ends.

    Returns:
        The model, and the log: at every entry the step, and the share of 512 pictures that it names right.
    """
    how = how or Schooling(rate=2e-3, rise=50, clip=1.0)

    def loss(model: VisionModel, generator: torch.Generator) -> Tensor:
        drawn = task.sample(how.batch, generator)
        return cross_entropy(model(drawn.pixels), drawn.labels)

    @torch.no_grad()
    def measure(model: VisionModel) -> Entry:
        drawn = task.sample(512, torch.Generator().manual_seed(TEST_SEED))
        return {"right": float((model(drawn.pixels).argmax(-1) == drawn.labels).float().mean())}

    settings = {"task": f"{task}"}
    return school(model, steps, loss, how, measure=measure, folder=folder, called="model", settings=settings, tell=tell)
