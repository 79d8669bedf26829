"""Forms that pictures and sounds may have for a model, made up from the names of its inputs and its sizes."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

Waves = Callable[..., Tensor]
"""Makes a smooth pattern of a shape."""
Form = dict[str, Tensor]

SIDE = 4
"""Merged patches on a side of a picture whose size the model leaves open."""

SAMPLES, FRAMES = 4000, 64
"""Length of a sound as a wave and as a spectrum, where the model leaves it open."""


def pictures(model: PreTrainedModel, accepts: Container[str], rows: int, waves: Waves) -> Iterator[Form]:
    """One picture for each row, in every form that the names allow; one of them may fit."""
    yield from _named(_pictures(_Sizes(model.config, "vision"), accepts, rows, waves), accepts, model)


def sounds(model: PreTrainedModel, accepts: Container[str], rows: int, waves: Waves) -> Iterator[Form]:
    """One sound for each row, in every form that the names allow."""
    yield from _named(_sounds(_Sizes(model.config, "audio", "encoder"), accepts, rows, waves), accepts, model)


def placeholders(model: Any, form: Form, rows: int) -> int:
    """Tokens of each row that a picture is written into; none where it comes in by another way."""
    owner = next((m for m in model.modules() if hasattr(m, "get_image_features")), None)
    if getattr(model.config, "image_token_id", None) is None or owner is None:
        return 0
    found = owner.get_image_features(**form)
    features = getattr(found, "pooler_output", None)
    parts = found if features is None else features
    parts = parts if isinstance(parts, list | tuple) else (parts,)
    return sum(len(part.flatten(0, -2)) for part in parts) // rows


class _Sizes:
    """What the parts of a configuration say about one kind of input."""

    def __init__(self, config: Any, *parts: str) -> None:
        found = (getattr(config, f"{part}_config", None) for part in parts)
        self._configs = [part for part in found if part is not None] + [config]

    def given(self, *names: str) -> Any:
        """The first of these names that has a value."""
        values = (getattr(config, name, None) for config in self._configs for name in names)
        return next((value for value in values if value is not None), None)

    def number(self, *names: str, default: int) -> int:
        value = self.given(*names)
        if isinstance(value, list | tuple) and value:
            value = value[-1]
        return value if isinstance(value, int) else default


def _pictures(s: _Sizes, accepts: Container[str], rows: int, waves: Waves) -> Iterator[Form]:
    channels, patch = s.number("num_channels", "in_channels", "in_chans", default=3), s.number("patch_size", default=14)
    merge = s.number("spatial_merge_size", "merge_size", "downsample_factor", "pooling_kernel_size", default=2)
    side, length = merge * SIDE, channels * patch**2
    shapes = torch.tensor([[side, side]] * rows)
    if "image_grid_thw" in accepts:
        more = {
            "image_grid_thw": torch.tensor([[1, side, side]] * rows),
            "image_merge_sizes": torch.tensor([merge] * rows),
        }
        for frames in (s.number("temporal_patch_size", default=1), 2):
            yield {"pixel_values": waves(rows * side**2, frames * length), **more}
        yield {"pixel_values": waves(rows * side**2, channels, patch, patch), **more}
    if "spatial_shapes" in accepts:
        seen = torch.ones(rows, side**2, dtype=torch.long)
        yield {"pixel_values": waves(rows, side**2, length), "spatial_shapes": shapes, "pixel_attention_mask": seen}
    if "image_position_ids" in accepts:
        at = torch.cartesian_prod(torch.arange(side), torch.arange(side)).flip(1).expand(rows, -1, -1)
        for wide in (length, length * merge**2):
            yield {"pixel_values": waves(rows, side**2, wide), "image_position_ids": at}
    if "target_sizes" in accepts:
        yield {"pixel_values": waves(1, channels, patch, rows * side**2 * patch), "target_sizes": shapes}
    size = s.given("image_size")
    high, wide = size[:2] if isinstance(size, list | tuple) else [size if isinstance(size, int) else side * patch] * 2
    if "aspect_ratio_ids" in accepts:
        tiles = s.number("max_num_tiles", default=4)
        seen = (torch.arange(tiles) < 1).long().expand(rows, 1, -1)
        yield {
            "pixel_values": waves(rows, 1, tiles, channels, high, wide),
            "aspect_ratio_ids": torch.ones(rows, 1, dtype=torch.long), "aspect_ratio_mask": seen,
        }  # fmt: skip
    for count in (0, 1, 2, 3, 5):
        many = (count,) if count else ()
        pixels = waves(rows, *many, channels, high, wide)
        yield {"pixel_values": pixels, "high_res_pixel_values": pixels}
        yield {
            "pixel_values": pixels, "image_sizes": torch.tensor([[high, wide]] * rows),
            "pixel_attention_mask": torch.ones(rows, *many, high, wide),
        }  # fmt: skip


def _sounds(s: _Sizes, accepts: Container[str], rows: int, waves: Waves) -> Iterator[Form]:
    if "input_features" in accepts:
        names = ("num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim", "feature_size", "input_dim")
        bins, frames = s.number(*names, default=80), s.number("max_source_positions", default=FRAMES // 2)
        for count in (2 * frames, FRAMES):
            yield {"input_features": waves(rows, bins, count)}
            yield {"input_features": waves(rows, count, bins)}
    if "input_values" in accepts:
        yield {"input_values": waves(rows, SAMPLES)}
        yield {"input_values": waves(rows, 1, SAMPLES)}


def _named(forms: Iterator[Form], accepts: Container[str], model: PreTrainedModel) -> Iterator[Form]:
    """Only what the model has a name for, each form once."""
    before: list[dict[str, Any]] = []
    for form in forms:
        kept = {name: value for name, value in form.items() if name in accepts}
        shapes = {name: value.shape for name, value in kept.items()}
        if kept and shapes not in before:
            before.append(shapes)
            yield kept
