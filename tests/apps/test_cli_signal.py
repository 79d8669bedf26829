"""`tokenry encode` and `decode` with pictures and sounds."""

from __future__ import annotations

import io
import json

import PIL.Image
import pytest
import torch

from tokenry import AudioFrames
from tokenry.data.image import Image, read_image, write_image
from tokenry.data.sound import Sound, read_sound, write_sound
from tokenry.signal.pictures.tiles import thumbnail


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
    for wrong in (
        {"ids": "x"},
        {"spans": []},
        {"kind": "smell"},
        {"size": [9]},
        {"size": None},
        {"ids": [999] * len(good["ids"])},
    ):
        said(monkeypatch, json.dumps(good | wrong))
        assert tokenry("decode", "-", "--out", tmp_path / "out.png").status == 2
    said(monkeypatch, json.dumps(good))
    assert "set --out" in tokenry("decode", "-").err
    assert not (tmp_path / "out.png").exists()


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


def test_a_picture_of_too_many_tokens_is_scaled_and_says_so(tokenry, tmp_path, monkeypatch):
    large = torch.arange(30 * 40 * 3).view(30, 40, 3).remainder(251).to(torch.uint8)
    write_image(large, tmp_path / "large.png")
    monkeypatch.setattr("tokenry.apps.cli.signals.MOST_TOKENS", 1000)
    done = tokenry("encode", tmp_path / "large.png", "--json")
    found = json.loads(done.out)
    assert (found["size"], found["scaled_from"]) == ([15, 20], [30, 40])
    assert len(found["ids"]) == 15 * 20 * 3
    (warning,) = found["warnings"]
    assert "large.png: scaled from 40 x 30 to 20 x 15 pixels, since patches gives 3,600 tokens" in warning
    said(monkeypatch, done.out)
    assert tokenry("decode", "-", "--out", tmp_path / "back.png").status == 0
    assert torch.equal(read_image(tmp_path / "back.png").pixels, thumbnail(Image(large), 20).image.pixels)
    plain = tokenry("encode", tmp_path / "large.png", "--html", tmp_path / "page.html")
    assert "scaled from 40 x 30 to 20 x 15" in " ".join(plain.err.split())
    assert "scaled from 40 x 30 to 20 x 15" in (tmp_path / "page.html").read_text()
    write_image(large[:10, :33], tmp_path / "small.png")
    found = json.loads(tokenry("encode", tmp_path / "small.png", "--json").out)
    assert (found["size"], found["scaled_from"], found["warnings"]) == ([10, 33], None, [])


def test_a_photograph_is_taken_at_the_defaults(tokenry, tmp_path):
    write_image(torch.zeros(1800, 2400, 3, dtype=torch.uint8), tmp_path / "large.jpg")
    done = tokenry("encode", tmp_path / "large.jpg")
    assert done.status == 0
    assert "1498176 tokens of patches for a picture of 816 x 612 pixels" in " ".join(done.err.split())


def test_a_sound_of_too_many_tokens_is_refused(tokenry, speech, monkeypatch):
    monkeypatch.setattr("tokenry.apps.cli.signals.MOST_TOKENS", 5999)
    done = tokenry("encode", speech)
    assert done.status == 2
    assert "must have at most 5,999 tokens; audio_frames:content=mu_law gives 6,000 for a sound of 0.38 s" in " ".join(
        done.err.split()
    )


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_a_sound_of_one_frame_is_as_long_as_it_was(tokenry, tmp_path, monkeypatch, rate):
    content = "mel_codes[bands=16,quantizer=vq[codes=16],iterations=2]"
    AudioFrames(rate=8000, content=content).fit([Sound(torch.randn(8000) / 9, 8000)]).save(tmp_path / "mine")
    write_sound(Sound(torch.ones(rate // 100) / 3, rate), tmp_path / "short.wav")
    done = tokenry("encode", tmp_path / "short.wav", "--tokenizer", tmp_path / "mine", "--json")
    assert json.loads(done.out)["size"] == [rate // 100, rate]
    said(monkeypatch, done.out)
    assert tokenry("decode", "-", "--out", tmp_path / "back.wav").status == 0
    assert len(read_sound(tmp_path / "back.wav").samples) == 80
