"""Training models of chunks: the same after an interruption, wrong input in a sentence, and prices that act."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from tokenry.core.errors import InvalidValue, UnreadableInput
from tokenry.core.registry import parse
from tokenry.core.schooling import Schooling
from tokenry.data.tasks.texts import Texts
from tokenry.segment.engines.opening import open_tokenizer
from tokenry.segment.hierarchy.training import batch, bits_per_byte, made, main, train

HOW = Schooling(rate=3e-3, rise=2, clip=1.0, batch=4, every=3)
SMALL = "hnet:layers=1+1+1,heads=2,window=16,boundaries=cosine[ratio=3]"


def small(form=SMALL):
    return made(form).build(width=16)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "de.txt").write_text("Über den Wolken wächst das Grün. " * 60, encoding="utf-8")
    (folder / "ru.txt").write_text("Над облаками растёт зелень. " * 60, encoding="utf-8")
    return tuple(str(folder / name) for name in ("de.txt", "ru.txt"))


@pytest.mark.parametrize("form", [SMALL, "magnet:heads=2", "hierarchical_ar:heads=2", "word_pool:heads=2"])
def test_an_interrupted_training_is_the_same(files, tmp_path, form):
    texts = Texts(files=files, length=40)
    once, log = train(small(form), texts, 6, tmp_path / "once", HOW)
    train(small(form), texts, 3, tmp_path / "twice", HOW)
    twice, again = train(small(form), texts, 6, tmp_path / "twice", HOW)
    assert log == again
    assert once.digest() == twice.digest()
    assert log[-1]["bits_per_byte"] < log[0]["bits_per_byte"]
    assert len(open_tokenizer(str(tmp_path / "once")).encode("Grün wächst")) >= 1


def test_bits_of_a_byte_count_marks(files):
    model, rows = small("word_pool:heads=2"), [b"Hi you", b"a"]
    ids, real = batch(model, rows)
    assert real.sum(1).tolist() == [8, 2]
    with torch.no_grad():
        nats = float(model.loss(ids, real)[0])
    assert bits_per_byte(model, rows) == pytest.approx(nats / 7 / torch.log(torch.tensor(2.0)).item(), rel=1e-4)


def test_rows_are_whole_characters_and_what_is_kept_is_not_learned(files):
    texts = Texts(files=files, length=41)
    assert [b"".join(parts) for parts in texts.parts.values()] == [Path(file).read_bytes() for file in files]
    rows = texts.sample(50, torch.Generator().manual_seed(0))
    assert rows == texts.sample(50, torch.Generator().manual_seed(0))
    for row in rows + [row for of in texts.held_out(5).values() for row in of]:
        assert 37 < len(row) <= 41
        row.decode()
    assert {name: len(of) for name, of in texts.held_out(3).items()} == {"de": 3, "ru": 3}


def test_wrong_files_are_refused(tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9" * 500)
    (tmp_path / "short.txt").write_text("short")
    with pytest.raises(UnreadableInput, match=r"latin\.txt: must be a readable file of UTF-8 text"):
        _ = Texts(files=(str(tmp_path / "latin.txt"),)).parts
    with pytest.raises(UnreadableInput, match="must be a readable file"):
        _ = Texts(files=(str(tmp_path / "gone.txt"),)).parts
    with pytest.raises(InvalidValue, match="short must have at least"):
        _ = Texts(files=(str(tmp_path / "short.txt"),)).parts
    with pytest.raises(InvalidValue, match="model must be one of hierarchical_ar, hnet, magnet, word_pool"):
        made("bpe")


def test_the_command_trains_and_says_what_is_wrong(files, tmp_path, monkeypatch, capsys):
    given = ["training", SMALL, str(tmp_path / "out"), *files, "--steps", "2", "--width", "16", "--length", "40"]
    monkeypatch.setattr(sys, "argv", given)
    main()
    assert json.loads(capsys.readouterr().out)["step"] == 2
    monkeypatch.setattr(sys, "argv", [*given[:2], str(tmp_path / "other"), "gone.txt"])
    with pytest.raises(SystemExit, match=r"error: gone\.txt: must be a readable file"):
        main()


def test_what_cannot_be_trained_is_refused(files, tmp_path, monkeypatch):
    for length in (0, 3):
        with pytest.raises(InvalidValue, match=f"length must be at least 4, the bytes of a character; got {length}"):
            Texts(files=files, length=length)
    with pytest.raises(InvalidValue, match="steps must be at least 0; got -1"):
        train(small(), Texts(files=files, length=40), -1, None, HOW)
    with pytest.raises(InvalidValue, match=r"memory must be in \[0, 1\); got 1.5"):
        Schooling(memory=1.5)
    for form in ("hnet:boundaries=marks", "magnet:boundaries=marks", "hnet:layers=1+1+1+1+1,boundaries=by_script"):
        with pytest.raises(InvalidValue, match="boundaries must be told by states"):
            small(form)
    with pytest.raises(InvalidValue, match="rates must be at most 2, one for each level; got 3"):
        small("hnet:rates=1+2+3")


def test_levels_learn_at_their_own_rates(files, tmp_path):
    """Adam's first step is as long as the rate for every number that has a gradient."""
    texts, form = Texts(files=files, length=40), "hnet:layers=1+1+1+1+1,heads=2,boundaries=stride[every=2]"
    how = Schooling(rate=1e-3, decay=0.0, batch=4)
    model = small(f"{form},rates=4+2+1")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model, _ = train(model, texts, 1, tmp_path / "one", how)
    moved = {0: 0.0, 1: 0.0, 2: 0.0}
    for name, p in model.named_parameters():
        level = name.split(".").count("inner")
        moved[level] = max(moved[level], float((p - before[name]).detach().abs().max()))
    assert [moved[level] for level in range(3)] == pytest.approx([4e-3, 2e-3, 1e-3], rel=0.02)
    again, _ = train(small(f"{form},rates=4+2+1"), texts, 3, tmp_path / "one", how)
    once, _ = train(small(f"{form},rates=4+2+1"), texts, 3, None, how)
    assert again.digest() == once.digest()


