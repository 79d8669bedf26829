"""What a shell offers for the word that is being typed: methods, models, files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def methods(incomplete: str) -> list[str]:
    """Names of methods, and behind a colon their fields."""
    from tokenry.core.described import fields_of
    from tokenry.core.registry import entries

    name, colon, settings = incomplete.partition(":")
    if not colon:
        names = [e.name for e in entries()]
        short = {e.name if names.count(e.name) == 1 else e.full_name for e in entries()}
        return [n for n in sorted(short | {e.full_name for e in entries() if "/" in name}) if n.startswith(name)]
    before, comma, last = settings.rpartition(",")
    fields = [f.name for e in entries() if name in (e.name, e.full_name) for f in fields_of(e)]
    return [f"{name}:{before}{comma}{f}=" for f in fields if f.startswith(last)]


def explained(incomplete: str) -> list[str]:
    """Names of methods and of their parts."""
    from tokenry.core.registry import parts

    return [*methods(incomplete), *sorted({e.name for e in parts() if e.name.startswith(incomplete)})]


def models(incomplete: str) -> list[str]:
    """Aliases of models, and folders and files."""
    from tokenry.models.files.catalog import ALIASES

    return [*(name for name in ALIASES if name.startswith(incomplete)), *files(incomplete)]


def aliases(incomplete: str) -> list[str]:
    """Aliases of models."""
    from tokenry.models.files.catalog import ALIASES

    return [name for name in ALIASES if name.startswith(incomplete)]


def tokenizers(incomplete: str) -> list[str]:
    """Aliases of models, encodings that are known by name, and files."""
    from tokenry.models.files.vocabularies.find import ENCODINGS

    return [*(n for n in ENCODINGS if n.startswith(incomplete)), *models(incomplete)]


def rooms(incomplete: str) -> list[str]:
    from tokenry.core.registry import ROOMS

    return [room for room in ROOMS if room.startswith(incomplete)]


def files(incomplete: str) -> list[str]:
    """Files and folders below the one that is being typed."""
    return sorted(_found(incomplete))


def _found(incomplete: str) -> Iterator[str]:
    folder, slash, start = incomplete.rpartition("/")
    try:
        for path in Path(folder or ("/" if slash else ".")).expanduser().iterdir():
            if path.name.startswith(start) and (start.startswith(".") or not path.name.startswith(".")):
                yield f"{folder}{slash}{path.name}" + ("/" if path.is_dir() else "")
    except OSError:
        return
