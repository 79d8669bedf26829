"""Sounds in and out: WAV, FLAC, Ogg and MP3 become one channel of floats at the rate that is asked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from tokenry.core.errors import InvalidValue, StorageError, TokenryError, UnreadableInput
from tokenry.core.needs import need
from tokenry.core.saving import whole_file

MOST_SAMPLES = 1 << 27
"""Samples, over all channels, that a file may promise or a resampling may make: 2.3 hours of 16 kHz, in 0.5 GB."""

HIGHEST_RATE = 768_000
"""Of samples a second; the lowest is 1."""

STEEPEST = 1000
"""The largest ratio of two rates: beyond it the filter alone takes minutes and gigabytes."""

_WRITTEN = {".wav": ("WAV", "FLOAT"), ".flac": ("FLAC", "PCM_24")}
_HIGHEST_FLAC_RATE = 655_350
_UNKNOWN = (1 << 63) - 1
_TO_THE_END = 0xFFFFFFFF
_MOST_CHUNKS, _MOST_PAGES = 1000, 1 << 20


@dataclass(frozen=True, eq=False)
class Sound:
    """One channel of sound.

    Args:
        samples: the waveform, at least one sample; nominally from -1 to 1, but peaks of float files may be higher.
        rate: samples a second.
        name: what to call it.

    Raises:
        InvalidValue: samples of another shape or type, or that are not finite; a rate out of range.
    """

    samples: Float32[Tensor, "T"]
    rate: int
    name: str = ""

    def __post_init__(self) -> None:
        who = self.name or "samples"
        _check_rate(self.rate, self.name or "rate")
        if self.samples.dim() != 1 or not len(self.samples):
            raise InvalidValue(
                f"{who}: must have shape (T,) with T from 1; got {tuple(self.samples.shape)}; "
                "average the channels first."
            )
        if self.samples.dtype != torch.float32:
            raise InvalidValue(f"{who}: must be float32; got {self.samples.dtype}; open it with read_sound.")
        if not self.samples.isfinite().all():
            raise InvalidValue(f"{who}: must be finite; got NaN or infinity; replace such samples.")

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate


def read_sound(
    source: str | Path | bytes | tuple[np.ndarray | Tensor, int], rate: int | None = None, *, most: int = MOST_SAMPLES
) -> Sound:
    """Open a sound as one channel.

    Files are WAV, FLAC, Ogg (Vorbis or Opus) and MP3, known by their content and not by their suffix. Whole numbers
    become floats by dividing by 2^(bits - 1); channels are averaged. With `rate`, T samples at the old rate become
    ceil(T · rate / old): one for every multiple of 1 / `rate` seconds that lies inside the sound. Files that hold
    fewer samples than they promise are refused; damage inside is seen where the format has checksums (FLAC, Ogg).

    Args:
        source: a path, the bytes of a file, or float samples of shape (T,) and their rate. Samples are copied.
        rate: samples a second to return; those of the source by default.
        most: the most samples, over all channels, to decode or to make.

    Raises:
        UnreadableInput: a file that is missing, damaged, empty, too long, no sound, or with NaN or infinite samples.
        InvalidValue: samples or rates that cannot be used, or a library that is not installed.
    """
    if rate is not None:
        _check_rate(rate, "rate")
    if isinstance(source, tuple):
        sound = _from_pair(source)
    elif isinstance(source, bytes | bytearray | memoryview):
        sound = _from_bytes(source, most)
    elif isinstance(source, str | Path):
        sound = _from_path(Path(source), most)
    else:
        raise InvalidValue(
            f"sound: must be a path, bytes, or samples and their rate; got {type(source).__name__}; pass one of these."
        )
    return sound if rate is None or rate == sound.rate else _resampled(sound, rate, most)


def write_sound(sound: Sound, path: str | Path) -> None:
    """Write a sound as WAV (32-bit floats, exactly) or FLAC (24 bits) by suffix, whole or not at all.

    Raises:
        InvalidValue: another suffix, or for FLAC samples outside -1 to 1 or a rate over 655350.
        StorageError: no permission or no space; an older file stays as it was.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITTEN:
        raise InvalidValue(f"{path}: must end in {', '.join(_WRITTEN)}; got {path.suffix!r}; choose one of these.")
    kind, coding = _WRITTEN[path.suffix.lower()]
    if kind == "FLAC":
        _check_flac(sound, path)
    soundfile = need("soundfile", str(path))
    with whole_file(path) as draft:
        try:
            soundfile.write(draft, sound.samples.cpu().numpy(), sound.rate, coding, format=kind)
        except Exception as error:
            raise StorageError(f"{path}: could not be written; {error}; nothing was changed.") from error