def test_the_log_says_how_long_chunks_are(files):
    _, log = train(small("magnet:heads=2"), Texts(files=files, length=40), 1, None, HOW)
    assert log[-1]["bytes_per_chunk"] > 30, "nothing is likelier than not yet"


def test_the_price_moves_the_length_of_chunks_to_what_is_aimed_at(files):
    """Among lines that say the same again and again, there is nothing to keep chunks from any length."""
    texts = Texts(files=files, length=64)
    how = Schooling(rate=5e-3, rise=5, clip=1.0, batch=8, every=200)
    lengths = {}
    for ratio in (2, 5):
        model = small(f"hnet:layers=1+1+1,heads=2,window=16,boundaries=cosine[ratio={ratio},weight=1]")
        model, _ = train(model, texts, 120, None, how)
        rows = [row for of in texts.held_out(4).values() for row in of]
        lengths[ratio] = sum(map(len, rows)) / sum(len(model.ends(row)) for row in rows)
    assert lengths[2] == pytest.approx(2, rel=0.3)
    assert lengths[5] == pytest.approx(5, rel=0.4)


def test_the_command_line_says_where_models_are_trained_and_shows_bytes(files, tmp_path, capsys):
    from tokenry.apps.cli.encode import encode
    from tokenry.apps.cli.train import train as learn

    with pytest.raises(InvalidValue, match=r"hnet is a model; use python -m tokenry\.segment\.hierarchy"):
        learn("hnet", [Path(files[0])], vocab_size=300, out=tmp_path / "out")
    (tmp_path / "text.txt").write_text("Hello, world!")
    encode(str(tmp_path / "text.txt"), tokenizer="word_pool")
    assert capsys.readouterr().out == "0:6 6:13\n"


def test_what_words_are_needs_no_training():
    tokens = open_tokenizer("hierarchical_ar").encode("Hello, world!")
    assert tokens.spans[:, :2].tolist() == [[0, 6], [6, 13]]
    with pytest.raises(InvalidValue, match="hnet: must be built before 'ends' is used"):
        open_tokenizer("hnet").encode("Hello")
    assert parse("word_pool").ends(b"") == []
