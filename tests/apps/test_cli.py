"""What the commands print, and what they say when something is wrong."""

from __future__ import annotations

import io
import json
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

RECEIPT = {
    "steps", "prompt_tokens", "new_tokens", "read_per_step", "seconds", "tokens_per_second", "flops", "kv_bytes",
    "bytes_read", "peak_bytes", "notes",
}  # fmt: skip
USE = ("--use", "lexical_relevance:budget=0.25", "--use", "token_select:budget=64")


def test_run_prints_one_json_document(tokenry, small, document, tmp_path):
    page = tmp_path / "trace.html"
    done = tokenry(
        "run", document, "--ask", "Who spoke?", "--model", small, *USE, "--max-new", 6, "--compare", "dense",
        "--report", page, "--dtype", "float32", "--json",
    )  # fmt: skip
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert set(found) == {"schema", "answer", "receipt", "dense"}
    assert found["schema"] == "tokenry.run/0"
    assert set(found["receipt"]) == RECEIPT == set(found["dense"]["receipt"])
    assert set(found["dense"]) == {"answer", "receipt", "kl", "top1"}
    assert set(found["receipt"]["seconds"]) == {"load", "prefill", "decode", "first_token"}
    compress, attend = found["receipt"]["steps"]
    assert set(compress) == {"method", "room", "tokens_in", "tokens_out", "seconds"}
    assert compress["tokens_out"] == int(compress["tokens_in"] * 0.25 + 0.5)
    assert (attend["room"], attend["method"]) == ("attend", "token_select")
    assert max(found["receipt"]["read_per_step"]) <= 64
    assert len(found["receipt"]["read_per_step"]) == found["receipt"]["new_tokens"] - 1 == 5
    assert found["dense"]["kl"] >= 0
    assert found["receipt"]["kv_bytes"] < found["dense"]["receipt"]["kv_bytes"]
    assert found["receipt"]["flops"] < found["dense"]["receipt"]["flops"]
    assert page.read_text(encoding="utf-8").lstrip().startswith("<!doctype html>")


def test_the_full_budget_is_the_dense_answer(tokenry, small, document, arms_here):
    done = tokenry(
        "run", document, "--ask", "Who?", "--model", small, "--use", "lexical_relevance:budget=1.0",
        "--use", "token_select:budget=100000", "--max-new", 6, "--compare", "dense", "--dtype", "float32", "--json",
    )  # fmt: skip
    found = json.loads(done.out)
    assert found["dense"]["kl"] == pytest.approx(0, abs=1e-5)
    assert found["answer"] == found["dense"]["answer"]


def test_the_answer_goes_to_standard_output_and_the_receipt_does_not(tokenry, small, document):
    done = tokenry("run", document, "--ask", "Who?", "--model", small, *USE, "--max-new", 4)
    assert done.status == 0, done.err
    assert "receipt" in done.err
    assert "lexical_relevance" in done.err
    assert "receipt" not in done.out


def test_standard_input_and_several_documents(tokenry, small, document, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"The mayor is Ada Byron. " * 20)))
    done = tokenry("run", "-", document, "--ask", "Who?", "--model", small, *USE, "--max-new", 2, "--json")
    assert json.loads(done.out)["receipt"]["steps"][0]["tokens_in"] > 500


def test_sampling_follows_its_seed(tokenry, small, document):
    def say(seed):
        return json.loads(
            tokenry("run", document, "--ask", "?", "--model", small, "--temperature", 1, "--seed", seed, "--max-new", 8,
                    "--json").out
        )["answer"]  # fmt: skip

    assert say(1) == say(1) != say(2)


def test_compress_writes_text_within_the_budget(tokenry, small, document, tmp_path):
    out = tmp_path / "short.txt"
    done = tokenry("compress", document, "--use", "lexical_relevance:budget=0.5", "--ask", "the economy", "--out", out,
                   "--tokenizer", small, "--json")  # fmt: skip
    found = json.loads(done.out)
    assert set(found) == {"schema", "tokens_in", "tokens_out", "text", "left_out", "notes"}
    assert out.read_text(encoding="utf-8") == found["text"]
    assert found["tokens_out"] <= int(found["tokens_in"] * 0.5 + 0.5)


