"""`tokenry encode` and `decode` with pictures and sounds."""

from __future__ import annotations

import io
import json
import re
import subprocess

import PIL.Image
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
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


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
    assert "for a sound of 0.38 s" in " ".join(plain.err.split())


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


@pytest.mark.parametrize(
    ("largest", "side", "drawn"), [(9 * 14, 1, 9 * 14), (100, 2, 5 * 7), (34, 4, 3 * 4), (1, 16, 1)]
)
def test_a_page_draws_the_whole_picture_however_many_places_it_has(
    tokenry, photo, tmp_path, monkeypatch, largest, side, drawn
):
    monkeypatch.setattr("tokenry.apps.report.signal_page.LARGEST_PAGE", largest)
    assert tokenry("encode", photo, "--html", tmp_path / "page.html").status == 0
    page = (tmp_path / "page.html").read_text()
    boxes = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', page)
    assert len(boxes) == drawn <= largest
    covered = torch.zeros(9, 14)
    for x, y, wide, high in ([round(float(v)) for v in box] for box in boxes):
        assert max(wide, high) <= side
        covered[y : y + high, x : x + wide] += 1
    assert (covered == 1).all()
    assert "126 places" in page
    said = f"{drawn} boxes are drawn: one stands for all places in {side} x {side} pixels"
    assert (said in page) == (side > 1)
    assert "boxes are drawn" not in page or side > 1


def test_a_page_draws_the_whole_sound(tokenry, speech, tmp_path, monkeypatch):
    monkeypatch.setattr("tokenry.apps.report.signal_page.LARGEST_PAGE", 100)
    assert tokenry("encode", speech, "--html", tmp_path / "page.html").status == 0
    page = (tmp_path / "page.html").read_text()
    boxes = re.findall(r'<rect x="([\d.]+)" y="0.00" width="([\d.]+)"', page)
    assert len(boxes) == 94
    assert float(boxes[0][0]) == 0
    assert float(boxes[-1][0]) + float(boxes[-1][1]) == pytest.approx(1200, abs=0.1)
    assert "94 boxes are drawn: one stands for all places in 32 samples" in page


def test_whatever_is_opened_as_a_picture_or_a_sound_is_known_by_its_name():
    import soundfile

    from tokenry.apps.cli.signals import kind_of
    from tokenry.data.image_file import FORMATS

    for suffix, kind in PIL.Image.registered_extensions().items():
        assert (kind_of(f"a{suffix.upper()}") == "image") == (kind in FORMATS), suffix
    for kind in ("wav", "flac", "ogg", "mp3"):
        assert kind.upper() in soundfile.available_formats()
    assert all(kind_of(f"a.{suffix}") == "audio" for suffix in ("wav", "flac", "ogg", "oga", "opus", "mp3"))
    assert kind_of("a.txt") is kind_of("-") is None


def test_vectors_have_no_ids_to_print(tokenry, photo, tmp_path):
    from tokenry import Patches

    Patches(size=4, content="projection[width=8]").build().save(tmp_path / "mine")
    for more in ((), ("--json",)):
        done = tokenry("encode", photo, "--tokenizer", tmp_path / "mine", *more)
        assert done.status == 2
        assert "must have ids to print" in done.err
    assert tokenry("encode", photo, "--tokenizer", tmp_path / "mine", "--html", tmp_path / "page.html").status == 0


def test_only_what_encode_prints_is_decoded(tokenry, photo, tmp_path, monkeypatch):
    good = json.loads(tokenry("encode", photo, "--json").out)
    for wrong in ({"schema": "other/9"}, {"schema": None}, {"ids": "123"}, {"ids": [1.7]}, {"ids": [True]}):
        said(monkeypatch, json.dumps(good | wrong))
        done = tokenry("decode", "-", "--out", tmp_path / "out.png")
        assert done.status == 2
        assert "`tokenry encode --json` prints" in " ".join(done.err.split())
    (tmp_path / "a.txt").write_text("the same words")
    of_text = tokenry("encode", tmp_path / "a.txt", "--tokenizer", "sample-unigram", "--json").out
    said(monkeypatch, of_text)
    assert json.loads(tokenry("decode", "-", "--json").out)["text"] == "the same words"
    said(monkeypatch, of_text.replace("[", "[1.5, ", 1))
    assert tokenry("decode", "-").status == 2


def test_warnings_are_in_the_document_and_colours_are_for_texts(tokenry, photo, tmp_path):
    frames = [PIL.Image.new("RGB", (3, 2), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    done = tokenry("encode", tmp_path / "two.gif", "--json")
    assert "2 pictures" in json.loads(done.out)["warnings"][0] or "first" in json.loads(done.out)["warnings"][0]
    assert "UserWarning" not in done.err
    done = tokenry("encode", photo, "--show")
    assert done.status == 2
    assert "show: must be left out" in done.err


def test_a_picture_of_too_many_tokens_is_refused_at_once(tokenry, tmp_path):
    write_image(torch.zeros(3000, 2000, 3, dtype=torch.uint8), tmp_path / "large.png")
    done = tokenry("encode", tmp_path / "large.png")
    assert done.status == 2
    assert "patches gives 18,000,000 for a picture of 2000 x 3000 pixels" in " ".join(done.err.split())


def test_a_name_that_is_no_text_stands_on_the_page(tokenry, photo, tmp_path):
    import os

    strange = tmp_path / os.fsdecode(b"bad\xff.png")
    strange.write_bytes(photo.read_bytes())
    assert tokenry("encode", strange, "--tokenizer", "patches:size=4", "--html", tmp_path / "page.html").status == 0
    assert "bad" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_page_says_where_tokens_are_and_escapes_names():
    from tokenry import Patches
    from tokenry.apps.report.signal_page import signal_page
    from tokenry.data.image import Image

    picture = Image(torch.zeros(4, 9, 3, dtype=torch.uint8), '<b>"&')
    tokens = Patches(size=4).encode(picture)
    page = signal_page(picture, tokens, tokenizer="<i>", again=Image(picture.pixels + 9))
    assert "<b>" not in page
    assert "<i>" not in page
    assert 'x="8.00" y="3.00" width="1.00" height="1.00"' in page
    assert "ids 0, 0, 0; pixels 8 to 9, 3 to 4" in page
    assert len(set(re.findall(r"data:image/png;base64,\S+?\"", page))) == 2
    sound = Sound(torch.zeros(100).index_fill(0, torch.tensor([3]), 0.5), 50, "s")
    heard = AudioFrames(rate=1000, content="mu_law").encode(sound)
    page = signal_page(sound, heard, tokenizer="t", again=None)
    assert 'x="1188.00" y="0.00" width="12.00" height="200.00"' in page
    assert "; 1.980 to 2.000 s" in page
    assert re.search(r"ids (\d+, ){12}…;", page)
    assert "what the ids give back" not in page