def _check_rate(rate: int, who: str) -> None:
    if not isinstance(rate, int) or isinstance(rate, bool) or not 1 <= rate <= HIGHEST_RATE:
        raise InvalidValue(
            f"{who}: must have a whole number of samples a second from 1 to {HIGHEST_RATE}; got {rate}; pass another."
        )


def _check_flac(sound: Sound, path: Path) -> None:
    peak = float(sound.samples.abs().max())
    if peak > 1:
        raise InvalidValue(f"{path}: FLAC must have samples from -1 to 1; got {peak:g}; scale them, or use .wav.")
    if sound.rate > _HIGHEST_FLAC_RATE:
        raise InvalidValue(
            f"{path}: FLAC must have a rate of at most {_HIGHEST_FLAC_RATE}; got {sound.rate}; use .wav."
        )


def _from_pair(pair: tuple[Any, ...]) -> Sound:
    if len(pair) != 2 or not isinstance(pair[0], np.ndarray | Tensor):
        raise InvalidValue("sound: must be a pair of samples and their rate; got another tuple; pass (samples, rate).")
    samples, rate = pair
    if isinstance(samples, np.ndarray):
        native = samples.dtype.newbyteorder("=")
        if native not in (np.float16, np.float32, np.float64):
            raise InvalidValue(_whole_numbers(samples.dtype))
        samples = torch.from_numpy(np.array(samples, dtype=native, order="C", subok=False))
    elif not samples.is_floating_point():
        raise InvalidValue(_whole_numbers(samples.dtype))
    return Sound(samples.detach().to("cpu", torch.float32, copy=True), rate)


def _whole_numbers(dtype: Any) -> str:
    return f"samples: must be floats, nominally from -1 to 1; got {dtype}; divide 16-bit numbers by 32768."


def _from_bytes(data: bytes, most: int) -> Sound:
    """Through a file without a name: libsndfile then needs no Python while it decodes."""
    try:
        with tempfile.TemporaryFile(buffering=0) as file:
            file.write(data)
            return _from_file(file, "sound", "", most)
    except OSError as error:
        raise StorageError(f"sound: must fit into a temporary file; {error.strerror}; free some space.") from error


def _from_path(path: Path, most: int) -> Sound:
    try:
        if not path.is_file():
            raise UnreadableInput(f"{path}: must be a file; none is there; pass another path.")
        with path.open("rb", buffering=0) as file:
            return _from_file(file, str(path), path.name, most)
    except OSError as error:
        raise UnreadableInput(f"{path}: must be a readable file; {error.strerror}; pass another path.") from error


def _from_file(file: Any, who: str, name: str, most: int) -> Sound:
    soundfile = need("soundfile", who)
    _check_whole(file, who)
    with _decoding(who), soundfile.SoundFile(file.fileno(), closefd=False) as opened:
        if opened.format not in ("WAV", "WAVEX", "FLAC", "OGG", "MP3"):
            raise UnreadableInput(_unknown(who))
        samples, rate = _decode(opened, who, most), opened.samplerate
    if not np.isfinite(samples).all():
        raise UnreadableInput(f"{who}: must have finite samples; got NaN or infinity; fetch it again.")
    if not 1 <= rate <= HIGHEST_RATE:
        raise UnreadableInput(
            f"{who}: must have from 1 to {HIGHEST_RATE} samples a second; got {rate}; fetch it again."
        )
    return Sound(torch.from_numpy(samples), rate, name)


@contextmanager
def _decoding(who: str) -> Iterator[None]:
    """Decoders raise whatever a damaged file leads them to; here all of it becomes one sentence."""
    try:
        yield
    except (TokenryError, MemoryError):
        raise
    except Exception as error:
        what = getattr(error, "error_string", f"{type(error).__name__}: {error}")
        raise UnreadableInput(f"{who}: must be a whole sound; {what[:120]}; fetch it again.") from error


