"""A corpus row by row: every kind of input, bad rows, going on, and workers that are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import dataclass

import pytest

from tokenry.core.errors import Incompatible, InvalidValue, StorageError, UnreadableInput, WorkerLost
from tokenry.models.files.vocabularies.find import SHIPPED
from tokenry.pipeline.batch.corpus import parts
from tokenry.pipeline.batch.doing import Form, do
from tokenry.pipeline.batch.run import run_batch
from tokenry.pipeline.batch.work import Work

TEXT = "Taxes fall by two percent. The weather was fine. A committee met. Nobody asked about taxes again. "


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting(Work):
    """Counts letters; some texts end whoever reads them."""

    mark: str = ""

    @property
    def kind(self):
        return "encode"

    def open(self):
        def row(values):
            text = values["text"]
            if text == "memory":
                raise MemoryError
            if text == "kill" or (text == "kill once" and _first(self.mark)):
                os.kill(os.getpid(), signal.SIGKILL)
            return {"ids": [len(text)], "tokens": 1}

        return row


def _first(mark):
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [json.dumps({"id": i, "text": f"{TEXT * (1 + i % 3)}{i}"}) for i in range(25)]
    rows[3] = "{broken"
    rows[7] = json.dumps({"id": 7, "text": 5})
    rows[11] = ""
    file.write_text("\n".join(rows), encoding="utf-8")
    return file


def files(out):
    return {f.name: f.read_bytes() for f in sorted(out.iterdir()) if f.name.startswith(("part-", "errors-"))}


def rows(out, name="part"):
    return [json.loads(line) for f in sorted(out.glob(f"{name}-*.jsonl")) for line in f.read_text().splitlines()]


SHORTEN = Work(use=("lexical_relevance:budget=0.5",), ask="What of taxes?")


def test_rows_come_out_in_order_with_bad_ones_aside(corpus, tmp_path):
    told = []
    receipt = run_batch([corpus], SHORTEN, tmp_path / "out", size=10, progress=lambda *a: told.append(a))
    found = rows(tmp_path / "out")
    assert [r["id"] for r in found] == [i for i in range(25) if i not in (3, 7, 11)]
    assert all(r["tokens_out"] <= r["tokens_in"] and r["compressed"] for r in found)
    bad = rows(tmp_path / "out", "errors")
    assert [(b["place"], b["kind"]) for b in bad] == [
        ("rows.jsonl line 4", "TokenryError"), ("rows.jsonl line 8", "InvalidValue")
    ]  # fmt: skip
    assert "must be a text" in bad[1]["reason"]
    assert receipt["sums"]["rows"] == 22
    assert receipt["sums"]["bad"] == 2
    assert receipt["sums"]["tokens_out"] == sum(r["tokens_out"] for r in found)
    assert json.loads((tmp_path / "out" / "receipt.json").read_text()) == receipt
    assert told[-1] == ("rows", 25, 25)


def test_workers_give_the_same_bytes(corpus, tmp_path):
    run_batch([corpus], SHORTEN, tmp_path / "one", size=4)
    receipt = run_batch([corpus], SHORTEN, tmp_path / "two", size=4, workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert sum(w["rows"] for w in receipt["workers"].values()) == 24


def test_a_run_goes_on_where_it_was(corpus, tmp_path):
    out = tmp_path / "out"
    run_batch([corpus], SHORTEN, tmp_path / "whole", size=5)
    run_batch([corpus], SHORTEN, out, size=5)
    # As if it was killed: one part without its mark, one cut short, one not there.
    (out / "done" / "00001.json").unlink()
    (out / "part-00002.jsonl").write_bytes(b"{")
    (out / "part-00003.jsonl").unlink()
    stays = (out / "part-00000.jsonl").stat().st_mtime_ns
    receipt = run_batch([corpus], SHORTEN, out, size=5)
    assert receipt["parts_before"] == 2
    assert files(out) == files(tmp_path / "whole")
    assert (out / "part-00000.jsonl").stat().st_mtime_ns == stays


def test_another_run_does_not_go_on(corpus, tmp_path):
    out = tmp_path / "out"
    run_batch([corpus], SHORTEN, out)
    with pytest.raises(InvalidValue, match="work differs"):
        run_batch([corpus], Work(), out)
    corpus.write_text('{"text": "other"}')
    with pytest.raises(InvalidValue, match="inputs differs"):
        run_batch([corpus], SHORTEN, out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidValue, match=r"must be a new folder.*thesis"):
        run_batch([corpus], SHORTEN, tmp_path / "full")


@pytest.mark.parametrize("how", ["tokenizer", "field"])
def test_another_tokenizer_of_the_same_name_does_not_go_on(corpus, tmp_path, how):
    own = tmp_path / "own"
    shutil.copytree(SHIPPED["sample-unigram"], own)
    named = {"tokenizer": str(own)} if how == "tokenizer" else {"use": (f"tokenizer_information:tokenizer={own}",)}
    work = Work(**named)
    run_batch([corpus], work, tmp_path / "out")
    assert run_batch([corpus], work, tmp_path / "out")["parts_before"] == 1
    for file in own.iterdir():
        os.utime(file, ns=(0, 0))
    with pytest.raises(InvalidValue, match="readers differs"):
        run_batch([corpus], work, tmp_path / "out")


def test_a_run_that_did_nothing_leaves_its_folder(corpus, tmp_path):
    with pytest.raises(Incompatible, match="must be a metric"):
        run_batch([corpus], Work(use=("needle_threading",)), tmp_path / "out")
    run_batch([corpus], SHORTEN, tmp_path / "out")
    assert len(rows(tmp_path / "out")) == 22


def test_what_a_dead_machine_left_is_done_again(corpus, tmp_path):
    out = tmp_path / "out"
    run_batch([corpus], SHORTEN, out, size=5)
    whole = files(out)
    (out / "done" / "00001.json").write_bytes(b"")
    drafts = [out / ".part-00001.jsonl.x1y2", out / "done" / ".00001.json.x1y2"]
    for draft in drafts:
        draft.write_text("half a")
    assert run_batch([corpus], SHORTEN, out, size=5)["parts_before"] == 4
    assert files(out) == whole
    assert not any(draft.exists() for draft in drafts)


def test_a_corpus_that_changes_meanwhile_ends_the_run(corpus, tmp_path):
    def grow(_, done, total):
        if done == 10:
            with corpus.open("a") as more:
                more.write('\n{"text": "more"}')

    with pytest.raises(UnreadableInput, match=r"rows.jsonl: must stay as it was.*changed"):
        run_batch([corpus], SHORTEN, tmp_path / "out", size=5, progress=grow)
    with pytest.raises(InvalidValue, match="inputs differs"):
        run_batch([corpus], SHORTEN, tmp_path / "out", size=5)


def test_nothing_is_read_twice_or_read_where_it_is_written(corpus, tmp_path):
    with pytest.raises(InvalidValue, match="must name each file once"):
        run_batch([corpus, tmp_path], SHORTEN, tmp_path.parent / f"{tmp_path.name}-out")
    with pytest.raises(InvalidValue, match="must lie outside of what is read"):
        run_batch([tmp_path], SHORTEN, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_that_are_no_utf8_go_on_too(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text(TEXT)
    for before in (0, 1):
        assert run_batch([folder], SHORTEN, tmp_path / "out")["parts_before"] == before


def test_two_runs_do_not_write_to_one_folder(corpus, tmp_path):
    from filelock import FileLock

    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(StorageError, match="another one does"):
        run_batch([corpus], SHORTEN, tmp_path / "out")


def lines(file, texts):
    file.write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(texts)))
    return file


def test_a_worker_that_is_killed_is_replaced(tmp_path):
    file, told = lines(tmp_path / "r.jsonl", ["a", "bb", "kill once", "dddd", "e", "f"]), []
    work = Counting(mark=str(tmp_path / "mark"))
    run_batch([file], work, tmp_path / "out", size=3, workers=2, tell=told.append)
    assert [r["id"] for r in rows(tmp_path / "out")] == list(range(6))
    [said] = told
    assert "was killed by SIGKILL at row 3 of" in said
    assert "memory may have run out" in said


def test_a_row_that_kills_twice_is_a_bad_row(tmp_path):
    file = lines(tmp_path / "r.jsonl", ["a", "kill", "c", "memory", "e"])
    receipt = run_batch([file], Counting(), tmp_path / "out", size=3, workers=2)
    assert [r["id"] for r in rows(tmp_path / "out")] == [0, 2, 4]
    killed, memory = rows(tmp_path / "out", "errors")
    assert "was killed by SIGKILL at row 2" in killed["reason"]
    assert memory["kind"] == "MemoryError"
    assert receipt["sums"]["bad"] == 2


def test_a_part_that_no_worker_survives_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("tokenry.pipeline.batch.workers.DEATHS", 3)
    file = lines(tmp_path / "r.jsonl", ["a", "b", *["kill"] * 2])
    with pytest.raises(WorkerLost, match=r"must live through part 1.*SIGKILL"):
        run_batch([file], Counting(), tmp_path / "out", size=2, workers=2)
    assert len(rows(tmp_path / "out")) == 2


def test_what_cannot_be_loaded_is_said_by_workers_too(corpus, tmp_path):
    for workers in (1, 2):
        with pytest.raises(Incompatible, match="must be a metric"):
            run_batch([corpus], Work(use=("needle_threading",)), tmp_path / f"out{workers}", workers=workers)


def test_folders_of_texts_and_rows_are_read_in_order(tmp_path):
    folder = tmp_path / "docs"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "one.txt").write_text("One one.")
    (folder / "a" / "two.md").write_bytes(b"\xff\xfe")
    (folder / "b.txt").write_text("Three.")
    (folder / ".hidden").write_text("no")
    lines(folder / "c.jsonl", ["Four.", "Five."])
    (folder / "d.bin").write_bytes(b"a\0b")
    run_batch([folder], Work(), tmp_path / "out", size=2)
    found = rows(tmp_path / "out")
    assert [r["text"] for r in found] == ["One one.", "Three.", "Four.", "Five."]
    assert [len(r["ids"]) for r in found] == [r["tokens"] for r in found]
    assert [b["place"] for b in rows(tmp_path / "out", "errors")] == ["a/two.md", "d.bin"]


def test_bad_input_is_one_sentence(corpus, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UnreadableInput, match=r"nowhere: must be a file or a folder"):
        run_batch(["nowhere"], SHORTEN, out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidValue, match="must hold at least one row"):
        run_batch([tmp_path / "empty"], SHORTEN, out)
    with pytest.raises(InvalidValue, match="must be jsonl for lines of JSON"):
        run_batch([corpus], SHORTEN, out, to="parquet")
    with pytest.raises(InvalidValue, match="workers: must be at least 1"):
        run_batch([corpus], SHORTEN, out, workers=0)
    with pytest.raises(InvalidValue, match=r"at least one good row.*text must be a text"):
        run_batch([lines(tmp_path / "n.jsonl", [1, 2])], SHORTEN, out)
    with pytest.raises(Incompatible, match="without a model"):
        Work(use=("snapkv",))
    with pytest.raises(InvalidValue, match="ask: must be given"):
        Work(model="smollm2")


def test_a_file_that_goes_away_is_named(tmp_path):
    file = lines(tmp_path / "r.jsonl", ["a", "b"])
    [part] = parts([file], 10)
    file.unlink()
    with pytest.raises(UnreadableInput, match=r"r.jsonl: must stay as it was"):
        do(part, Counting().open(), Form())


def test_parts_tile_a_file_of_lines(corpus):
    whole = corpus.read_bytes()
    for size in (1, 7, 25, 100):
        found = parts([corpus], size)
        assert b"".join(whole[slice(*p.span)] for p in found) == whole
        assert sum(p.rows for p in found) == 25


def test_columns_that_are_taken_or_not_kept(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_text('{"text": "a b", "tokens": 3, "id": 1}\n{"text": "c", "id": 2}\n')
    run_batch([file], Work(), tmp_path / "all")
    assert "must leave the column 'tokens'" in rows(tmp_path / "all", "errors")[0]["reason"]
    run_batch([file], Work(), tmp_path / "some", keep=["id"])
    assert [list(r) for r in rows(tmp_path / "some")] == [["id", "ids", "tokens"]] * 2
    with pytest.raises(InvalidValue, match=r"keep: must be columns.*text, tokens, id; got 'idd'"):
        run_batch([file], Work(), tmp_path / "none", keep=["id", "idd"])


def test_tables_that_rows_of_json_cannot_hold(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    held = {
        "text": ["a b"],
        "list": [[1, 2]],
        "group": [{"a": {"b": None}}],
        "words": pa.array(["x"]).dictionary_encode(),
    }
    beyond = {
        "when": pa.array([0], pa.timestamp("us")), "day": pa.array([0], pa.date32()), "raw": pa.array([b"x"]),
        "price": pa.array([1], pa.decimal128(5, 2)), "deep": pa.array([[{"at": b"x"}]]),
    }  # fmt: skip
    file, out = tmp_path / "t.parquet", tmp_path / "out"
    for name, values in beyond.items():
        pq.write_table(pa.table({**held, name: values}), file)
        with pytest.raises(InvalidValue, match=f"to: must be parquet for the column '{name}'"):
            run_batch([file], Work(), out)
    assert not out.exists(), "it is refused before anything is written"
    run_batch([file], Work(), out, keep=list(held))
    assert rows(out)[0]["group"] == {"a": {"b": None}}
    run_batch([file], Work(), tmp_path / "table", to="parquet")
    assert pq.read_table(tmp_path / "table" / "part-00000.parquet").column("deep").to_pylist() == [[{"at": b"x"}]]

    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), file)
    with pytest.raises(UnreadableInput, match=r"t\.parquet: must name each column once; it has 'text' twice"):
        run_batch([file], Work(), tmp_path / "twice")


def test_what_is_wrong_with_a_column_names_it(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_text('{"text": "a", "rate": NaN}\n{"text": "b", "rate": 1, "why": "?"}\n{"text": "c", "why": 5}\n')
    run_batch([file], Work(use=("lexical_relevance",), ask_column="why"), tmp_path / "asked")
    reasons = [bad["reason"] for bad in rows(tmp_path / "asked", "errors")]
    assert reasons[0] == "row: must have the column 'why'; it has text, rate; set the ask column."
    assert reasons[1] == "row: why must be a question; got int."
    run_batch([file], Work(), tmp_path / "numbers")
    [bad] = rows(tmp_path / "numbers", "errors")
    assert (bad["kind"], bad["reason"]) == (
        "InvalidValue", "row: must hold what JSON holds, so no NaN; rate does not; do not keep it."
    )  # fmt: skip


def test_messages_metrics_and_answers(tmp_path, small):
    said = [{"role": "user", "content": "What of taxes?"}, {"role": "tool", "tool_call_id": "1", "content": TEXT * 40}]
    file = tmp_path / "m.jsonl"
    file.write_text(json.dumps({"messages": said}) + "\n")
    work = Work(use=("lexical_relevance:budget=0.25",), floor=50)
    run_batch([file], work, tmp_path / "messages")
    [row] = rows(tmp_path / "messages")
    assert row["compressed"][0] == said[0]
    assert row["tokens_out"] < row["tokens_in"] / 2

    texts = lines(tmp_path / "t.jsonl", [TEXT, TEXT * 2])
    run_batch([texts], Work(use=("tokenizer_information",)), tmp_path / "numbers")
    assert [r["numbers"]["bytes"] for r in rows(tmp_path / "numbers")] == [len(TEXT), 2 * len(TEXT)]

    work = Work(model=str(small), dtype="float32", ask="What of taxes?", max_new=3)
    run_batch([texts], work, tmp_path / "answers")
    run_batch([texts], work, tmp_path / "by-workers", workers=2, size=1)
    assert [r["new_tokens"] for r in rows(tmp_path / "answers")] == [3, 3]
    assert rows(tmp_path / "answers") == rows(tmp_path / "by-workers")
