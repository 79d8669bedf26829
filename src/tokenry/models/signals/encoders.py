"""Encoders of pictures and of sounds: what stands between pixels or samples and tokens."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForSpeechSeq2Seq,
    ImageProcessingMixin,
    PreTrainedModel,
)  # fmt: skip

from tokenry.core.errors import InvalidValue, UnsupportedModel
from tokenry.models.files.load import device_of, dtype_of, find, load_tokenizer, not_found, quiet, read_model

MOST_MARKS = 64
"""Class tokens and registers before the patches; published encoders have up to five."""


@dataclass(frozen=True, slots=True, eq=False)
class VisionEncoder:
    """A vision transformer without anything that reads text.

    Args:
        model: gives one state for each patch, after some for marks such as the class token.
        patch: pixels on the side of a patch.
        scale: what a value of a pixel is multiplied by first.
        mean: of red, green and blue in the encoder's training, after scaling.
        std: their standard deviation.
    """

    model: PreTrainedModel
    patch: int
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def prepare(self, pixels: UInt8[Tensor, "B Y X 3"]) -> Float[Tensor, "B 3 Y X"]:
        """Pixels as the encoder's training had them, on its device.

        Raises:
            InvalidValue: not whole numbers from 0 to 255 in three colours.
        """
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
            got = f"{pixels.dtype} {tuple(pixels.shape)}"
            raise InvalidValue(f"pixels: must be bytes of shape (pictures, height, width, 3); got {got}.")
        colours = pixels.to(self.model.device).movedim(3, 1).float() * self.scale
        mean, std = (colours.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (colours - mean) / std

    @torch.no_grad()
    def features(
        self, pixels: UInt8[Tensor, "B Y X 3"] | Float[Tensor, "B 3 Y X"]
    ) -> tuple[Float[Tensor, "B P E"], tuple[int, int]]:
        """States of the patches, row by row, and the number of rows and columns.

        Args:
            pixels: bytes, or what `prepare` made of them; sides are multiples of the patch size.

        Raises:
            InvalidValue: another size or form.
            UnsupportedModel: the encoder does not give a state for each patch.
        """
        prepared = pixels if pixels.is_floating_point() else self.prepare(pixels)
        rows, columns = self._grid(prepared)
        interpolate = {"interpolate_pos_encoding": True} if _interpolates_on_demand(self.model) else {}
        states = self.model(prepared.to(self.model.device, self.model.dtype), **interpolate).last_hidden_state
        marks = states.shape[1] - rows * columns if states.ndim == 3 else -1
        if not 0 <= marks <= MOST_MARKS:
            raise UnsupportedModel(
                f"{type(self.model).__name__}: must give a state for each of {rows} x {columns} patches; "
                f"got states of shape {tuple(states.shape)}."
            )
        return states[:, marks:], (rows, columns)

    def _grid(self, prepared: Tensor) -> tuple[int, int]:
        if prepared.ndim != 4 or prepared.shape[1] != 3:
            raise InvalidValue(f"pixels: must have shape (pictures, 3, height, width); got {tuple(prepared.shape)}.")
        height, width = prepared.shape[2:]
        if not height or not width or height % self.patch or width % self.patch:
            raise InvalidValue(
                f"pixels: height and width must be multiples of {self.patch}; got {height} x {width}; crop or resize."
            )
        return height // self.patch, width // self.patch


@dataclass(frozen=True, slots=True, eq=False)
class SpeechEncoder:
    """The encoder of a Whisper; its decoder is loaded when a sound is transcribed, and only then.

    Args:
        model: gives a state for every `hop` samples of a window.
        extractor: makes the log-mel spectrogram of a window.
        where: folder or hub id of the whole model.
    """

    model: PreTrainedModel
    extractor: Any
    where: str | Path

    @property
    def rate(self) -> int:
        """Samples per second that it reads."""
        return int(self.extractor.sampling_rate)

    @property
    def hop(self) -> int:
        """Samples between frames."""
        return int(self.extractor.n_samples) // int(self.model.config.max_source_positions)

    @torch.no_grad()
    def features(self, samples: Float[Tensor, "T"]) -> Float[Tensor, "F E"]:
        """States of the frames, 50 each second, as many as the sound has begun.

        The encoder reads windows of 30 seconds, one after the other; a frame does not see other windows.

        Args:
            samples: one channel, between -1 and 1, at `rate`.

        Raises:
            InvalidValue: another form, no sample at all, or one that is no number.
        """
        frames = []
        for window in self._windows(samples):
            states = self.model(self._spectrogram(window).to(self.model.dtype)).last_hidden_state
            frames.append(states[0, : math.ceil(len(window) / self.hop)])
        return torch.cat(frames)

    @torch.no_grad()
    def transcribe(self, samples: Float[Tensor, "T"]) -> str:
        """What is said; words at the end of a window of 30 seconds may suffer.

        Raises:
            InvalidValue: as for `features`.
        """
        whole = _whole(self.where, self.model.device, self.model.dtype)
        tokenizer = load_tokenizer(str(self.where))
        texts = []
        for window in self._windows(samples):
            read = self._spectrogram(window).to(self.model.dtype)
            ids = whole.generate(read, attention_mask=read.new_ones(read.shape[::2], dtype=torch.long))
            texts.append(str(tokenizer.decode(ids[0], skip_special_tokens=True)).strip())
        return " ".join(text for text in texts if text)

    def _windows(self, samples: Tensor) -> Iterator[Tensor]:
        if samples.ndim != 1 or not samples.is_floating_point() or not len(samples):
            raise InvalidValue(
                f"samples: must be floats of one channel, at least one; got {samples.dtype} {tuple(samples.shape)}."
            )
        if not samples.isfinite().all():
            raise InvalidValue("samples: must be numbers between -1 and 1; got some that are no numbers.")
        yield from samples.float().split(int(self.extractor.n_samples))

    def _spectrogram(self, window: Tensor) -> Tensor:
        """The log-mel spectrogram of a window, filled up with silence."""
        read = self.extractor(window.detach().cpu().numpy(), sampling_rate=self.rate, return_tensors="pt")
        return read["input_features"].to(self.model.device)


@lru_cache(maxsize=4)
def load_vision(name: str = "dinov2", *, device: str = "auto", dtype: str = "auto") -> VisionEncoder:
    """Load an encoder of pictures, once per process.

    Args:
        name: an alias of `tokenry models list`, a folder or a hub id.
        device: `auto` takes an accelerator where there is one.
        dtype: `auto` is bfloat16 where the hardware computes in it, else float32.

    Raises:
        UnknownModel: nothing was found under this name.
        UnsupportedModel: no vision transformer of square patches.
        StorageError: files are damaged or cannot be written.
        InvalidValue: an unknown device or dtype.
    """
    where = find(name, "vision")
    # The settings alone: the classes that use them want libraries of pictures.
    said, _ = _found(ImageProcessingMixin.get_image_processor_dict, name, where)
    model = _model(name, where, device, dtype)
    # Encoders that were trained beside one of texts are a part of the whole.
    model = getattr(model, "vision_model", model)
    patch = getattr(model.config, "patch_size", None)
    mean, std = (_colours(said.get(what)) for what in ("image_mean", "image_std"))
    if not isinstance(patch, int) or mean is None or std is None or 0 in std:
        raise UnsupportedModel(
            f"model {name!r}: must be a vision transformer of square patches over three colours; "
            f"got {type(model).__name__}."
        )
    if not said.get("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    scale = float(said.get("rescale_factor", 1 / 255)) if said.get("do_rescale", True) else 1.0
    return VisionEncoder(model, patch, scale, mean, std)


@lru_cache(maxsize=4)
def load_speech(name: str = "whisper", *, device: str = "auto", dtype: str = "auto") -> SpeechEncoder:
    """Load the encoder of a Whisper, once per process.

    Args and Raises are those of `load_vision`.
    """
    where = find(name, "speech")
    extractor = _found(partial(AutoFeatureExtractor.from_pretrained, trust_remote_code=False), name, where)
    model = _model(name, where, device, dtype)
    if not hasattr(extractor, "n_samples") or not hasattr(model.config, "max_source_positions"):
        raise UnsupportedModel(f"model {name!r}: must be a Whisper; got {type(model).__name__}.")
    return SpeechEncoder(model.get_encoder(), extractor, where)


def _found(read: Any, name: str, where: str | Path) -> Any:
    """How pixels or samples are prepared, as the model's folder says."""
    try:
        return read(where)
    except (OSError, ValueError) as error:
        raise not_found(name, where, error) from error


def _colours(values: Any) -> tuple[float, float, float] | None:
    try:
        red, green, blue = map(float, values)
    except (TypeError, ValueError):
        return None
    return red, green, blue


def _model(name: str, where: str | Path, device: str, dtype: str) -> Any:
    on = device_of(device)
    with quiet():
        return read_model(AutoModel, name, where, dtype_of(dtype, on), trust_remote_code=False).eval().to(on)


@lru_cache(maxsize=1)
def _whole(where: str | Path, device: torch.device, dtype: torch.dtype) -> Any:
    with quiet():
        return read_model(AutoModelForSpeechSeq2Seq, str(where), where, dtype, False).eval().to(device)


def _interpolates_on_demand(model: PreTrainedModel) -> bool:
    return "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