def test_compress_takes_messages(tokenry, small, tmp_path):
    rows = [{"id": i, "text": f"row {i} of many"} for i in range(50)]
    talk = [{"role": "user", "content": "row 7"}, {"role": "tool", "tool_call_id": "c", "content": json.dumps(rows)}]
    file = tmp_path / "m.json"
    for given in (talk, {"model": "m", "messages": talk}):
        file.write_text(json.dumps(given))
        done = tokenry("compress", "--messages", file, "--tokenizer", small, "--floor", 50)
        found = json.loads(done.out)
        left = found if isinstance(given, list) else found["messages"]
        assert rows[7] in json.loads(left[1]["content"])
        assert len(left[1]["content"]) < len(talk[1]["content"])
        assert "1 of them shorter" in done.err
    found = json.loads(tokenry("compress", "--messages", file, "--tokenizer", small, "--floor", 50, "--json").out)
    assert found["changes"][0]["kind"] == "json"
    assert found["points"] == []
    older = [
        {"role": "user", "content": f"row 7\n\n```\n{json.dumps(rows)}\n```"},
        *[{"role": "user", "content": "So?"}] * 2,
    ]
    file.write_text(json.dumps(older))
    options = ("--tokenizer", small, "--floor", 50, "--older-every", 100)
    said = tokenry("compress", "--messages", file, *options).err
    (point,) = json.loads(tokenry("compress", "--messages", file, *options, "--json").out)["points"]
    assert point["message"] == 2
    assert f"before message 3 older turns shrank: {point['saved']} tokens fewer from there on" in said
    for wrong in (["--messages", file, file], []):
        assert "needs text files, or --messages" in tokenry("compress", *wrong).err


def test_all_but_the_shorter_results_is_written_as_it_was(tokenry, small, tmp_path):
    result = json.dumps(json.dumps([{"id": i, "text": f"row {i} of many"} for i in range(50)]))
    asked = '{"role": "user", "content": "row \\u0037"}'
    before = '{"temperature": 1.10, "seed": 1e400, "a": 1, "a": 2,\n  "messages":  [' + asked
    text = f'{before}, {{"role": "tool", "content": {result}, "x":1.0}}] }}'
    file = tmp_path / "m.json"
    file.write_text(text)
    options = ("--messages", file, "--tokenizer", small)
    assert tokenry("compress", *options).out == f"{text}\n"
    left = tokenry("compress", *options, "--floor", 50).out
    assert len(left) < len(text)
    assert left.startswith(before)
    assert left.endswith('", "x":1.0}] }\n')


def test_compare_puts_every_arm_beside_dense_and_random(tokenry, small, document, arms_here):
    done = tokenry("compare", "snapkv:budget=40", "--text", document, "--model", small, "--max-new", 4, "--json")
    found = json.loads(done.out)
    assert found["schema"] == "tokenry.compare/0"
    assert [a["name"].split(":")[0] for a in found["arms"]] == ["dense", "attend/snapkv", "attend/random"]
    assert [a["control"] for a in found["arms"]] == [False, False, True]
    assert found["arms"][0]["kl"] is None
    assert all(a["kl"] >= 0 for a in found["arms"][1:])


def test_list_and_explain(tokenry):
    rows = json.loads(tokenry("list", "--json").out)
    assert {"name", "room", "title", "year", "url", "summary", "needs", "kv"} == set(rows[0])
    attending = json.loads(tokenry("list", "--room", "attend", "--json").out)
    assert {r["room"] for r in attending} == {"attend"}
    quest = next(r for r in attending if r["name"] == "quest")
    assert quest["kv"] == {"action": "visible", "granularity": "page", "evidence": "query"}
    assert tokenry("list", "--room", "attend").out.split()[:4] == ["method", "action", "granularity", "evidence"]
    assert "action: visible, granularity: page, evidence: query" in tokenry("explain", "quest").out
    text = tokenry("explain", "snapkv").out
    assert "Differs from the paper" in text
    assert "window: int = 32" in text
    text = tokenry("explain", "recycled").out
    assert "Changes nothing at\n    - budget=1000000\n    - refresh=stride[steps=1]\n" in text
    found = json.loads(tokenry("explain", "recycled", "--json").out)
    assert found["identity_at"] == [{"budget": 1000000}, {"refresh": "stride[steps=1]"}]


