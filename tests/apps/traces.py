"""Traces as runs could have written them, and what a browser would see of their pages."""

from __future__ import annotations

import base64
import json
import math
import random
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np

from tokenry.data import questions, read

LAYERS = 30
QUESTION = next(q for q in questions() if q.id == "sotu-1975-04")


def words(text: str) -> list[str]:
    return re.findall(r" ?\w+| ?[^\w\s]+|\s+", text)


def a_receipt(steps: list[dict[str, Any]], prompt: int, scale: float, read: list[float]) -> dict[str, Any]:
    return {
        "steps": steps,
        "prompt_tokens": prompt,
        "read_per_step": read,
        "seconds": {"load": 2.314, "prefill": 0.871 * scale, "decode": 2.418 * scale**0.5, "first_token": 0.41 + scale},
        "tokens_per_second": 26.47 / scale**0.5,
        "flops": 1.374e12 * scale,
        "kv_bytes": round(59_473_920 * scale),
        "bytes_read": round(1_218_314_240 * scale**1.6),
        "peak_bytes": round(612_368_384 * scale**0.3),
    }


def a_trace(text: str | None = None, *, layers: int = LAYERS, decoded: int = 64) -> dict[str, Any]:
    """A run as it could have been: sentences near the evidence matter, a quarter of the tokens stays."""
    chance = random.Random(7)
    tokens = words(read("sotu_1975") if text is None else text)
    n = len(tokens)
    ends = np.cumsum([len(token) for token in tokens])
    start = "".join(tokens).find(QUESTION.evidence)
    first = int(np.searchsorted(ends, start, "right")) if start >= 0 else 0
    last = min(n - 1, int(np.searchsorted(ends, start + len(QUESTION.evidence)))) if start >= 0 else min(9, n - 1)

    importance, mood = [], 0.2
    for i, token in enumerate(tokens):
        if token.strip() in ".\n":
            mood = min(0.75, max(0.02, chance.gauss(0.2, 0.16)))
        inside = first <= i <= last
        importance.append(min(1.0, max(0.0, (0.85 if inside else mood) + chance.gauss(0, 0.1))))
    floor = sorted(importance)[int(n * 0.75)]
    kept = [int(score >= floor) for score in importance]
    counts = []
    for layer in range(layers):
        focus = 0.02 + 0.2 * math.exp(-(((layer - layers * 0.6) / (layers * 0.22)) ** 2))
        row = [
            0.0 if not k else min(1.0, max(0.0, chance.gauss(focus, focus) * (0.3 + s * 1.4)))
            for k, s in zip(kept, importance, strict=True)
        ]
        row[:3] = [1.0 if k else 0.0 for k in kept[:3]]
        counts.append([row])
    out = sum(kept)
    compress = {"method": "dense_relevance", "room": "compress", "tokens_in": n, "tokens_out": out, "seconds": 1.187}
    select = {"method": "token_select", "room": "attend", "tokens_in": out, "tokens_out": out, "seconds": 0.093}
    answer = "By 1943 the program had reached 125,000 aircraft annually."
    return {
        "schema": "tokenry.trace/0",
        "model": {"name": "smollm2", "context": 8192, "dtype": "bfloat16", "device": "cpu"},
        "ask": QUESTION.ask,
        "pipeline": ["compress/dense_relevance:budget=0.25", "attend/token_select:budget=256"],
        "documents": [{"name": "sotu_1975.txt", "tokens": tokens}],
        "steps": [{**compress, "kept": [kept], "importance": [importance]}, {**select, "importance": None}],
        "reads": {"layers": layers, "steps": decoded, "counts": counts},
        "answer": answer,
        "recovered": [
            {
                "answer": [answer.index("125"), answer.index(" annually")],
                "document": 0,
                "tokens": [first, last],
                "text": "".join(tokens[first : last + 1]),
            },
        ],
        "receipt": a_receipt(
            [compress, select], out + 41, 1.0, [256 + chance.uniform(-6, 18) + i / 6 for i in range(decoded)]
        ),
        "dense": {
            "answer": "In 1943, production reached 125,000 aircraft per year.",
            "receipt": a_receipt([], n + 41, 3.871, [float(n + 40 + i) for i in range(decoded)]),
            "kl": 0.1234,
            "top1": 0.9123,
        },
    }


HOSTILE = (
    '</script><script>document.documentElement.dataset.error="out"</script><!-- <script> --> &amp; &lt; ]]> '
    "<img src=x onerror=alert(1)> \u2028 \u2029 \x00 {{ 7*7 }} {% raw %} \"'` \\u003c/script> "
    "\U0001f9ea \ud800 e\u0301 \u202e"
)


def hostile_trace() -> dict[str, Any]:
    trace = a_trace(HOSTILE)
    trace["ask"] = trace["answer"] = HOSTILE
    trace["dense"]["answer"] = HOSTILE
    trace["model"]["name"] = trace["documents"][0]["name"] = trace["steps"][0]["method"] = HOSTILE
    trace["receipt"]["steps"][0] = {**trace["receipt"]["steps"][0], "method": HOSTILE}
    trace["pipeline"] = [HOSTILE, f"compress/{HOSTILE}:a={HOSTILE}"]
    trace["recovered"][0] |= {"text": HOSTILE, "answer": [0, 30]}
    return trace


def bare_trace() -> dict[str, Any]:
    """As little as is allowed: no method, no reads, no dense run, hardly a number."""
    trace = a_trace("one two three.")
    for key in ("dense", "reads", "recovered"):
        del trace[key]
    nothing = {"load": None, "prefill": None, "decode": None, "first_token": float("nan")}
    trace |= {"ask": "", "answer": "", "pipeline": [], "steps": []}
    trace["receipt"] = {**dict.fromkeys(trace["receipt"]), "steps": [], "read_per_step": [], "seconds": nothing}
    return trace


class Elements(HTMLParser):
    """What a browser would see: start tags with their attributes, and the text of script elements."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self._in = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._in = dict(attrs).get("id") or f"{tag}{len(self.scripts)}"
            self.scripts[self._in] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in:
            self.scripts[self._in] += data
        else:
            self.text += data


def data_of(page: str) -> dict[str, Any]:
    """The trace back out of its script element, with columns unpacked."""
    data = json.loads(Elements(page).scripts["trace"])
    lengths = [len(document["tokens"]) for document in data["documents"]]

    def raw(text: str) -> np.ndarray:
        return np.frombuffer(base64.b64decode(text), np.uint8)

    for step in data["steps"]:
        if step["kept"] is not None:
            columns = zip(step["kept"], lengths, strict=True)
            step["kept"] = [np.unpackbits(raw(c), bitorder="little")[:n].tolist() for c, n in columns]
        if step["importance"] is not None:
            step["importance"] = [raw(column) / 255 for column in step["importance"]]
    if data["reads"]:
        data["reads"]["counts"] = [[raw(column) / 255 for column in row] for row in data["reads"]["counts"]]
    return data
