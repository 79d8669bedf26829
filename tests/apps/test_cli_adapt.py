"""`tokenry adapt` writes a folder that plain transformers loads, or nothing."""

from __future__ import annotations

import json

import pytest
import torch
from tokenizers import normalizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.embed.embed_models import NEW_TEXT, OLD_TEXT, described, model, trained
from tokenry.embed.transfer import surfaces
from tokenry.embed.transfer.bits import bits_per_byte, spells
from tokenry.models.files.load import LanguageModel
from tokenry.models.text import embeddings
from tokenry.models.text.embeddings import save


@pytest.fixture
def old(tmp_path):
    save(model("llama", trained(OLD_TEXT, bos_token="<s>")), tmp_path / "old")
    return tmp_path / "old"


@pytest.fixture
def new(tmp_path):
    trained(NEW_TEXT, 330).save_pretrained(tmp_path / "new")
    return tmp_path / "new"


def files(folder):
    return sorted(f.name for f in folder.iterdir())


def test_one_json_document_and_a_folder(tokenry, old, new, tmp_path):
    out = tmp_path / "out"
    done = tokenry("adapt", old, "--tokenizer", new, "--use", "mean_of_pieces", "--out", out, "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert set(found) == {
        "schema", "model", "tokenizer", "method", "out", "rows", "share_copied", "bits_per_byte", "seconds",
        "without_rows",
    }  # fmt: skip
    assert (found["schema"], found["method"]) == ("tokenry.adapt/0", "embed/mean_of_pieces")
    rows = found["rows"]
    assert rows["copied"] + rows["made"] + rows["idle"] == len(trained(NEW_TEXT, 330)) + 1
    assert rows["all"] == 384
    assert found["share_copied"] == pytest.approx(rows["copied"] / (rows["copied"] + rows["made"]), abs=1e-4)
    assert found["bits_per_byte"]["passages"] == 5
    assert 2 < found["bits_per_byte"]["before"] < 20
    tokenizer, loaded = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    inputs = tokenizer("The keeper knows.", return_tensors="pt")
    assert loaded(**inputs).logits.shape == (1, inputs["input_ids"].shape[1], 384)
    assert files(tmp_path) == ["new", "old", "out"]


def test_use_is_also_called_method(tokenry, old, new, tmp_path):
    done = tokenry("adapt", old, "--tokenizer", new, "--method", "last_piece", "--out", tmp_path / "out", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["method"] == "embed/last_piece"


def test_ids_without_rows_are_ignored_and_said(tokenry, new, tmp_path):
    """As of models whose tokenizer got marks, such as for pictures, that they have no rows for."""
    language = model("llama", trained(OLD_TEXT, bos_token="<s>"))
    folder = tmp_path / "old"
    save(language, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"], "pad_token": "<pad>"})
    tokenizer.add_tokens(["the keeper"])
    tokenizer.save_pretrained(folder)
    assert len(tokenizer) == len(language.model.get_input_embeddings().weight) + 3
    out = tmp_path / "out"
    done = tokenry("adapt", folder, "--tokenizer", new, "--use", "mean_of_pieces", "--out", out)
    assert done.status == 0, done.err
    said = "the model has no rows for 3 ids of its tokenizer, which are ignored: <image>, <pad>, the keeper"
    assert said in done.out
    again, loaded = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    assert "<image>" not in again.get_vocab()
    assert loaded(**again("the keeper <image>", return_tensors="pt")).logits.isfinite().all()
    same = tokenry("adapt", folder, "--tokenizer", folder, "--use", "embed/random", "--out", tmp_path / "o", "--json")
    found = json.loads(same.out)
    assert found["without_rows"] == ["<image>", "<pad>", "the keeper"]
    assert found["bits_per_byte"]["passages"] == 5


def test_its_own_vocabulary_costs_no_bits(tokenry, old, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Nobody knew why the lamp was broken.", encoding="utf-8")
    done = tokenry("adapt", old, "--tokenizer", old, "--use", "embed/random", "--out", tmp_path / "o", "--text", text,
                   "--multiple", 1, "--json")  # fmt: skip
    found = json.loads(done.out)
    assert found["rows"] == {"copied": 311, "made": 0, "idle": 0, "all": 311}
    assert found["share_copied"] == 1
    assert found["bits_per_byte"]["passages"] == 1
    assert found["bits_per_byte"]["after"] == found["bits_per_byte"]["before"]


def test_what_people_read(tokenry, old, new, tmp_path, minilm, monkeypatch):
    monkeypatch.setattr(surfaces, "folder", lambda: tmp_path / "surfaces")
    done = tokenry("adapt", old, "--tokenizer", new, "--out", tmp_path / "out")
    assert done.status == 0, done.err
    assert "rows copied" in done.out
    assert "made by embed/token_adapt" in done.out
    assert "before" in done.out


def test_what_cannot_be_spelled_is_not_measured(tokenry, old, tmp_path):
    lossy().save_pretrained(tmp_path / "lossy")
    done = tokenry("adapt", old, "--tokenizer", tmp_path / "lossy", "--use", "mean_of_pieces", "--out",
                   tmp_path / "out", "--json")  # fmt: skip
    assert json.loads(done.out)["bits_per_byte"] == {"before": None, "after": None, "passages": 0}


def test_mistakes_are_one_sentence(tokenry, old, new, tmp_path):
    cases = [
        (("--use", "snapkv", "--out", tmp_path / "o"), "use: must be a method of room embed"),
        (("--use", "mean_of_pieces", "--out", old), "out: must be a new or an empty folder"),
        (("--use", "token_adapt:weight=2", "--out", tmp_path / "o"), "weight must be in"),
        (("--use", "token_adapt:encoder=nothing-here", "--out", tmp_path / "o"), "model 'nothing-here'"),
    ]
    for arguments, sentence in cases:
        done = tokenry("adapt", old, "--tokenizer", new, *arguments)
        assert done.status == 2
        assert sentence in done.err
    assert files(tmp_path) == ["new", "old"]


def test_an_interruption_leaves_nothing(tokenry, old, new, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(trained(OLD_TEXT)), "save_pretrained", stop)
    done = tokenry("adapt", old, "--tokenizer", new, "--use", "mean_of_pieces", "--out", tmp_path / "out")
    assert done.status == 130
    assert files(tmp_path) == ["new", "old"]


def test_bits_are_those_of_the_model():
    language = model("llama", trained(OLD_TEXT, bos_token="<s>"))
    text = "The lamp: naïve."
    ids = [language.tokenizer.bos_token_id, *language.tokenizer(text)["input_ids"]]
    with torch.no_grad():
        loss = language.model(torch.tensor([ids]), labels=torch.tensor([ids])).loss
    expected = float(loss) * (len(ids) - 1) / torch.log(torch.tensor(2.0)) / len(text.encode())
    assert bits_per_byte(language, text) == pytest.approx(float(expected), rel=1e-5)
    assert spells(language, text)
    assert not spells(LanguageModel(language.model, lossy(), "lossy", 512), text)
    assert embeddings.matrices_of(language.model).output is not None


def lossy():
    """A tokenizer that knows no case."""
    tokenizer = described({"a": 0, "▁": 1})
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer
