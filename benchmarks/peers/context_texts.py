"""Seeded texts of eight kinds as agents send them to models: a question, a call of a tool, what it gave, and needles.

Where this machine has real texts, these are taken: the sources of Python, the documentation of this project, and the
sample documents with their questions. The others are generated.
"""

from __future__ import annotations

import ast
import json
import random
import re
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import context_languages, context_logs
from benchmarks.record import ROOT
from tokenry import data

SYSTEM = "You are a careful engineer. Answer from what the tools return."
PEOPLE = ("Dana Whitfield", "Ivo Marchetti", "Lena Okafor", "Tomas Lindqvist", "Priya Raman", "Marek Dvorak",
          "Aiko Tanabe", "Samuel Osei", "Nora Haddad", "Felix Brandt")  # fmt: skip
CITIES = ("Porto", "Gdansk", "Leuven", "Tartu", "Bergen", "Trieste", "Cork", "Graz", "Malmo", "Izmir")
DEVICES = ("gateway", "sensor", "turbine", "scanner", "printer", "compressor", "router", "pump", "camera", "freezer")
FAULTS = ("overheats after a restart", "drops every third packet", "reports a negative pressure", "loses its clock",
          "hangs during the upgrade", "refuses the new certificate", "leaks coolant", "doubles each entry")  # fmt: skip
STATES = ("open", "closed", "waiting", "refunded", "shipped")
_WORD = re.compile(r"[^\W\d_]{5,}")


@dataclass(frozen=True, slots=True)
class Part:
    """What a tool gave.

    Args:
        text: all of it.
        form: by which it is parsed again: `json`, `lines` of JSON, `python`, `csv`, `markdown`, or nothing.
        ask: what somebody wants to know, and `needles` what an answer needs, byte for byte.
        path: what the tool was called with.
    """

    text: str
    form: str
    ask: str
    needles: tuple[str, ...]
    path: str


@dataclass(frozen=True, slots=True)
class Context:
    """A conversation whose last message a model would answer next.

    Args:
        kind: one of the eight, and `name` which text of it.
        messages: as OpenAI's chat has them.
        forms: of the results of tools, by the id of the call.
        needles: of all of them.
    """

    kind: str
    name: str
    messages: list[dict[str, Any]]
    forms: Mapping[str, str]
    needles: tuple[str, ...]


def contexts(seed: int) -> Iterator[Context]:
    """All texts that one seed makes."""
    for kind, (make, count) in KINDS.items():
        for i in range(count):
            part = make(random.Random(f"{seed} {kind} {i}"), i)
            yield conversation(kind, str(i), part.ask, [part])
    for i in range(5):
        yield transcript(seed, i)


