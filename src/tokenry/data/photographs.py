"""Photographs that lie in the packages scikit-image and scikit-learn, each under one word for what it shows."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tokenry.core.errors import InvalidValue

_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}
_FILES = {
    "astronaut": "astronaut.png", "brick": "brick.png", "camera": "camera.png", "cat": "chelsea.png",
    "cell": "cell.png", "clock": "clock_motion.png", "coffee": "coffee.png", "coins": "coins.png",
    "flower": "flower.jpg", "grass": "grass.png", "gravel": "gravel.png", "moon": "moon.png",
    "motorcycle": "motorcycle_left.png", "page": "page.png", "retina": "retina.jpg", "rocket": "rocket.jpg",
    "stars": "hubble_deep_field.jpg", "temple": "china.jpg", "tissue": "ihc.png",
}  # fmt: skip


def photographs() -> dict[str, Path]:
    """What is shown, in one word, and the file: 19 photographs, in order of the word.

    Raises:
        InvalidValue: one of the two packages is not installed.
    """
    folders = [_folder(package) / inside for package, inside in _FOLDERS.items()]
    return {word: next(f / file for f in folders if (f / file).is_file()) for word, file in _FILES.items()}


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise InvalidValue(
            f"photographs: must lie in the packages scikit-image and scikit-learn; {package} is not installed; "
            'run `pip install "tokenry[collages]"`.'
        )
    return Path(found.origin).parent
