"""Libraries that an audit found wrong for a vocabulary, kept in the cache folder."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tokenry.core.errors import StorageError
from tokenry.core.saving import read_json, write_text
from tokenry.models.files import store
from tokenry.models.files.vocabularies.opened import Opened

PACKAGES = {"splintr": "splintr-rs", "fastokens": "fastokens"}


def barred(opened: Opened) -> set[str]:
    """Names of libraries that, in the version that is installed, were wrong or too slow for this vocabulary."""
    try:
        found = read_json(_file(opened))
    except StorageError:
        return set()
    return {name for name, seen in found.items() if seen == _version(name)}


def bar(opened: Opened, name: str) -> None:
    """Never choose a library for a vocabulary again."""
    _write(opened, {n: _version(n) for n in barred(opened) | {name}})


def unbar(opened: Opened, name: str) -> None:
    """Nothing was found."""
    if name in (now := barred(opened)):
        _write(opened, {n: _version(n) for n in now - {name}})


def _write(opened: Opened, names: dict[str, str]) -> None:
    if names:
        write_text(_file(opened), json.dumps(names) + "\n")
    else:
        _file(opened).unlink(missing_ok=True)


def _file(opened: Opened) -> Path:
    key = f"{opened.vocabulary.fingerprint} {sorted(opened.vocabulary.added.items())}"
    return store.folder().parent / "engines" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _version(name: str) -> str:
    with suppress(PackageNotFoundError):
        return version(PACKAGES.get(name, name))
    return ""
