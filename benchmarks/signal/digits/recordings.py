"""Spoken digits: six voices say each digit fifty times, 3,000 recordings of 8 kHz.

They are those of the Free Spoken Digit Dataset (CC BY-SA 4.0), which is cloned into a folder under `build`; nothing of
it is installed or run.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch.nn.functional import pad

from benchmarks.record import BUILD
from tokenry.data.sound import Sound, read_sound

SOURCE = "https://github.com/Jakobovski/free-spoken-digit-dataset"
COMMIT = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
HOME = BUILD / "spoken_digits"
RATE, SAMPLES = 8000, 4800
"""Recordings are cut to 0.6 seconds, or filled up with silence; one in twenty is longer."""
PEAK = 0.5
ASKED = 5
"""The first recordings of each voice and digit are held out, as the data's authors say."""
NEW_VOICE = "yweweler"
"""None of the recordings of this voice is learned from."""


@dataclass(frozen=True)
class Recording:
    """Somebody says a digit."""

    digit: int
    voice: str
    number: int
    file: Path

    @property
    def known(self) -> bool:
        """Whether it is learned from."""
        return self.number >= ASKED and self.voice != NEW_VOICE

    @cached_property
    def sound(self) -> Sound:
        """Its first 0.6 seconds, equally loud."""
        samples = read_sound(self.file, RATE).samples[:SAMPLES]
        samples = samples * (PEAK / float(samples.abs().max().clamp_min(1e-4)))
        return Sound(pad(samples, (0, SAMPLES - len(samples))), RATE)


def recordings() -> list[Recording]:
    """All of them, in the order of their names; cloned once."""
    if not (HOME / "recordings").is_dir():
        try:
            subprocess.run(["git", "clone", "--quiet", SOURCE, str(HOME)], check=True)
            subprocess.run(["git", "-C", str(HOME), "checkout", "--quiet", COMMIT], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(
                f"spoken_digits: needs {SOURCE} at {COMMIT[:7]}, which git could not clone ({error}); put it into "
                f"{HOME}."
            ) from error
    found = []
    for file in sorted((HOME / "recordings").glob("*.wav")):
        digit, voice, number = file.stem.split("_")
        found.append(Recording(int(digit), voice, int(number), file))
    return found
