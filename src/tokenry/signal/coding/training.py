"""How the codec learns: crops of sounds, first without its quantizer and then with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn.functional import l1_loss, pad

from tokenry.quantize.base import Quantizer
from tokenry.signal.coding.convolutions import Decoder, Encoder
from tokenry.signal.coding.spectral_loss import spectral_loss

FREE = 0.2
"""Share of the steps before the quantizer begins, so that it begins with vectors that say something."""
RISE, END, CLIP = 20, 0.02, 1.0
"""Steps in which the rate rises, the share of it that is left at the end, and the largest norm of a gradient."""
BATCHES = 40
"""Whose vectors the quantizer begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What is read at each step, how fast, and what of it counts."""

    steps: int
    batch: int
    frames: int
    rate: float
    wave: float


def train_codec(
    encoder: Encoder, decoder: Decoder, quantizer: Quantizer, sounds: Sequence[Float[Tensor, "T"]], lessons: Lessons,
    seed: int, progress: bool,
) -> None:  # fmt: skip
    """Tune all three in place; afterwards they are in evaluation mode.

    Args:
        progress: show a bar on standard error.
    """
    weights = [p for part in (encoder, decoder, quantizer) for p in part.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=lessons.rate, betas=(0.8, 0.99), weight_decay=0.0)
    draw = crops(sounds, encoder, lessons, seed)
    free = int(FREE * lessons.steps)
    with torch.enable_grad(), Progress(console=Console(stderr=True), disable=not progress, transient=True) as bar:
        task = bar.add_task("codec", total=lessons.steps)
        for step in range(lessons.steps):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, lessons)
            if step == free:
                _begin(encoder, quantizer, draw, seed)
            loss = loss_of(encoder, decoder, quantizer.train() if step >= free else None, draw(), lessons.wave)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, CLIP)
            optimizer.step()
            bar.update(task, advance=1, description=f"loss {float(loss.detach()):.3f}")
    quantizer.eval()


def loss_of(
    encoder: Encoder, decoder: Decoder, quantizer: Quantizer | None, given: Float[Tensor, "B T"], wave: float
) -> Float[Tensor, ""]:
    """The distance of spectra, `wave` times that of the samples, and what the quantizer adds, where there is one."""
    found = encoder(given)
    loss = found.new_zeros(())
    if quantizer is not None:
        quantized = quantizer.quantize(found)
        found, loss = quantized.values, quantized.loss
    made, wanted = decoder(pad(found, (0, 0, decoder.past, 0))), given[:, encoder.reach :]
    return loss + spectral_loss(made, wanted) + wave * l1_loss(made, wanted)


def rate_at(step: int, lessons: Lessons) -> float:
    """The learning rate of a step: it rises in a straight line and falls as a cosine."""
    falling = END + (1 - END) * (1 + math.cos(math.pi * step / lessons.steps)) / 2
    return lessons.rate * min(1.0, (step + 1) / RISE) * falling


def crops(
    sounds: Sequence[Float[Tensor, "T"]], encoder: Encoder, lessons: Lessons, seed: int
) -> Callable[[], Float[Tensor, "B T"]]:
    """Batches of frames from anywhere in the sounds, each with the samples before it that the encoder reads.

    Sounds follow each other with silence between them.
    """
    length = encoder.reach + lessons.frames * encoder.hop
    track = torch.cat([pad(samples, (encoder.reach, -len(samples) % encoder.hop)) for samples in sounds])
    track = pad(track, (0, max(0, length - len(track)))).to(next(encoder.parameters()).device)
    places, generator = track.unfold(0, length, 1), torch.Generator().manual_seed(seed)
    return lambda: places[torch.randint(len(places), (lessons.batch,), generator=generator)]


@torch.no_grad()
def _begin(encoder: Encoder, quantizer: Quantizer, draw: Callable[[], Float[Tensor, "B T"]], seed: int) -> None:
    begun = torch.cat([encoder(draw()).flatten(0, 1) for _ in range(BATCHES)])
    quantizer.fit(begun, seed=seed, progress=False)  # since there is a bar already