def _decode(opened: Any, who: str, most: int) -> np.ndarray:
    promised, channels = opened.frames, opened.channels
    if promised == 0:
        raise UnreadableInput(f"{who}: must have at least one sample; got none; pass another sound.")
    if promised == _UNKNOWN:
        raise UnreadableInput(_not_whole(who, "does not say how long it is"))
    if promised * channels > most:
        raise UnreadableInput(_too_long(who, most, f"{promised} x {channels}"))
    frames = opened.read(promised, dtype="float32", always_2d=True)
    if len(frames) != promised:
        raise UnreadableInput(_not_whole(who, f"promises {promised} samples and holds {len(frames)}"))
    mixed: np.ndarray = frames[:, 0].copy() if channels == 1 else frames.mean(1, dtype=np.float32)
    return mixed


def _too_long(who: str, most: int, found: str) -> str:
    return f"{who}: must have at most {most} samples; got {found}; raise most= if you trust it, or split it."


def _not_whole(who: str, what: str) -> str:
    return f"{who}: must be one whole sound; it {what}; fetch it again or convert it to WAV."


def _unknown(who: str) -> str:
    return f"{who}: must be a WAV, FLAC, Ogg or MP3 file; got something else; convert it to WAV."


def _check_whole(file: BinaryIO, who: str) -> None:
    """Refuse what is no sound, and what libsndfile would read as if it were a shorter one."""
    file.seek(0)
    size, head = os.fstat(file.fileno()).st_size, file.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        wrong = _wrong_with_wav(file, size)
    elif head[:4] == b"OggS":
        wrong = _wrong_with_ogg(file, size)
    elif head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"):
        wrong = _wrong_with_mp3(file, head)
    elif head[:4] == b"fLaC":
        wrong = ""
    else:
        raise UnreadableInput(_unknown(who))
    if wrong:
        raise UnreadableInput(_not_whole(who, wrong))
    file.seek(0)


def _wrong_with_wav(file: BinaryIO, size: int) -> str:
    """The samples end inside the file, or the header says that they were written to a pipe and go to the end."""
    at = 12
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        chunk = file.read(8)
        length = int.from_bytes(chunk[4:], "little")
        if len(chunk) < 8:
            return "ends before its samples"
        if chunk[:4] == b"data":
            return "" if at + 8 + length <= size or length == _TO_THE_END else "ends before all its samples"
        at += 8 + length + length % 2
    return "has no samples near its beginning"


def _wrong_with_ogg(file: BinaryIO, size: int) -> str:
    """The first page that ends a stream ends the file; libsndfile would leave out streams behind it."""
    at = 0
    for _ in range(_MOST_PAGES):
        file.seek(at)
        page = file.read(27 + 255)
        if len(page) < 27 or page[:4] != b"OggS":
            return "ends before its last page, or is damaged"
        sizes = page[27 : 27 + page[26]]
        at += 27 + page[26] + sum(sizes)
        if page[5] & 4:
            return "" if at == size else "ends early" if at > size else "goes on behind its last page"
    return "has too many pages"


def _wrong_with_mp3(file: BinaryIO, head: bytes) -> str:
    """Without a header about its length libsndfile guesses from the first frame, and drops half of some files."""
    tag = 0
    if head[:3] == b"ID3":
        tag = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
    file.seek(tag)
    first = file.read(4096)
    known = first[:4] == b"fLaC" or any(mark in first for mark in (b"Xing", b"Info", b"VBRI"))
    return "" if known else "does not say how long it is"


def _resampled(sound: Sound, rate: int, most: int) -> Sound:
    soxr = need("soxr", "resampling")
    who, old = sound.name or "sound", sound.rate
    length = -(-len(sound.samples) * rate // old)
    if length > most:
        raise InvalidValue(_too_long(who, most, f"{length} at rate {rate}"))
    if max(rate, old) > STEEPEST * min(rate, old):
        raise InvalidValue(
            f"{who}: rates must differ at most {STEEPEST} times; got {old} and {rate}; choose a rate between them."
        )
    # soxr rounds the length and takes what follows for silence; with a little silence it reaches the last sample.
    padded = np.pad(sound.samples.numpy(), (0, old // rate + 1))
    return Sound(torch.from_numpy(soxr.resample(padded, old, rate)[:length].copy()), rate, sound.name)
