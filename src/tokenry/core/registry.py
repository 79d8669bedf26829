"""Find methods by name, reading their cards from source without importing them."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue, StorageError, UnknownMethod
from tokenry.core.saving import read_json

if TYPE_CHECKING:
    from tokenry.core.method import Method, Part, Value

ROOMS = (
    "segment", "quantize", "signal", "embed", "soft", "compress", "attend", "decode", "learn", "probe", "measure",
)  # fmt: skip
PREPARING = ("segment", "soft", "compress")
"""Rooms whose methods change the prompt before the model reads it."""
ENTRY_POINTS = "tokenry.methods"
_PACKAGE = Path(__file__).parents[1]
SAVED = "method.json"
"""What the folder of a saved method holds."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a method lives and what its card says."""

    room: str
    name: str
    module: str
    class_name: str
    card: Card
    doc: str

    @property
    def full_name(self) -> str:
        return f"{self.room}/{self.name}"

    @property
    def kind(self) -> str:
        """Of a part: the file that holds all of its kind."""
        return self.module.rpartition(".")[2]


@cache
def entries() -> tuple[Entry, ...]:
    """All methods, by room in the order of a token's life, then by name."""
    return tuple(sorted([*_own(), *_foreign()], key=lambda e: (ROOMS.index(e.room), e.name)))


@cache
def parts(room: str | None = None) -> tuple[Entry, ...]:
    """All parts of methods, or of those of one room, by room and name.

    Their cards are called `part`, and a file holds all of a kind.
    """
    found = [*_own("part", room), *(e for e in _foreign("part") if room in (None, e.room))]
    return tuple(sorted(found, key=lambda e: (ROOMS.index(e.room), e.name)))


def find(name: str) -> Entry:
    """The method called `name`, or `room/name` where a name is used twice.

    Raises:
        UnknownMethod: no such method (with the three nearest names) or an ambiguous one.
    """
    alone = _alone(name)
    if alone is not None:
        return alone
    hits = [e for e in entries() if name in (e.name, e.full_name)]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise UnknownMethod(f"method {name!r} must name its room; write {' or '.join(e.full_name for e in hits)}.")
    names = [e.name for e in entries()]
    known = {e.name if names.count(e.name) == 1 else e.full_name for e in entries()}
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.0)
    raise UnknownMethod(f"method {name!r} is not known; the nearest are {', '.join(near)}; see `tokenry list`.")


def load(name: str) -> type[Method]:
    """Import the class of a method."""
    return _import(find(name))


def load_part(name: str) -> type[Part]:
    """Import the class of the part called `room/name`.

    Raises:
        InvalidValue: no part has this name; nothing is imported.
    """
    known = {e.full_name: e for e in parts()}
    if name not in known:
        raise InvalidValue(f"part {name!r}: must be one of {', '.join(known)}; check the spelling.")
    return _import(known[name])


def _import(entry: Entry) -> Any:
    return getattr(importlib.import_module(entry.module), entry.class_name)


def parse(spec: str) -> Method:
    """Build a method from its one-line form `[room/]name:field=value,field=value`, or load a saved one by its folder.

    A name that is known is never taken for a folder; `./name` is one.

    Raises:
        UnknownMethod: no such method, and no folder of a saved one.
        InvalidValue: a malformed setting, an unknown field or a value out of range.
        StorageError: the folder's files are damaged.
    """
    name, _, settings = spec.partition(":")
    if _is_saved(spec):
        return _saved(Path(spec.strip()).expanduser())
    return _build(load(name.strip()), _given(name, settings))


def named(spec: str) -> tuple[Entry | None, dict[str, str]]:
    """The method that a one-line form names, None for the folder of a saved one, and the fields that it sets."""
    name, _, settings = spec.partition(":")
    return (None, {}) if _is_saved(spec) else (find(name.strip()), _given(name, settings))


def _is_saved(spec: str) -> bool:
    folder = Path(spec.strip()).expanduser()
    if not (folder / SAVED).is_file():
        return False
    known = {name for e in entries() for name in (e.name, e.full_name)}
    return spec.partition(":")[0].strip() not in known


