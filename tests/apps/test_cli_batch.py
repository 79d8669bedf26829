"""The command `tokenry batch`, Parquet files, datasets on disk, and a run that is killed as a whole."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from tokenry.core.errors import InvalidValue
from tokenry.pipeline.batch.run import run_batch
from tokenry.pipeline.batch.work import Work


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "rows.jsonl"
    text = "Taxes fall by two percent. The weather was fine. A committee met about other things. "
    file.write_text("".join(json.dumps({"id": i, "text": f"{text}{i}."}) + "\n" for i in range(400)))
    return file


def rows(out):
    return [json.loads(line) for f in sorted(out.glob("part-*.jsonl")) for line in f.read_text().splitlines()]


def test_the_command_prints_a_receipt(tokenry, corpus, tmp_path):
    line = ("batch", corpus, "--use", "lexical_relevance:budget=0.5", "--ask", "Taxes?", "--out", tmp_path / "out")
    done = tokenry(*line, "--part", 100, "--json")
    assert done.status == 0, done.err
    receipt = json.loads(done.out)
    assert receipt["schema"] == "tokenry.batch/0"
    assert receipt["sums"]["rows"] == 400
    assert receipt["parts"] == 4
    again = tokenry(*line, "--part", 100)
    assert again.status == 0, again.err
    assert "parts before" in again.out
    assert [r["id"] for r in rows(tmp_path / "out")] == list(range(400))


def test_a_pipeline_comes_from_a_file(tokenry, corpus, tmp_path):
    file = tmp_path / "pipeline.json"
    file.write_text(json.dumps({"schema": "tokenry.pipeline/0", "use": ["lexical_relevance:budget=0.25"]}))
    done = tokenry("batch", corpus, "--pipeline", file, "--ask", "Taxes?", "--out", tmp_path / "out", "--json")
    assert done.status == 0, done.err
    sums = json.loads(done.out)["sums"]
    assert sums["tokens_out"] < 0.4 * sums["tokens_in"]
    both = tokenry("batch", corpus, "--pipeline", file, "--use", "fold", "--out", tmp_path / "other")
    assert both.status == 2
    assert "leave one out" in both.err
    file.write_text("{}")
    other = tokenry("batch", corpus, "--pipeline", file, "--out", tmp_path / "other")
    assert "must be a pipeline of the schema" in other.err


@pytest.mark.parametrize("kind", ["driver", "worker"])
def test_a_run_that_is_killed_goes_on(corpus, tmp_path, kind):
    """Nothing is lost and nothing is there twice, whoever is killed."""
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "tokenry", "batch", str(corpus), "--use", "lexical_relevance:budget=0.5",
        "--ask", "Taxes?", "--part", "5", "--workers", "2", "--out", str(out), "--json",
    ]  # fmt: skip
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: len(list(out.glob("done/*.json"))) > 2 or run.poll() is not None)
    workers = children(run.pid)
    assert len(workers) == 2
    if kind == "driver":
        run.send_signal(signal.SIGKILL)
        run.wait()
        until(lambda: not any(alive(pid) for pid in workers))
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert json.loads(done.stdout)["parts_before"] > 2
    else:
        subprocess.run(["kill", "-9", str(workers[0])], check=True)
        _, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
        assert "was killed by SIGKILL" in err
    assert [r["id"] for r in rows(out)] == list(range(400))
    assert not list(out.glob("errors-*"))


def children(pid):
    found = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True, check=False)
    return [int(p) for p in found.stdout.split()]


def alive(pid):
    found = subprocess.run(["ps", "-p", str(pid), "-o", "stat="], capture_output=True, text=True, check=False).stdout
    return bool(found.strip()) and not found.startswith("Z")


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_parquet_and_datasets_come_and_go(tokenry, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    given = pa.table({"id": range(50), "text": [f"Row number {i}." for i in range(50)], "when": [b"x"] * 50})
    pq.write_table(given, tmp_path / "rows.parquet", row_group_size=7)
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    with pa.OSFile(str(saved / "data.arrow"), "wb") as sink, pa.ipc.new_stream(sink, given.schema) as writer:
        writer.write_table(given, max_chunksize=11)
    inputs = ("batch", tmp_path / "rows.parquet", saved, "--part", 20)

    done = tokenry(*inputs, "--out", tmp_path / "lines", "--keep", "id", "--json")
    assert done.status == 0, done.err
    assert [r["id"] for r in rows(tmp_path / "lines")] == [*range(50), *range(50)]
    whole = tokenry(*inputs, "--out", tmp_path / "tables", "--to", "parquet", "--workers", 2)
    assert whole.status == 0, whole.err
    tables = [pq.read_table(f) for f in sorted((tmp_path / "tables").glob("part-*.parquet"))]
    assert [t.num_rows for t in tables] == [20, 20, 10] * 2
    together = pa.concat_tables(tables)
    assert together.column_names == ["id", "text", "when", "ids", "tokens"]
    assert together["ids"].to_pylist() == [r["ids"] for r in rows(tmp_path / "lines")]
    bytes_are_no_json = tokenry(*inputs, "--out", tmp_path / "bad")
    assert bytes_are_no_json.status == 2
    assert "must be parquet for the column 'when'" in bytes_are_no_json.err
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    broken = tokenry("batch", tmp_path / "broken.parquet", "--out", tmp_path / "worse")
    assert "must be a whole Parquet file" in broken.err


def test_all_parts_have_columns_of_the_same_types(tmp_path):
    """Also one of bad rows alone, and one whose numbers are not known."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    said = [{"role": "user", "content": "Taxes?", "tool_call_id": None}]
    texts = ["A text that is there.", "Another one.", None, None, ".", "."]
    messages = [said, None, None, None, said, said]
    table = pa.table({"text": pa.array(texts, pa.large_string()), "messages": messages})
    pq.write_table(table, tmp_path / "rows.parquet")

    def types(name, **work):
        run_batch([tmp_path / "rows.parquet"], Work(**work), tmp_path / name, to="parquet", size=2)
        found = [pq.read_schema(f) for f in sorted((tmp_path / name).glob("part-*.parquet"))]
        assert len(found) == 3
        return found

    for column in ("text", "messages"):
        for schema in types(f"short-{column}", use=("lexical_relevance:budget=0.5",), ask="Taxes?", column=column):
            assert schema.field("compressed").type == table.schema.field(column).type
    with pytest.raises(InvalidValue, match="must have the column 'txt'"):
        types("missing", use=("lexical_relevance",), column="txt")
    first, bad, last = types("numbers", use=("tokenizer_information",))
    assert first == last
    assert pa.types.is_null(bad.field("numbers").type)
    assert {field.type for field in first.field("numbers").type} == {pa.float64()}
