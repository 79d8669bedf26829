"""The page of `tokenry encode --html`: every place of a picture or a sound, and the signal still seen through them."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
import torch

from tests.browser import find
from tokenry import AudioFrames, Patches
from tokenry.data import clip
from tokenry.data.image import Image, read_image
from tokenry.data.sound import Sound, write_sound
from tokenry.report.signal_page import signal_page


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


def looked_at(page, tmp_path, *, dark=False, boxes=True):
    """What a browser draws of a page."""
    text = page.read_text().replace(*("(prefers-color-scheme: dark)", "all") if dark else ("", ""))
    (tmp_path / "shown.html").write_text(text if boxes else text.replace(" checked>", ">"))
    browser = [find(), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,1200", "--hide-scrollbars"]
    command = [*browser, f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'shown.png'}"]
    subprocess.run([*command, str(tmp_path / "shown.html")], check=True, capture_output=True, timeout=60)
    return read_image(tmp_path / "shown.png").pixels


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_a_wave_is_seen_through_however_many_boxes(tokenry, tmp_path, dark):
    write_sound(clip("amiable"), tmp_path / "speech.wav")
    tokenry("encode", tmp_path / "speech.wav", "--html", tmp_path / "page.html")
    ink = torch.tensor(238 if dark else 28)
    plain, seen = (
        (looked_at(tmp_path / "page.html", tmp_path, dark=dark, boxes=boxes).int() - ink).abs().amax(2) < 60
        for boxes in (False, True)
    )
    assert plain.sum() > 10_000
    assert (plain & seen).sum() > 0.9 * plain.sum()


@pytest.mark.browser
def test_boxes_over_a_picture_can_be_hidden(tokenry, photo, tmp_path):
    tokenry("encode", photo, "--html", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert '<input type="checkbox" id="boxes" accesskey="b" checked>' in page
    page = page[: page.index("<figcaption>what was encoded")] + "</figure></main></html>"
    (tmp_path / "page.html").write_text(page)
    shown, hidden = (looked_at(tmp_path / "page.html", tmp_path, boxes=boxes).view(-1, 3) for boxes in (True, False))
    # Another picture is what the ids give back, which is left out here.
    colours = {tuple(colour) for colour in read_image(photo).pixels.view(-1, 3).tolist()}
    assert colours <= {tuple(colour) for colour in hidden.unique(dim=0).tolist()}
    assert len(colours & {tuple(colour) for colour in shown.unique(dim=0).tolist()}) < len(colours) / 2


@pytest.mark.parametrize(("tokens", "edged"), [(400, False), (100, True)])
def test_only_boxes_that_are_large_enough_have_borders(tokens, edged):
    sound = Sound(torch.zeros(tokens), 1000)
    page = signal_page(
        sound, AudioFrames(rate=1000, content="mu_law").encode(sound), tokenizer="t", again=None, notes=["so & so"]
    )
    assert page.count("<rect") == tokens
    assert ('class="edged"' in page) == edged
    assert page.rindex("<rect") < page.index("<line"), "the wave is drawn over the boxes"
    assert "<p>so &amp; so</p>" in page
    shown = Image(torch.zeros(tokens // 10, tokens // 4, 3, dtype=torch.uint8))
    page = signal_page(shown, Patches(size=2).encode(shown), tokenizer="t", again=None)
    assert ('class="edged"' in page) == edged


@pytest.mark.parametrize(
    ("largest", "side", "drawn"), [(9 * 14, 1, 9 * 14), (100, 2, 5 * 7), (34, 4, 3 * 4), (1, 16, 1)]
)
def test_a_page_draws_the_whole_picture_however_many_places_it_has(
    tokenry, photo, tmp_path, monkeypatch, largest, side, drawn
):
    monkeypatch.setattr("tokenry.report.signal_page.LARGEST_PAGE", largest)
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
    monkeypatch.setattr("tokenry.report.signal_page.LARGEST_PAGE", 100)
    assert tokenry("encode", speech, "--html", tmp_path / "page.html").status == 0
    page = (tmp_path / "page.html").read_text()
    boxes = re.findall(r'<rect x="([\d.]+)" y="0.00" width="([\d.]+)"', page)
    assert len(boxes) == 94
    assert float(boxes[0][0]) == 0
    assert float(boxes[-1][0]) + float(boxes[-1][1]) == pytest.approx(1200, abs=0.1)
    assert "94 boxes are drawn: one stands for all places in 32 samples" in page


def test_a_name_that_is_no_text_stands_on_the_page(tokenry, photo, tmp_path):
    strange = tmp_path / os.fsdecode(b"bad\xff.png")
    strange.write_bytes(photo.read_bytes())
    assert tokenry("encode", strange, "--tokenizer", "patches:size=4", "--html", tmp_path / "page.html").status == 0
    assert "bad" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_page_says_where_tokens_are_and_escapes_names():
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
