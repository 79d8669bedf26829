"""Units are scored by what they tell a reader: colours, escapes and accents hide nothing from a question."""

from __future__ import annotations

import json
import unicodedata
from html import escape

import numpy as np
import pytest

from tests.compress.test_shorten import Words
from tokenry.compress.lexical_relevance import LexicalRelevance
from tokenry.compress.parts.auto import kind_of
from tokenry.compress.parts.json import Json
from tokenry.compress.units.shown import uncoloured, uncoloured_at, unescaped
from tokenry.pipeline.messages.retrieve import _matching

SAID = {
    "russian": (
        "Кто отвечает за мосты?",
        "За ремонт моста отвечает Ирина Петрова.",
        ("Собрание пройдёт на следующей неделе.", "Продажи выросли по сравнению с прошлым годом."),
    ),
    "chinese": (
        "谁负责维修北京的发电机？",
        "北京的发电机由王小明负责维修。",
        ("上海的会议将在下周举行。", "今年的销售额比去年增长了百分之五。"),
    ),
    "thai": (
        "ใครเป็นผู้ดูแลเครื่องปั่นไฟที่เชียงใหม่",
        "เครื่องปั่นไฟที่เชียงใหม่ดูแลโดยคุณสมชาย",
        ("การประชุมจะจัดขึ้นในสัปดาห์หน้า", "ห้องสมุดเปิดถึงสามทุ่มในวันหยุด"),
    ),
    "turkish": (
        "Köprülerin onarımından kim sorumlu?",
        "Köprünün onarımı için Ayşe Hanım görevlendirildi.",
        ("Kütüphane hafta sonu açık olacak.", "Yeni el kitabı yayınlandı ve herkese gönderildi."),
    ),
    "german": (
        "Wer prüft die Häuser?",
        "Das Haus prüfte Frau Lindner im März.",
        ("Die Sitzung findet nächste Woche statt.", "Der Umsatz ist gestiegen."),
    ),
}


def _entities(text: str) -> str:
    return "".join(c if ord(c) < 128 else f"&#{ord(c)};" for c in escape(text))


FORMS = {
    "prose": lambda said: "".join(s + " " for s in said),
    "apart": lambda said: unicodedata.normalize("NFD", " ".join(said)),
    "capitals": lambda said: " ".join(said).upper(),
    "json": lambda said: json.dumps([{"id": i, "text": s} for i, s in enumerate(said)]),
    "records": lambda said: "".join(json.dumps({"text": s}) + "\n" for s in said),
    "nested": lambda said: json.dumps([{"body": json.dumps({"text": s})} for s in said]),
    "html": lambda said: "<html><body>" + "".join(f"<p>{_entities(s)}</p>\n" for s in said) + "</body></html>",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("language", SAID)
def test_a_question_finds_its_sentence_however_it_is_written(language, form):
    ask, answer, others = SAID[language]
    text = FORMS[form]([*others * 20, answer, *others * 20])
    written = {
        "apart": unicodedata.normalize("NFD", answer),
        "capitals": answer.upper(),
        "json": json.dumps(answer),
        "records": json.dumps(answer),
        "nested": json.dumps(json.dumps(answer))[1:-1],
        "html": _entities(answer),
    }
    found = LexicalRelevance(budget=0.1, units="auto").shorten(text, "o200k_base", ask)
    assert written.get(form, answer) in found.text


def test_words_behind_an_escaped_end_of_line_are_words():
    texts = [f"first\nsecond\ttrial{i}" for i in range(60)]
    found = LexicalRelevance(budget=0.2, units="auto").shorten(json.dumps([{"a": t} for t in texts]), Words(), "second")
    assert not found.notes
    assert unescaped(['"a\\n\\"b\\" \\\\u00e9 \\ud83d\\ude00 \\ud800"']) == ['"a\n"b" é 😀 \ufffd"']


def test_colours_of_a_terminal_hide_no_error():
    said = [f"2026-11-30 10:00:{i % 60:02d} INFO worker {i} did step {i * 7}" for i in range(80)]
    said[40] = "2026-11-30 10:00:40 ERROR no space on sda7"
    coloured = "".join(f"\x1b[2m{s[:19]}\x1b[0m \x1b[1;31m{s[20:25]}\x1b[0m\x1b[38;5;9m{s[25:]}\x1b[0m\n" for s in said)
    assert kind_of(coloured).name() == "log"
    found = LexicalRelevance(budget=0.25, units="auto").shorten(coloured, Words(), "anything else?")
    assert "no space on sda7" in found.text
    found = LexicalRelevance(budget=0.1, units="lines").shorten(coloured, Words(), "what does sda7 say?")
    assert "no space on sda7" in found.text
    assert not found.notes


def test_units_lie_where_they_did_without_colours():
    text = "\x1b[1mab\x1b[0m\n\x1b]8;;http://x\x07cd\x1b]8;;\x07\nef\x1b[K"
    where = np.array([(0, 11), (11, text.index("ef")), (text.index("ef"), len(text))])
    plain, at = uncoloured_at(text, where)
    assert plain == uncoloured(text) == "ab\ncd\nef"
    assert [plain[a:b] for a, b in at.tolist()] == ["ab\n", "cd\n", "ef"]


@pytest.mark.parametrize("records", [True, False])
def test_a_mark_in_front_of_json_hides_no_json(records):
    every = [{"a": f"n{i}"} for i in range(60)]
    text = "\ufeff" + ("".join(json.dumps(r) + "\r\n" for r in every) if records else json.dumps(every))
    assert kind_of(text).name() == "json"
    found = LexicalRelevance(budget=0.3, units="auto").shorten(text, Words(), "n17")
    assert found.text[0] == "\ufeff"
    assert '{"a": "n17"}' in found.text
    assert Json().valid(found.text)


def test_what_is_brought_back_is_found_by_what_it_tells():
    assert "\\u041c" in _matching(json.dumps([{"t": "Москва"}, *({"t": f"Омск {i}"} for i in range(9))]), "Москва")


def test_half_a_pair_is_no_character():
    """JSON may hold one, and no encoder of sentences takes it."""
    assert unescaped([r"a \ud800 b \udc00", r"\ud83d\ude00"]) == ["a \ufffd b \ufffd", "\U0001f600"]
