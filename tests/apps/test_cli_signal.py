"""`tokenry encode` and `decode` with pictures and sounds."""

from __future__ import annotations

import io
import json
import re
import subprocess

import pytest
import torch

from tests.browser import find
from tokenry import AudioFrames
from tokenry.data.image import read_image, write_image
from tokenry.data.sound import Sound, read_sound, write_sound


@pytest.fixture
def photo(tmp_path):
    pixels = torch.randint(256, (9, 14, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    write_image(pixels, tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def speech(tmp_path):
    write_sound(Sound((torch.arange(3000) / 9).sin() * 0.4, 8000), tmp_path / "speech.wav")
    return tmp_path / "speech.wav"


def said(monkeypatch, text):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_a_picture_and_back(tokenry, photo, tmp_path, monkeypatch):
    done = tokenry("encode", photo, "--json")
    found = json.loads(done.out)
    assert found["schema"] == "tokenry.encode_signal/0"
    assert (found["kind"], found["size"], found["vocab_size"]) == ("image", [9, 14], 256)
    assert len(found["ids"]) == len(found["spans"]) == 9 * 14 * 3
    said(monkeypatch, done.out)
    assert tokenry("decode", "-", "--out", tmp_path / "back.png").status == 0
    assert torch.equal(read_image(tmp_path / "back.png").pixels, read_image(photo).pixels)


def test_a_sound_and_back_with_a_saved_tokenizer(tokenry, speech, tmp_path, monkeypatch):
    sound = read_sound(speech)
    method = AudioFrames(rate=8000, content="mel_codes[bands=16,quantizer=vq[codes=16],iterations=2]").fit([sound])
    method.save(tmp_path / "mine")
    done = tokenry("encode", speech, "--tokenizer", tmp_path / "mine", "--json")
    assert json.loads(done.out)["ids"] == method.encode(sound).ids.tolist()
    said(monkeypatch, done.out)
    assert tokenry("decode", "-", "--out", tmp_path / "back.flac").status == 0
    assert len(read_sound(tmp_path / "back.flac").samples) == 3000
    plain = tokenry("encode", speech, "--tokenizer", tmp_path / "mine")
    assert [int(i) for i in plain.out.split()] == method.encode(sound).ids.tolist()
    assert "for a sound of 0.38 s" in plain.err


def test_pages_hold_everything_and_load_nothing(tokenry, photo, speech, tmp_path):
    for file, tokenizer, boxes in (
        (photo, "patches:size=4", 126),
        (speech, "audio_frames:content=mu_law,rate=1000", 375),
    ):
        page = tmp_path / "page.html"
        assert tokenry("encode", file, "--tokenizer", tokenizer, "--html", page).status == 0
        text = page.read_text()
        assert text.count("<rect") == boxes
        assert text.count("data:") >= 4
        assert not re.search(r"https?://|<script", text)
        assert "what the ids give back" in text


@pytest.mark.browser
def test_a_page_is_drawn(tokenry, photo, tmp_path):
    tokenry("encode", photo, "--html", tmp_path / "page.html")
    picture = tmp_path / "page.png"
    browser = [find(), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=800,600", "--hide-scrollbars"]
    subprocess.run([*browser, f"--screenshot={picture}", str(tmp_path / "page.html")], check=True, timeout=60)
    assert len(read_image(picture).pixels.view(-1, 3).unique(dim=0)) > 126


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        ("bpe", "must be a method or a folder for a picture, such as patches"),
        ("audio_frames:content=mu_law", "must be a method or a folder for a picture"),
        ("patches:size=0", "size must be at least 1"),
        ("patches:content=codes", "must be fitted before"),
    ],
)
def test_another_kind_of_tokenizer_is_refused(tokenry, photo, tokenizer, words):
    done = tokenry("encode", photo, "--tokenizer", tokenizer)
    assert done.status == 2
    assert words in " ".join(done.err.split())


def test_damaged_input_is_refused(tokenry, photo, tmp_path, monkeypatch):
    (tmp_path / "half.png").write_bytes(photo.read_bytes()[:100])
    (tmp_path / "no.wav").write_bytes(b"RIFF")
    for file in ("half.png", "no.wav", "nothing.jpg"):
        assert tokenry("encode", tmp_path / file, "--json").status == 2
    good = json.loads(tokenry("encode", photo, "--json").out)
    for wrong in ({"ids": "x"}, {"spans": []}, {"kind": "smell"}, {"ids": [999] * len(good["ids"])}):
        said(monkeypatch, json.dumps(good | wrong))
        assert tokenry("decode", "-", "--out", tmp_path / "out.png").status == 2
    said(monkeypatch, json.dumps(good))
    assert "set --out" in tokenry("decode", "-").err
    assert not (tmp_path / "out.png").exists()
