"""A small autoencoder of photographs, in whose middle a quantizer is tried.

Tiles of 32 x 32 pixels come from photographs that lie in the packages scikit-image and scikit-learn, at half their
resolution. A tile becomes 8 x 8 vectors and then a tile again. All that differs between two runs is the middle.
"""

from __future__ import annotations

import importlib.util
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

SIDE, GRID = 32, 8
WIDTHS = (24, 48)
BATCH, RATE = 32, 1e-3
PHOTOGRAPHS = (
    "coffee.png", "camera.png", "motorcycle_left.png", "retina.jpg", "ihc.png", "hubble_deep_field.jpg", "brick.png",
    "grass.png", "gravel.png", "china.jpg",
)  # fmt: skip
HELD_OUT = ("astronaut.png", "chelsea.png", "flower.jpg")
FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}


@dataclass(frozen=True, slots=True)
class Passed:
    """What came out of the middle, with its codes where it has some, and what training adds to the loss."""

    values: Tensor
    codes: Tensor | None
    loss: Tensor | float


class Middle(nn.Module):
    """What stands between encoder and decoder: here nothing."""

    def forward(self, z: Tensor) -> Passed:
        """Vectors (B, N, E) to vectors of the same shape."""
        return Passed(z, None, 0.0)


class Quantized(Middle):
    """One of our quantizers in the middle."""

    def __init__(self, quantizer: Any) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, z: Tensor) -> Passed:
        found = self.quantizer.quantize(z)
        return Passed(found.values, found.codes, found.loss)


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Autoencoder(nn.Module):
    """Two strided convolutions and two residual blocks on each side of the middle.

    Args:
        middle: gets vectors of width `code`.
    """

    def __init__(self, middle: Middle, code: int) -> None:
        super().__init__()
        thin, wide = WIDTHS
        self.encoder = nn.Sequential(
            nn.Conv2d(3, thin, 4, 2, 1), nn.ReLU(), nn.Conv2d(thin, wide, 4, 2, 1), Residual(wide), Residual(wide),
            nn.Conv2d(wide, code, 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(code, wide, 3, padding=1), Residual(wide), Residual(wide), nn.ReLU(),
            nn.ConvTranspose2d(wide, thin, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(thin, 3, 4, 2, 1),
        )  # fmt: skip
        self.middle = middle

    def encode(self, x: Tensor) -> Tensor:
        """Tiles (B, 3, 32, 32) to vectors (B, 64, E)."""
        vectors: Tensor = self.encoder(x).permute(0, 2, 3, 1).flatten(1, 2)
        return vectors

    def decode(self, z: Tensor) -> Tensor:
        """Vectors to tiles."""
        made: Tensor = self.decoder(z.transpose(1, 2).unflatten(2, (GRID, GRID)))
        return made

    def forward(self, x: Tensor) -> tuple[Tensor, Passed]:
        passed = self.middle(self.encode(x))
        return self.decode(passed.values), passed


def photographs(names: tuple[str, ...], step: int) -> Tensor:
    """All tiles (T, 3, 32, 32) of some photographs, `step` pixels apart, with values from 0 to 1."""
    cut = (_half(name).unfold(1, SIDE, step).unfold(2, SIDE, step) for name in names)
    return torch.cat([tiles.permute(1, 2, 0, 3, 4).reshape(-1, 3, SIDE, SIDE) for tiles in cut])


def trained(middle: Middle, code: int, tiles: Tensor, *, steps: int, seed: int) -> tuple[Autoencoder, float]:
    """An autoencoder that has learned from tiles, ready for use, and the seconds of processor time that took."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Autoencoder(middle, code)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    batches = torch.randint(len(tiles), (steps, BATCH), generator=torch.Generator().manual_seed(seed))
    start = time.process_time()
    for batch in batches:
        x = tiles[batch]
        made, passed = model(x)
        loss = mse_loss(made, x) + passed.loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval(), time.process_time() - start


@torch.no_grad()
def psnr(model: Autoencoder, tiles: Tensor) -> float:
    """10 log10(1 / MSE) over all pixels of all tiles, in dB."""
    return -10 * math.log10(mse_loss(model(tiles)[0], tiles).item())


def looks(tiles: Tensor, count: int) -> tuple[Tensor, ...]:
    """Some of the tiles, the same for all, in batches."""
    return tiles[torch.randperm(len(tiles), generator=torch.Generator().manual_seed(1))[:count]].split(64)


def _half(name: str) -> Tensor:
    """A photograph (3, H, W) in which each pixel is the mean of four."""
    import numpy as np
    from PIL import Image

    pixels = torch.from_numpy(np.array(Image.open(_find(name)).convert("RGB"))).float() / 255
    return nn.functional.avg_pool2d(pixels.permute(2, 0, 1), 2)


def _find(name: str) -> Path:
    for package, folder in FOLDERS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit("photographs: need scikit-image and scikit-learn; pip install scikit-image scikit-learn.")
        file = Path(spec.origin).parent / folder / name
        if file.exists():
            return file
    raise SystemExit(f"photographs: {name} is in neither scikit-image nor scikit-learn; install versions 0.26 and 1.9.")