def conversation(kind: str, name: str, ask: str, parts: list[Part]) -> Context:
    """A question, and tools called one after the other."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": ask}]
    for i, part in enumerate(parts):
        call = {"name": "fetch_resource", "arguments": json.dumps({"source": part.path})}
        calls = [{"id": f"call_{i}", "type": "function", "function": call}]
        messages.append({"role": "assistant", "content": "I look at it.", "tool_calls": calls})
        messages.append({"role": "tool", "tool_call_id": f"call_{i}", "content": part.text})
    forms = {f"call_{i}": part.form for i, part in enumerate(parts)}
    return Context(kind, name, messages, forms, tuple(n for part in parts for n in part.needles))


def transcript(seed: int, i: int) -> Context:
    """An agent that reads twelve things, three of which answer what it was asked."""
    rng = random.Random(f"{seed} transcript {i}")
    wanted = [KINDS[kind][0](rng, i) for kind in ("log", "json", "code")]
    other = ["csv", "markdown", "json", "code", "log", "csv", "json", "markdown", "log"]
    parts = wanted + [Part(p.text, p.form, "", (), p.path) for p in (KINDS[k][0](rng, i + 1) for k in other)]
    rng.shuffle(parts)
    return conversation("transcript", str(i), " ".join(part.ask for part in wanted), parts)


def _json(rng: random.Random, i: int) -> Part:
    records, words = [], _words(rng)
    for n in range(rng.randrange(50, 90)):
        device, fault, city = rng.choice(DEVICES), rng.choice(FAULTS), rng.choice(CITIES)
        records.append(
            {
                "id": f"TCK-{rng.randrange(10**5):05}", "title": f"{device} in {city} {fault}",
                "reporter": rng.choice(PEOPLE), "score": round(rng.random(), 4), "state": rng.choice(STATES),
                "labels": rng.sample(DEVICES, 2), "snippet": " ".join(rng.choices(words, k=25)), "page": n,
            }
        )  # fmt: skip
    # Values, not keys: some write JSON without spaces, which loses nothing.
    code = f"{rng.choice('BCDFGHK')}{rng.randrange(100, 999)}"
    hit = rng.choice(records)
    hit["snippet"] = f"The {code} module was replaced after the {hit['title']}, which cost {rng.randrange(9999)} euros."
    ask = f"What did the replacement of the {code} module cost, and what is the id of that ticket?"
    envelope: Any = (
        {"query": "module", "total": len(records), "results": records},
        records,
        {"took": 12, "hits": {"total": {"value": len(records)}, "hits": [{"_source": r} for r in records]}},
        {"data": {"search": {"edges": [{"node": r} for r in records], "cursor": "b3BhcXVl"}}},
    )[i % 4]
    if i == 4:
        text, form = "\n".join(map(json.dumps, records)) + "\n", "lines"
    else:
        text, form = json.dumps(envelope, indent=2 if i % 2 else None), "json"
    return Part(text, form, ask, (hit["id"], hit["snippet"]), "search?q=module")


def _csv(rng: random.Random, i: int) -> Part:
    separator = ",;\t,,"[i % 5]
    rows = []
    for n in range(rng.randrange(150, 300)):
        note = f"{rng.choice(DEVICES)}, {rng.choice(FAULTS)}" if i % 2 else rng.choice(FAULTS)
        note = f'"{note}"' if separator in note else note
        rows.append((f"R{10000 + 7 * n}", rng.choice(PEOPLE), rng.choice(CITIES), rng.choice(STATES),
                     f"{rng.random() * 900:.2f}", note))  # fmt: skip
    hit = rng.choice(rows)
    ask = (
        f"Which state is order {hit[0]} in, and what is its amount?",
        f"Has {hit[1]} an order {hit[0]}, and over what amount?",
    )[i % 2]
    head = ("order", "customer", "city", "state", "amount", "note")
    text = "\n".join(separator.join(row) for row in (head, *rows)) + "\n"
    return Part(text, "csv", ask, (separator.join(hit),), "orders.csv")


def _code(rng: random.Random, i: int) -> Part:
    """A module of Python's own, and a function of it."""
    files = [f for f in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")) if 12_000 < f.stat().st_size < 60_000]
    while True:
        file = rng.choice(files)
        text = file.read_text(encoding="utf-8", errors="replace")
        found = [f for f in _functions(ast.parse(text)) if not f[0].startswith("_")]
        if not found:
            continue
        name, node = rng.choice(found)
        body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
        needle = "\n".join(text.split("\n")[body[0].lineno - 1 : node.end_lineno])
        if 3 <= needle.count("\n") <= 14 and text.count(needle) == 1:
            return Part(text, "python", f"What does {name} do step by step, and what does it return?", (needle,),
                        file.name)  # fmt: skip


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{n.name}", n) for n in node.body if isinstance(n, ast.FunctionDef))


def _markdown(rng: random.Random, i: int) -> Part:
    """Pages of this project's documentation, and a sentence of them."""
    pages = [
        p for folder in ("concepts", "how-to", "tutorials", "adr") for p in sorted(ROOT.glob(f"docs/{folder}/*.md"))
    ]
    text = "\n\n".join(p.read_text(encoding="utf-8").strip() for p in rng.sample(pages, 4)) + "\n"
    prose = [s for block in text.split("\n\n") if block[:1].isalpha() for s in re.split(r"(?<=[.!?])\s+", block)]
    needle = rng.choice([s for s in prose if len(_WORD.findall(s)) > 7 and text.count(s) == 1])
    return Part(text, "markdown", f"What is said about {_asked(rng, needle)}?", (needle,), "docs.md")


def _asked(rng: random.Random, sentence: str) -> str:
    """Words of a sentence, whichever they are, in their order."""
    words = _WORD.findall(sentence)
    return " ".join(words[k] for k in sorted(rng.sample(range(len(words)), 5)))


def _prose(rng: random.Random, i: int) -> Part:
    question = data.questions()[i]
    needle = question.evidence
    return Part(data.read(question.document), "", question.ask, (needle,), question.document)


def _log(rng: random.Random, i: int) -> Part:
    return Part(*context_logs.log(rng, i))


def _mixed(rng: random.Random, i: int) -> Part:
    return Part(*context_languages.mixed(rng, i))


def _words(rng: random.Random) -> list[str]:
    return _WORD.findall(data.read(rng.choice(list(data.documents())))[:20_000])


KINDS: Mapping[str, tuple[Callable[[random.Random, int], Part], int]] = {
    "json": (_json, 6), "log": (_log, 6), "code": (_code, 8), "csv": (_csv, 6), "markdown": (_markdown, 6),
    "prose": (_prose, 30), "mixed": (_mixed, 6),
}  # fmt: skip
"""What makes a text of each kind, and how many there are; of transcripts, which are made of these, there are five."""
