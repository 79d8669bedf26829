"""A comparison as a page and as a picture: every number can be read, on any screen, and nothing is cut off."""

from __future__ import annotations

import html
import re

import pytest

from tests.apps.traces import Elements
from tokenry.apps.cli.show import print_leaderboard
from tokenry.pipeline.compare import Arm
from tokenry.pipeline.receipt import Receipt, Seconds
from tokenry.report.compare.costs import front
from tokenry.report.compare.page import compare_page
from tokenry.report.compare.picture import picture

LONG = "compress/contrastive_relevance:budget=0.25,units=sentence | attend/token_select:budget=256:sink=12:recent=48"
HOSTILE = "</svg><script>alert(1)</script> <b>\u202e & \ud800"


def an_arm(
    name: str, kl: float | None, read: float, seconds: float, control: bool = False, answer: str = "Yes."
) -> Arm:
    receipt = Receipt(
        steps=(), prompt_tokens=5209, new_tokens=3, read_per_step=(read, read), flops=1e12, kv_bytes=120_000_000,
        seconds=Seconds(load=1.0, prefill=seconds, decode=seconds / 4, first_token=seconds), tokens_per_second=3.0,
        bytes_read=int(read * 24_000), peak_bytes=943_000_000,
    )  # fmt: skip
    return Arm(name=name, control=control, answer=answer, receipt=receipt, kl=kl, top1=None if kl is None else 0.77)


ARMS = [
    an_arm("dense", None, 5216, 36.58),
    an_arm(LONG, 0.251, 1860, 6.34),
    an_arm(LONG.replace("contrastive_relevance", "random"), 0.323, 1860.4, 6.65, control=True, answer=""),
    an_arm("attend/snapkv:budget=512", 0.0004, 12_345, 3700, answer=HOSTILE),
    an_arm("attend/random:budget=512", 12.5, 12_345, 0.02, control=True),
]


def test_the_front_is_what_nothing_beats():
    points = [(5.0, 0.0), (1.0, 0.9), (2.0, 0.3), (3.0, 0.4), (2.0, 0.2), (5.0, 0.1)]
    assert front(points) == [1, 4, 0]


def test_numbers_are_those_of_people():
    seen = Elements(compare_page(ARMS))
    for shown in ("1,860", "12,345", "45.7 s", "125 MB", "0.251", "77 %", "KL to dense"):
        assert shown in seen.text, shown
    assert not re.search(r"\de[+-]?\d", seen.text)
    for arm in ARMS:
        assert arm.name in seen.text


def test_every_arm_is_in_every_chart_and_inside_it():
    page = compare_page(ARMS)
    places = re.findall(r'<circle cx="([\d.]+)%" cy="([\d.]+)%"', page)
    assert len(places) == 3 * len(ARMS)
    assert all(0 <= float(share) <= 100 for place in places for share in place)


def test_the_page_loads_nothing_and_text_stays_text():
    page = compare_page(ARMS)
    seen = Elements(page)
    assert not [tag for tag, _ in seen.tags if tag in ("script", "b", "img", "iframe")]
    assert "<script>alert(1)</script>" in seen.text
    assert not re.search(r"https?:|url\(|@import", page)
    assert page.encode("utf-8")


def test_a_comparison_of_nothing_but_zeros_is_drawn():
    assert "<svg" in compare_page([an_arm("dense", None, 0, 0.0), an_arm("window", 0.0, 0, 0.0)])


def test_the_legend_of_a_picture_is_whole():
    figure = picture(ARMS)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    inside, around = legend.get_window_extent(), figure.bbox
    assert around.x0 <= inside.x0 < inside.x1 <= around.x1
    assert around.y0 <= inside.y0 < inside.y1 <= around.y1
    assert len(legend.get_texts()) == len(ARMS)


FRAME = """<!doctype html><iframe id="f" style="width:{width}px;height:900px;border:0" srcdoc="{page}"></iframe><script>
const frame = document.getElementById("f");
frame.onload = () => {{
  const inside = frame.contentDocument.documentElement;
  document.documentElement.dataset.wide = inside.scrollWidth;
}};
</script>"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 400, 800, 1200])
def test_the_page_fits_any_screen(width, chromium, tmp_path):
    file = tmp_path / "frame.html"
    file.write_text(FRAME.format(width=width, page=html.escape(compare_page(ARMS))), encoding="utf-8")
    wide = re.search(r'data-wide="(\d+)"', chromium(file, "", "--dump-dom", "--window-size=1400,1000"))
    assert wide
    assert int(wide[1]) <= width


def test_compare_draws_a_page_and_a_picture(tokenry, small, document, tmp_path, arms_here):
    for name in ("loss.html", "loss.png"):
        done = tokenry(
            "compare",
            "snapkv:budget=40",
            "--text",
            document,
            "--model",
            small,
            "--max-new",
            3,
            "--plot",
            tmp_path / name,
        )
        assert done.status == 0, done.err
    page = (tmp_path / "loss.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "attend/random" in page
    assert (tmp_path / "loss.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    done = tokenry("compare", "snapkv", "--text", document, "--model", small, "--plot", tmp_path / "loss.bmp")
    assert done.status == 2
    assert "plot: must end in .html, .png, .svg" in done.err


def test_a_leaderboard_begins_with_what_is_nearest_to_dense(capsys):
    print_leaderboard(ARMS[::-1])
    lines = capsys.readouterr().out.splitlines()
    found = [
        next(i for i, line in enumerate(lines) if shown in line) for shown in ("dense ", "0.000", "0.251", "0.323")
    ]
    assert found == sorted(found)
    assert found[-1] < next(i for i, line in enumerate(lines) if "12.500" in line)