def _saved(folder: Path) -> Method:
    """The learned method that a folder holds."""
    name = read_json(folder / SAVED).get("method")
    kind: Any = load(name) if isinstance(name, str) else None
    if not hasattr(kind, "load"):
        raise StorageError(f"{folder / SAVED}: must name a method that is learned; got {name!r}; save it again.")
    return kind.load(folder)


def held(kind: type[Value]) -> dict[str, Entry]:
    """What a field of this kind may hold, by its short name: parts of the room, or its methods."""
    known = entries() if kind._key == "method" else parts(kind.room)
    return {e.name: e for e in known if e.room == kind.room}


def parse_part(spec: str, kind: type[Value]) -> Value:
    """Build what a field holds from its one-line form `name` or `name[field=value,field=value]`."""
    name, bracket, rest = spec.partition("[")
    if bracket and not rest.endswith("]"):
        raise InvalidValue(f"{name}: settings of a part must end with ]; got {spec!r}.")
    return _build(_import(held(kind)[name]), _given(name, rest[:-1]))


def _given(name: str, settings: str) -> dict[str, str]:
    """Fields and values of a one-line form."""
    given = {}
    for setting in _apart(settings):
        key, equals, value = setting.partition("=")
        if not equals:
            raise InvalidValue(f"{name}: a setting must be written field=value; got {setting!r}.")
        given[key.strip()] = value.strip()
    return given


def refuse_unknown(who: str, known: Sequence[str], given: Iterable[str]) -> None:
    """Refuse fields that there are not, naming those that there are."""
    for name in given:
        if name not in known:
            raise InvalidValue(f"{who}: has no field {name!r}; its fields are {', '.join(known) or 'none'}.")


def _build(kind: type[Value], given: dict[str, str]) -> Any:
    kind.check_fields(given)
    made = kind(**given)
    made.keep_explicit(given)
    return made


def _apart(settings: str) -> Iterator[str]:
    """Split at commas, except between brackets, where they separate the settings of a part."""
    start = depth = 0
    for at, sign in enumerate(settings + ","):
        depth += (sign == "[") - (sign == "]")
        if sign == "," and depth <= 0:
            if at > start:
                yield settings[start:at]
            start = at + 1
    if depth > 0:
        yield settings[start:]


@cache
def _alone(name: str) -> Entry | None:
    """The method of a file that is the only one of this name, for which no other file has to be read."""
    room, _, stem = name.rpartition("/")
    found = [r for r in ROOMS if room in ("", r) and stem.isidentifier() and (_PACKAGE / r / f"{stem}.py").is_file()]
    if len(found) != 1 or importlib.metadata.entry_points(group=ENTRY_POINTS):
        return None
    module = f"tokenry.{found[0]}.{stem}"
    return next(_read(_PACKAGE / found[0] / f"{stem}.py", found[0], module, "card"), None)


def _own(mark: str = "card", room: str | None = None) -> Iterator[Entry]:
    """What stands in this package, or in one room of it."""
    for each in ROOMS if room is None else (room,):
        home = f"{each}/parts" if mark == "part" else each
        for file in sorted((_PACKAGE / home).glob("*.py")):
            yield from _read(file, each, f"tokenry.{home.replace('/', '.')}.{file.stem}", mark)


def _foreign(mark: str = "card") -> Iterator[Entry]:
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        room = point.name.partition("/")[0]
        spec = importlib.util.find_spec(point.module)
        if room in ROOMS and spec is not None and spec.origin is not None:
            yield from _read(Path(spec.origin), room, point.module, mark)


def _read(file: Path, room: str, module: str, mark: str) -> Iterator[Entry]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        card = _card(node, mark) if isinstance(node, ast.ClassDef) else None
        if card is not None:
            assert isinstance(node, ast.ClassDef)
            name = file.stem if mark == "card" else card.name or snake(node.name)
            yield Entry(room, name, module, node.name, card, ast.get_docstring(node) or "")


def snake(name: str) -> str:
    """The name of a class as a part's name: `StraightThrough` is `straight_through`, `KMeans` is `kmeans`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _card(node: ast.ClassDef, mark: str) -> Card | None:
    for line in node.body:
        if (
            isinstance(line, ast.Assign)
            and isinstance(line.targets[0], ast.Name)
            and line.targets[0].id == mark
            and isinstance(line.value, ast.Call)
        ):
            return Card(**{k.arg: ast.literal_eval(k.value) for k in line.value.keywords if k.arg})
    return None
