"""Models and tokenizers that the studio offers, each opened once; nothing is fetched from a network."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokenry.core.errors import UnknownModel
from tokenry.models.files import store
from tokenry.models.files.catalog import ALIASES
from tokenry.models.files.vocabularies.find import SHIPPED

if TYPE_CHECKING:
    from tokenry.models.files.load import LanguageModel
    from tokenry.segment.base import Tokenizer

MOST_MODELS = 2
"""Loaded at a time, so that two can be compared; of more the one that rested longest goes."""
READS_TEXT = ("causal", "encoder", "speech")


class Shelf:
    """What can be chosen by name.

    Args:
        more: names beside the models that are ready, as `tokenry encode --tokenizer` takes them.
    """

    def __init__(self, more: Sequence[str] = ()) -> None:
        self._more = tuple(dict.fromkeys(more))
        self._tokenizers: dict[str, Tokenizer] = {}
        self._models: OrderedDict[str, LanguageModel] = OrderedDict()
        self._lock = threading.Lock()
        self.importing = threading.Lock()

    def offered(self) -> list[dict[str, Any]]:
        """Names with what they are; the first is what a page begins with."""
        found = [
            {"name": a.name, "about": a.about, "answers": a.kind == "causal"}
            for a in ALIASES.values()
            if a.kind in READS_TEXT and store.place(a.name) is not None
        ]
        shipped = [{"name": name, "about": "a small vocabulary that comes along", "answers": False} for name in SHIPPED]
        given = [{"name": name, "about": "given at the start", "answers": True} for name in self._more]
        return given + [each for each in found + shipped if each["name"] not in self._more]

    def check(self, name: str) -> str:
        """Refuse what is not offered: a page shall not read whatever lies on this machine.

        Raises:
            UnknownModel: with the names that there are.
        """
        names = [each["name"] for each in self.offered()]
        if name not in names:
            raise UnknownModel(
                f"reader {name!r}: must be one of {', '.join(names) or 'none, since no model is ready'}; start "
                "the studio with --reader NAME for others."
            )
        return name

    def tokenizer(self, name: str) -> Tokenizer:
        """A tokenizer by its name."""
        from tokenry.segment.engines.opening import open_tokenizer

        name = self.check(name)
        with self._lock:
            if name not in self._tokenizers:
                self._tokenizers[name] = open_tokenizer(name)
            return self._tokenizers[name]

    def language(self, name: str) -> tuple[LanguageModel, float]:
        """A model that answers, and the seconds that loading it took."""
        from tokenry.models.files.load import load

        name, start = self.check(name), time.perf_counter()
        with self._lock:
            if name not in self._models:
                self._models[name] = load(name)
            self._models.move_to_end(name)
            while len(self._models) > MOST_MODELS:
                self._models.popitem(last=False)
            return self._models[name], time.perf_counter() - start

    def loaded(self, name: str) -> LanguageModel | None:
        """A model that is there already."""
        return self._models.get(name)

    def import_libraries(self) -> None:
        """Import what tasks use, in one thread alone: of modules that need each other, two threads get halves."""
        with self.importing:
            import tokenry.apps.studio.reading
            import tokenry.apps.studio.seeing
            import tokenry.apps.studio.talking
            import tokenry.models.files.load
            import tokenry.pipeline.compare
            import tokenry.pipeline.messages.compressing
            import tokenry.segment.engines.opening  # noqa: F401

    def warm(self) -> None:
        """Open what a page asks for first, before it asks; long texts may have an engine of their own."""
        self.import_libraries()
        for each in self.offered()[:1]:
            self.tokenizer(each["name"]).encode("warm words " * 5000)