def test_a_room_is_compared_with_one_budget(tokenry, document):
    """Every method that needs no training, wrappers by what is inside; what refuses the budget is said."""
    from tokenry.apps.cli.compare import of_room
    from tokenry.pipeline.compare import pipelines, planned

    found = of_room("attend", "64")
    assert {"attend/quest:budget=64", "attend/adaptive_heads:inside=snapkv[budget=64]", "attend/spatten"} <= set(found)
    assert not {spec for spec in found if spec.startswith(("attend/still", "attend/random"))}
    assert all("budget=0.25" in spec for spec in of_room("compress", "0.25"))
    assert not any(spec.startswith("attend/quest") for spec in of_room("attend", "4"))
    controls = [name for name, _, control in planned(pipelines(["pyramid:inside=snapkv[budget=64]"])) if control]
    assert controls == ["attend/random:budget=64:per=head"]
    for arguments in ([], ["snapkv", "--budget", "64"], ["--room", "segment"]):
        done = tokenry("compare", *arguments, "--text", document, "--ask", "Who?")
        assert done.status == 2
        assert "must be given" in done.err or "room must be attend or compress" in done.err


def test_models_list(tokenry):
    rows = json.loads(tokenry("models", "list", "--json").out)
    assert {"smollm2", "minilm"} <= {r["name"] for r in rows}


def test_protected_spans_survive(tokenry, small, document):
    done = tokenry("compress", document, "--use", "compress/random:budget=0.1", "--protect", r"Mr\. Speaker",
                   "--tokenizer", small)  # fmt: skip
    assert "Mr. Speaker" in done.out


WRONG = [
    (["run", "{tmp}/none.txt", "--ask", "?"], "must be a readable text file; No such file or directory"),
    (["run", "{tmp}", "--ask", "?"], "must be a readable text file; Is a directory"),
    (["run", "{tmp}/empty.txt", "--ask", "?"], "must hold some text; got an empty file"),
    (["run", "{tmp}/blank.txt", "--ask", "?"], "must hold some text; got only white space"),
    (["run", "{tmp}/binary.txt", "--ask", "?"], "must be text; got binary data"),
    (["run", "{tmp}/latin.txt", "--ask", "?"], "must be UTF-8; got byte 0xe9 at position 3"),
    (["run", "{doc}", "--ask", "?", "--use", "dense_relevence"], "is not known; the nearest are dense_relevance,"),
    (["run", "{doc}", "--ask", "?", "--use", "window:size=3"], "has no field 'size'; its fields are budget"),
    (["run", "{doc}", "--ask", "?", "--use", "window:budget=0"], "tokens must be at least 1; got 0"),
    (["run", "{doc}", "--ask", "?", "--use", "window:budget=1.5"], "share must be in (0, 1]; got 1.5"),
    (["run", "{doc}", "--ask", "?", "--use", "window:budget=x"], "a share such as 0.25 or a number of tokens"),
    (["run", "{doc}", "--ask", "?", "--use", "window", "--use", "snapkv"], "only one attention method"),
    (["run", "{doc}", "--ask", "?", "--use", "window", "--use", "lexical_relevance"], "room compress must come before"),
    (["run", "{doc}", "--ask", "?", "--model", "smolm2"], "did you mean 'smollm2'?"),
    (["run", "{doc}", "--ask", "?", "--model", "{tmp}/none.gguf"], "must be a folder or a GGUF file that exists"),
    (["run", "{doc}", "--ask", "?", "--model", "{tmp}/bad.gguf"], "must be a GGUF file; its first bytes say otherwise"),
    (["run", "{doc}", "--ask", "?", "--model", "{tmp}/cut.gguf"], "must be a whole GGUF file"),
    (["run", "{doc}", "--ask", "?", "--model", "{tmp}"], "must hold config.json"),
    (["run", "{doc}", "--ask", "?", "--device", "gpu9"], "device: must be auto, cpu or an accelerator"),
    (["run", "{doc}", "--ask", "?", "--dtype", "int3", "--model", "{small}"], "dtype: must be auto, float32"),
    (["run", "{doc}", "--ask", "?", "--compare", "sparse"], "compare: must be dense; got 'sparse'"),
    (["run", "{doc}", "--ask", "?", "--protect", "("], "protect: must be a regular expression"),
    (["run", "{doc}"], "Missing option '--ask'"),
    (["compress", "{doc}"], "use: needs at least one method"),
    (["compress", "{doc}", "--use", "window", "--tokenizer", "{small}"], "text cannot carry attend/window"),
    (["compress", "{doc}", "--use", "dense_relevance", "--tokenizer", "{small}"], "dense_relevance: ask must be given"),
    (["compress", "{doc}", "--use", "compress/random", "--tokenizer", "{small}", "--out", "{tmp}/empty.txt/x"],
     "must be writable"),
    (["explain", "tokenselect"], "the nearest are token_select"),
    (["list", "--room", "attic"], "room: must be one of segment"),
    (["models", "get", "gpt"], "must be one of smollm2, minilm"),
]  # fmt: skip


