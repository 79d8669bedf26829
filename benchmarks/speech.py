"""Prompts of a telephone system, spoken by one voice: 568 clips of 8 kHz, 25 minutes.

They are those of the Debian package asterisk-core-sounds-en-wav (CC BY-SA 3.0), which is downloaded and unpacked into a
folder under `build`; nothing of it is installed or run.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks.record import BUILD
from tokenry.data.sound import Sound, read_sound

PACKAGE = "asterisk-core-sounds-en-wav"
HOME = BUILD / "speech"
RATE = 8000
PAUSE = 0.5
"""Seconds of silence between clips that follow each other."""


def prompts() -> dict[str, Path]:
    """All clips, by the names that they have in the package, such as `digits/7`; downloaded once."""
    found = sorted(HOME.rglob("*.wav"))
    if not found:
        HOME.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["apt-get", "download", "--quiet", PACKAGE], cwd=HOME, check=True)
            subprocess.run(["dpkg", "-x", str(next(HOME.glob("*.deb"))), str(HOME)], check=True)
        except (OSError, subprocess.CalledProcessError, StopIteration) as error:
            raise SystemExit(
                f"speech: needs the Debian package {PACKAGE}, which apt-get could not download ({error}); unpack it "
                f"into {HOME}."
            ) from error
        found = sorted(HOME.rglob("*.wav"))
    return {file.as_posix().rpartition("_Allison/")[2].removesuffix(".wav"): file for file in found}


def spoken(file: Path) -> Sound:
    """One clip."""
    return read_sound(file, RATE)


def rows(sounds: Iterable[Sound], seconds: float) -> list[tuple[Sound, list[tuple[int, int]]]]:
    """Sounds one after the other, with pauses, in rows of at most so many seconds; and where each begins and ends."""
    made: list[tuple[list[torch.Tensor], list[tuple[int, int]]]] = [([], [])]
    pause = torch.zeros(int(PAUSE * RATE))
    for sound in sounds:
        at = sum(map(len, made[-1][0]))
        if at and at + len(sound.samples) > seconds * RATE:
            made.append(([], []))
            at = 0
        made[-1][0].extend((sound.samples, pause))
        made[-1][1].append((at, at + len(sound.samples)))
    return [(Sound(torch.cat(parts), RATE), places) for parts, places in made if parts]
