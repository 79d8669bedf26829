"""Rows survive an interruption, and a result grows by the arms it lacks."""

from __future__ import annotations

import pytest

from benchmarks import record
from benchmarks.record import Record, read


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    return tmp_path


def new(arms, name="room/name", **more):
    return Record(name, dtype="float32", settings={"steps": 2, "arms": arms}, save=True, **{"grows": True} | more)


def whole(arms, **more):
    made = new(arms, **more)
    for arm in arms:
        made.add({"arm": arm, "value": len(made.rows)})
    return made.finish()


def test_a_result_names_its_command_and_file():
    done = whole(["a"])
    assert done["command"] == "python -m benchmarks.room.name"
    assert read("room/name") == done
    assert read("room/other") is None
    other = Record("room/real", script="room/name", options="--real", dtype="float32", settings={}, save=True).finish()
    assert other["command"] == "python -m benchmarks.room.name --real"


def test_an_interrupted_run_goes_on():
    new(["a", "b"]).add({"arm": "a"})
    assert new(["a", "b"]).rows == [{"arm": "a"}]
    assert new(["a", "b"], grows=False).rows == [{"arm": "a"}]


def test_a_result_gets_what_it_lacks_and_keeps_the_rest():
    whole(["a", "b"])
    assert new(["a", "b", "c"]).rows == [{"arm": "a", "value": 0}, {"arm": "b", "value": 1}]
    assert new(["b", "c"]).rows == [{"arm": "b", "value": 1}]
    assert new(["a", "b", "c"], grows=False).rows == []


def test_a_whole_result_is_measured_anew():
    whole(["a", "b"])
    assert new(["a", "b"]).rows == []


def test_an_arm_with_another_setting_is_measured_again():
    whole({"a": "one", "b": "two"})
    assert [r["arm"] for r in new({"a": "one", "b": "three"}).rows] == ["a"]


def test_other_settings_begin_anew():
    whole(["a"])
    other = Record("room/name", dtype="float32", settings={"steps": 3, "arms": ["a", "b"]}, save=True, grows=True)
    assert other.rows == []


def test_rows_of_no_arm_stay():
    made = new(["a"])
    made.add({"arm": "dense"}, {"arm": "a"})
    made.finish()
    assert new(["a", "b"]).rows == [{"arm": "dense"}, {"arm": "a"}]


def test_growing_under_other_versions_names_both(monkeypatch):
    before = whole(["a"])["machine"]["torch"]
    monkeypatch.setattr(record.torch, "__version__", "99")
    grown = new(["a", "b"])
    assert [r["arm"] for r in grown.rows] == ["a"]
    grown.add({"arm": "b"})
    done = new(["a", "b"]).finish()
    assert [r["arm"] for r in done["rows"]] == ["a", "b"]
    assert done["machine"]["torch"] == "99"
    assert [m["torch"] for m in done["earlier"]] == [before]


def test_another_machine_begins_anew(monkeypatch):
    whole(["a"])
    monkeypatch.setattr(record, "_cpu", lambda: "another")
    assert new(["a", "b"]).rows == []


def test_arms_in_files_of_their_own_are_joined():
    for arm in ("a", "b"):
        whole([arm], name=f"room/name/{arm}", script="room/name")
    found = read("room/name")
    assert [r["arm"] for r in found["rows"]] == ["a", "b"]
    assert found["command"] == "python -m benchmarks.room.name"
    assert found["earlier"] == []
    Record("room/name/c", dtype="float32", settings={"steps": 9, "arms": ["c"]}, save=True).finish()
    with pytest.raises(ValueError, match="measure it again"):
        read("room/name")