@pytest.fixture
def place(tmp_path, document, small):
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "blank.txt").write_bytes(b" \n\t ")
    (tmp_path / "binary.txt").write_bytes(b"ab\0cd")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "bad.gguf").write_bytes(b"nothing of the kind")
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 16)
    return {"tmp": tmp_path, "doc": document, "small": small}


@pytest.mark.parametrize(("arguments", "sentence"), WRONG, ids=lambda v: v if isinstance(v, str) else "")
def test_what_is_wrong_is_one_sentence(tokenry, place, arguments, sentence):
    before = {f.name: f.read_bytes() for f in place["tmp"].iterdir() if f.is_file()}
    arguments = [a.format(**place) for a in arguments]
    done = tokenry(*arguments)
    assert done.status == 2
    assert sentence in done.err
    assert "Traceback" not in done.err
    as_json = tokenry(*arguments, "--json") if arguments[:2] != ["models", "get"] else done
    assert as_json.status == 2
    if as_json is not done:
        assert as_json.out == ""
        assert sentence in json.loads(as_json.err.splitlines()[-1])["error"]["message"]
    assert before == {f.name: f.read_bytes() for f in place["tmp"].iterdir() if f.is_file()}


def test_an_unsupported_model_is_refused(tokenry, document, tmp_path, smollm2):
    config = AutoConfig.for_model("bloom", vocab_size=len(smollm2.tokenizer), hidden_size=32, n_layer=2, n_head=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "bloom")
    smollm2.tokenizer.save_pretrained(tmp_path / "bloom")
    done = tokenry("run", document, "--ask", "?", "--use", "window:budget=32", "--model", tmp_path / "bloom")
    assert done.status == 2
    assert "BloomForCausalLM: must call transformers' attention interface" in done.err


def test_damaged_safetensors_are_named(tokenry, small, document, tmp_path):
    import shutil

    shutil.copytree(small, tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    done = tokenry("run", document, "--ask", "?", "--model", tmp_path / "m")
    assert done.status == 2
    assert "must hold whole safetensors files" in done.err


def test_a_prompt_that_does_not_fit_says_what_would(tokenry, small, tmp_path):
    from tokenry.data import read

    file = tmp_path / "long.txt"
    file.write_text(read("sotu_1930"), encoding="utf-8")
    done = tokenry("run", file, "--ask", "?", "--model", small)
    assert done.status == 2
    assert "must fit into a context of 2048 tokens with 64 new ones" in done.err
    budget = done.err.split("use a compressor with budget=")[1].split(" ")[0]
    fits = tokenry("run", file, "--ask", "?", "--model", small, "--use", f"compress/random:budget={budget}",
                   "--max-new", 64, "--json")  # fmt: skip
    assert fits.status == 0, fits.err
    assert json.loads(fits.out)["receipt"]["prompt_tokens"] == 2048 - 64


def test_a_question_longer_than_the_context(tokenry, small, document):
    done = tokenry("run", document, "--ask", "why " * 3000, "--model", small, *USE)
    assert done.status == 2
    assert "shorten the question" in done.err


def test_a_budget_beyond_the_text_keeps_the_text(tokenry, small, document):
    done = tokenry("compress", document, "--use", "compress/random:budget=100000", "--tokenizer", small)
    assert done.out.rstrip("\n") == document.read_text(encoding="utf-8").rstrip("\n")


def test_half_precision_is_used_where_asked(tokenry, small, document):
    done = tokenry("run", document, "--ask", "?", "--model", small, "--dtype", "bfloat16", "--max-new", 2, "--json")
    assert json.loads(done.out)["receipt"]["kv_bytes"] % (2 * torch.bfloat16.itemsize) == 0
