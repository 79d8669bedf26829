"""Parts of methods: values in a field, by name in the one-line form, revived only when they are registered."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass

import pytest

from tokenry.core import registry
from tokenry.core.card import Card
from tokenry.core.described import fields_of
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import natural, part, some_of
from tokenry.core.learned import LearnedPart
from tokenry.core.method import Method, Part
from tokenry.core.registry import Entry, entries, load_part, parse, parse_part, parts

HEADINGS = {"What it does", "Where it acts", "Shapes", "Guarantees", "Raises", "Deviations", "Relations"}


@dataclass(frozen=True, kw_only=True)
class Kind(Part):
    """What the parts of this test have in common."""

    room = "compress"


@dataclass(frozen=True, kw_only=True)
class Depth(Kind):
    """A part with fields."""

    part = Card(title="t", year=2026, url="https://example.org", summary="s")
    deep: int = natural(1, doc="a count")
    kinds: tuple[str, ...] = some_of("a", "b", doc="kinds")


@dataclass(frozen=True, kw_only=True)
class Whole(Method):
    """A method with a part."""

    room = "compress"
    times: int = natural(0, doc="a count")
    piece: Kind = part(Depth(), doc="a part")
    last: int = natural(0, doc="a count")


@pytest.fixture
def registered(monkeypatch):
    """Only `Depth`, and `Whole` under the name of this file."""
    entry = Entry("compress", "depth", __name__, "Depth", Depth.part, "")
    monkeypatch.setattr(registry, "parts", lambda room=None: (entry,))
    monkeypatch.setattr(registry, "load", lambda name: Whole)


def test_a_part_is_a_value(registered):
    assert Whole() == Whole(piece=Depth()) == Whole(piece="depth")
    assert Whole(piece=Depth(deep=2)) != Whole()
    assert hash(Whole()) == hash(Whole(piece=Depth()))


@pytest.mark.parametrize(
    ("method", "line"),
    [
        (Whole(), ""),
        (Whole(times=1, last=2), ":times=1,last=2"),
        (Whole(piece=Depth(deep=3), last=2), ":piece=depth[deep=3],last=2"),
        (Whole(times=1, piece=Depth(deep=3, kinds=("a", "b")), last=2),
         ":times=1,piece=depth[deep=3,kinds=a+b],last=2"),
    ],
)  # fmt: skip
def test_the_one_line_form_round_trips(registered, method, line):
    assert str(method) == f"compress/test_parts{line}"
    assert parse(str(method)) == method


def test_json_round_trips(registered):
    method = Whole(piece=Depth(deep=3, kinds=("b",)))
    values = json.loads(json.dumps(method.to_dict()))
    assert values["piece"] == {"part": "compress/depth", "deep": 3, "kinds": ["b"]}
    assert Whole.from_dict(values) == method


@pytest.mark.parametrize(
    ("piece", "sentence"),
    [
        ("width", "Whole: piece must be one of depth; got 'width'."),
        (3, "Whole: piece must be one of depth; got 3."),
        ("depth[wide=3]", "depth: has no field 'wide'; its fields are deep, kinds."),
        ("depth[deep=-3]", "Depth: deep must be at least 0; got -3."),
        ("depth[deep]", "depth: a setting must be written field=value; got 'deep'."),
        ("depth[deep=3", "depth: settings of a part must end with ]; got 'depth[deep=3'."),
    ],
)
def test_a_wrong_part_is_explained(registered, piece, sentence):
    with pytest.raises(InvalidValue) as error:
        Whole(piece=piece)
    assert str(error.value) == sentence


@pytest.mark.parametrize("name", ["os/path", "compress/fit", "compress/random", "antigravity", "", ["os"], None])
def test_nothing_but_a_registered_part_is_revived(name):
    before = set(sys.modules)
    with pytest.raises(InvalidValue, match=r"must be one of .*quantize/"):
        Whole.from_dict({"piece": {"part": name}})
    assert "antigravity" not in set(sys.modules) - before


def test_a_part_of_another_kind_is_refused():
    found = parts()[0]
    with pytest.raises(InvalidValue, match="Whole: piece must be one of"):
        Whole(piece=load_part(found.full_name)())


@pytest.mark.parametrize("entry", parts(), ids=lambda e: e.full_name)
def test_every_part_is_complete(entry):
    made = load_part(entry.full_name)()
    assert isinstance(made, Part)
    assert made.name() == entry.name
    assert made.room == entry.room
    for again in (parse_part(entry.name, type(made)), type(made).from_dict(json.loads(json.dumps(made.to_dict())))):
        # What is learned is equal only to itself; its fields must be.
        assert again == made or (isinstance(made, LearnedPart) and again.to_dict() == made.to_dict())
    assert entry.full_name not in [e.full_name for e in entries()]
    assert entry.card.summary == entry.card.summary.rstrip(".")
    assert entry.card.url.startswith("https://")
    first, _, rest = entry.doc.partition("\n")
    assert first.endswith((".", ":")), f"{entry.full_name} must begin with a sentence of one line"
    # A line says all of a short part; one that is a paper of its own may have the headings of a method.
    assert set(re.findall(r"^(\S.*)\n +\S", rest, re.MULTILINE)) <= HEADINGS


def test_the_field_shows_its_default():
    settings = {s.name: s for s in fields_of(registry.find("frugal_prompt"))}
    assert settings["attribution"].default == "DecompX()"
    assert settings["attribution"].type == "Attribution"
