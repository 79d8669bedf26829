"""The studio in a browser: the main ways through, at two widths and in two themes, with keys alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.apps.studios import drawn, looking, opened, page_of, panes, served
from tests.apps.test_report_browser import pixels
from tests.compress.test_shorten import TEXTS
from tests.pipeline.test_messages import call, result
from tokenry.data import read

pytestmark = pytest.mark.browser
SPEECH = read("sotu_1975")[:6000]
PASTE = """text => {
  const clipboardData = new DataTransfer(), words = document.getElementById("words");
  clipboardData.setData("text", text);
  words.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
}"""
SIZES = {"wide": (1280, 900), "narrow": (400, 800)}


@pytest.fixture(scope="module")
def address(small):
    with served(str(small)) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("playwright")
    from tests.browser import find

    if find() is None:
        pytest.skip("needs chromium")
    with looking(viewport={"width": 1280, "height": 900}) as page:
        yield page


@pytest.fixture
def studio(browser, address):
    """A fresh page of the studio, of which nothing may complain."""
    browser.faults.clear()
    browser.goto("about:blank")
    opened(browser, address)
    browser.evaluate("sessionStorage.clear()")
    opened(browser, address)
    yield browser
    assert browser.faults == []


def type_text(page, text=SPEECH):
    drawn(page, lambda: page.fill("#words", text))


def choose(page, what, value, arm=0):
    page.select_option(f'[data-arm="{arm}"][data-what={what}]', value)


def test_a_text_is_coloured_as_it_is_typed(studio):
    type_text(studio)
    count = int(re.search(r"([\d,]+) tokens", studio.inner_text(".summary"))[1].replace(",", ""))
    assert 1000 < count < 2000
    shown = studio.evaluate("[...document.querySelectorAll('.text .t')].map(node => node.className)")
    assert {name for name in shown} == {f"t b{turn}" for turn in range(5)}
    assert "tokenry encode" in studio.inner_text("#command")


def test_a_method_is_chosen_set_and_run(studio):
    type_text(studio)
    studio.fill("#ask", "What of the tax rate?")
    choose(studio, "more", "compress/lexical_relevance")
    studio.get_by_label("budget").fill("0.25")
    drawn(studio, lambda: studio.click("#run"))
    assert "25 %" in studio.inner_text("#beside")
    assert studio.locator(".text .d").count() > 0
    assert "lexical_relevance:budget=0.25" in studio.inner_text("#command")
    studio.get_by_role("radio", name="Hide").check()
    assert studio.locator(".text .row").count() > 0
    studio.get_by_role("radio", name=re.compile("Original")).check()
    assert studio.locator(".text .d").count() == 0


def test_an_answer_comes_and_reads_are_shown(studio, small):
    type_text(studio, SPEECH[:1500])
    studio.fill("#ask", "What of the tax rate?")
    choose(studio, "more", "attend/token_select")
    studio.get_by_label("budget").fill("64")
    studio.locator("[data-what=answer]").check()
    studio.get_by_label("Most new tokens").fill("6")
    drawn(studio, lambda: studio.click("#run"))
    assert studio.locator("#answers .t").count() >= 1
    studio.get_by_role("radio", name="Reads").check()
    studio.focus(".text")
    for _ in range(3):
        studio.keyboard.press("ArrowRight")
    assert "Read, mean" in studio.inner_text(".card")
    studio.wait_for_selector(".near li")
    assert studio.locator("#costs tr").count() > 10
    assert "--model" in studio.inner_text("#command")


def test_what_is_lost_and_what_was_noticed_is_said(studio, tmp_path):
    type_text(studio, SPEECH[:600])
    studio.fill("#ask", "What of the tax rate?")
    choose(studio, "more", "attend/window")
    studio.get_by_label("budget").fill("4096")
    studio.locator("[data-what=answer]").check()
    studio.get_by_label("Most new tokens").fill("3")
    studio.get_by_label("Say what is lost beside the model alone").check()
    drawn(studio, lambda: studio.click("#run"))
    assert "Lost, KL" in studio.inner_text("#beside thead")
    assert re.search(r"Lost beside the model alone, KL\s+0\.000 nats", studio.inner_text("#costs"))
    assert "The model alone" in studio.inner_text("#answers")
    assert "--compare dense" in studio.inner_text("#command")
    with studio.expect_download() as saving:
        studio.click("#save")
    saved = json.loads(Path(saving.value.path()).read_text(encoding="utf-8"))
    saved["results"][0]["notes"] = ["window: it had nothing to act on."]
    (tmp_path / "studio.json").write_text(json.dumps(saved), encoding="utf-8")
    studio.set_input_files("#open", tmp_path / "studio.json")
    studio.wait_for_selector(".notes")
    assert studio.inner_text(".notes").strip() == saved["results"][0]["notes"][0]
    assert studio.get_by_label("Say what is lost beside the model alone").is_checked()


def test_an_empty_page_asks_for_an_input_and_slow_work_says_what_it_does(studio):
    assert "as soon as there is something to read" in studio.inner_text("#beside")
    held = []
    studio.route("**/api/run", lambda route: held.append(route))
    studio.fill("#words", "A text.")
    studio.wait_for_selector("#progress:visible")
    assert "under way" in studio.inner_text("#beside")
    assert studio.is_visible("#stop")
    held[0].continue_()
    studio.wait_for_selector("#progress", state="hidden")
    assert studio.locator(".text .t").count() > 0
    studio.unroute("**/api/run")


def test_a_pipeline_of_the_start_is_the_first_way(small, browser):
    methods = ["compress/lexical_relevance:budget=0.25,units=chunks[tokens=8,seed=1]", "attend/window:budget=0.5"]
    with served(str(small), methods=methods) as address:
        page = opened(page_of(browser.context.browser), address)
        assert page.locator(".method b").all_inner_texts() == ["compress/lexical_relevance", "attend/window"]
        assert [field.input_value() for field in page.get_by_label("budget").all()] == ["0.25", "0.5"]
        assert page.locator("[data-what=answer]").is_checked()
        page.fill("#words", SPEECH[:300])
        page.reload()
        page.wait_for_selector("html[data-ready]")
        assert page.locator(".method b").count() == 2
        assert page.faults == []


def test_long_work_is_stopped(studio):
    type_text(studio, SPEECH[:1500])
    studio.locator("[data-what=answer]").check()
    studio.get_by_label("Most new tokens").fill("1500")
    studio.click("#run")
    studio.wait_for_selector("#answers .t")
    assert studio.is_visible("#progress")
    studio.click("#stop")
    studio.wait_for_selector("#progress", state="hidden")
    assert "Stopped" in studio.inner_text("#told")
    assert studio.input_value("#words") == SPEECH[:1500]
    studio.get_by_label("Most new tokens").fill("2")
    drawn(studio, lambda: studio.click("#run"))


def test_tokenizers_stand_side_by_side(studio):
    type_text(studio)
    studio.click("#add")
    panes(studio, 2)
    studio.fill("#price", "2.5")
    rows = studio.locator("#beside tbody tr")
    assert rows.count() == 2
    assert "Cost" in studio.inner_text("#beside")
    studio.get_by_label("Remove way 2").click()
    panes(studio, 1)


def test_a_link_and_a_file_open_again(studio, address, tmp_path):
    type_text(studio, "A text that a link can hold, 日本.")
    choose(studio, "more", "compress/random")
    drawn(studio, lambda: studio.click("#run"))
    studio.context.grant_permissions(["clipboard-read", "clipboard-write"])
    studio.click("#link")
    studio.wait_for_function("() => location.hash.startsWith('#s=')")
    link = studio.evaluate("navigator.clipboard.readText()")
    with studio.expect_download() as saving:
        studio.click("#save")
    file = tmp_path / "studio.json"
    saving.value.save_as(file)
    saved = json.loads(file.read_text(encoding="utf-8"))
    assert saved["results"][0]["trace"]["steps"]
    for reopen in (lambda: studio.goto(link), lambda: studio.set_input_files("#open", file)):
        studio.goto("about:blank")
        opened(studio, address)
        studio.evaluate("sessionStorage.clear()")
        opened(studio, address)
        reopen()
        studio.wait_for_selector("text=compress/random")
        assert studio.input_value("#words") == "A text that a link can hold, 日本."
    assert studio.locator(".text .d").count() > 0, "what was found came with the file"


def test_a_key_leaves_the_address_and_stays_out_of_links(small, browser):
    with served(str(small), hosts=(), key="sesame-1") as address:
        page = page_of(browser.context.browser)
        opened(page, f"{address}#key=sesame-1")
        assert "sesame" not in page.url
        type_text(page, "A text.")
        page.click("#link")
        page.wait_for_function("() => location.hash.startsWith('#s=')")
        assert "sesame" not in page.url + page.evaluate(
            "JSON.stringify(history.state) + sessionStorage['tokenry-draft']"
        )
        assert page.faults == []


def test_what_is_saved_is_a_page_that_needs_nothing_else(studio, tmp_path, chromium):
    type_text(studio)
    with studio.expect_download() as saving:
        studio.click("#export-page")
    saving.value.save_as(tmp_path / "trace.html")
    dom = chromium(tmp_path / "trace.html", "", "--dump-dom", "--enable-logging=stderr")
    assert 'data-ready="1"' in dom
    assert "data-error" not in dom


def test_messages_are_known_and_shortened(studio):
    messages = [
        {"role": "user", "content": "Which is last?"},
        call("chat", "c", "look", {}),
        result("chat", "c", TEXTS["json"] * 3),
    ]
    studio.evaluate(PASTE, json.dumps(messages))
    assert studio.get_by_role("radio", name="Messages").is_checked()
    studio.fill("#words", json.dumps(messages))
    drawn(studio, lambda: studio.click("#run"))
    assert "look" in studio.inner_text("#changes")
    assert studio.locator(".text .row").count() > 0


@pytest.mark.parametrize(
    "text", ["[1, 2]", "[]", '[{"role": "user", "content": "\\ud800"}]', "[" * 900 + "]" * 900, "{}"]
)
def test_messages_that_are_none_are_refused_in_a_sentence(studio, text):
    studio.get_by_role("radio", name="Messages").check(force=True)
    studio.fill("#words", text)
    studio.click("#run")
    studio.wait_for_selector("#said:visible")
    assert studio.input_value("#words") == text


def test_a_picture_and_a_sound_are_dropped(studio, photo, speech):
    for file, tag in ((photo, "svg image"), (speech, "svg line")):
        studio.set_input_files("#file", file)
        drawn(studio, lambda: studio.click("#run"))
        assert studio.locator(tag).count() > 0
        studio.focus(".signal svg")
        studio.keyboard.press("ArrowRight")
        assert "id" in studio.inner_text(".signal .aside")


def test_bad_input_is_a_sentence_and_nothing_is_lost(studio, tmp_path):
    binary, damaged, trace, found = (tmp_path / name for name in ("a.bin", "a.json", "trace.json", "found.json"))
    trace.write_text(json.dumps({"schema": "tokenry.trace/0", "documents": 3}), encoding="utf-8")
    value = {"kind": "text", "trace": {"documents": [{"name": "a", "tokens": ["a"]}], "steps": [{}], "receipt": {}}}
    given = {"schema": "tokenry.studio/0", "text": "What was there.", "results": [value]}
    found.write_text(json.dumps(given), encoding="utf-8")
    binary.write_bytes(b"a\0b")
    damaged.write_text(json.dumps({"schema": "tokenry.studio/0", "kind": "film"}), encoding="utf-8")
    type_text(studio, "What was there.")
    for act, words in (
        (lambda: studio.set_input_files("#file", binary), "zero bytes"),
        (lambda: studio.set_input_files("#open", damaged), "damaged"),
        (lambda: studio.set_input_files("#open", trace), "damaged"),
        (lambda: studio.set_input_files("#open", found), "was left out"),
        (lambda: studio.evaluate("location.hash = '#s=%%%'"), "damaged"),
        (lambda: choose(studio, "more", "compress/lexical_relevance") or studio.click("#run"), "question"),
    ):
        act()
        studio.wait_for_function("words => document.getElementById('said').textContent.includes(words)", arg=words)
        assert studio.input_value("#words") == "What was there."
    studio.fill("#words", "")
    studio.click("#run")
    assert "nothing to read" in studio.inner_text("#said")


def test_a_page_that_is_loaded_again_keeps_what_was_entered(studio, address):
    type_text(studio, "Not lost.")
    studio.reload()
    studio.wait_for_selector("html[data-drawn]")
    assert studio.input_value("#words") == "Not lost."


def test_hostile_text_stays_text(studio):
    type_text(studio, "<img src=x onerror=alert(1)> </script>\u202e\x00 &amp; \t\n" + "x" * 5000)
    assert studio.locator(".text img").count() == 0
    widths = studio.evaluate("[...document.querySelectorAll('.row')].map(row => [row.scrollWidth, row.clientWidth])")
    assert all(wide <= room for wide, room in widths)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_looks_right_everywhere(studio, size, theme, tmp_path):
    from axe_playwright_python.sync_playwright import Axe

    studio.set_viewport_size(dict(zip(("width", "height"), SIZES[size], strict=True)))
    studio.emulate_media(color_scheme=theme)
    type_text(studio)
    studio.fill("#ask", "tax rate")
    choose(studio, "more", "compress/lexical_relevance")
    drawn(studio, lambda: studio.click("#run"))
    studio.click("#add")
    panes(studio, 2)
    assert studio.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    studio.screenshot(path=tmp_path / "page.png")
    assert pixels(tmp_path / "page.png")[2] > 50
    found = Axe().run(studio).response["violations"]
    assert not [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]
    studio.set_viewport_size(dict(zip(("width", "height"), SIZES["wide"], strict=True)))


def test_keys_alone_lead_through(studio):
    studio.focus("#words")
    drawn(studio, lambda: studio.keyboard.insert_text("Keys alone are enough. Rates fall."))
    drawn(studio, lambda: studio.keyboard.press("Control+Enter"))
    studio.focus(".text")
    studio.keyboard.press("ArrowRight")
    assert "Token" in studio.inner_text(".card")
    studio.keyboard.press("Escape")
    assert "Point at a token" in studio.inner_text(".card")


def test_only_lines_that_are_seen_are_drawn(studio):
    type_text(studio, " ".join(f"word{i % 977}" for i in range(30_000)))
    assert studio.locator(".text .row").count() < 150
    studio.focus(".text")
    studio.keyboard.press("End")
    studio.wait_for_function("() => document.querySelector('.text .row:last-child').textContent.includes('word689')")
    reached = studio.evaluate("document.querySelector('.text').scrollTop")
    studio.keyboard.press("ArrowUp")
    studio.wait_for_function("top => document.querySelector('.text').scrollTop < top", arg=reached)
    studio.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    tops = studio.evaluate("[...document.querySelectorAll('.text .row')].map(row => row.offsetTop)")
    assert tops == sorted(tops), "what is copied or read aloud has the order of the text"
    studio.click("#add")
    panes(studio, 2)
    assert studio.evaluate("document.querySelector('.text').scrollTop") >= 0.9 * reached, "what is read stays"
    studio.get_by_label("Remove way 2").click()
    panes(studio, 1)
    studio.get_by_placeholder("Find").fill("word976 word0")
    assert "of 30" in studio.inner_text(".find output")
    assert studio.locator(".text .mm").count() > 0


def test_no_stylesheet_or_script_comes_from_elsewhere():
    page = (Path(__file__).parents[2] / "src/tokenry/apps/studio/page/index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://", page)
