"""Context compressors in front of an API beside ours: the same conversations, offline, each in its own environment.

Eight kinds of texts come back from tools; a question needs some of what they say, byte for byte. Once everybody may
keep a quarter, or what they keep by themselves; then ours gets, text by text, what each peer took.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, median
from typing import Any

import torch
from rich.progress import track

from benchmarks.peers.context_child import TOKENIZER
from benchmarks.peers.context_texts import Context, contexts, transcript
from benchmarks.peers.folder import PeerEnvironment
from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, percent, show
from tokenry.models.text.counting import Counter

TITLE = "Beside context compressors"
SUBJECTS = ("compress/lexical_relevance", "compress/fold")
ABOUT = (
    "What sits between an agent and a model behind an API: headroom-ai, litellm's `compress`, kompact and llmtrim, "
    "each in an environment of its own and offline, beside `tokenry.compress_messages`. A conversation asks something "
    "and a tool gives a text of one of eight kinds; a transcript has twelve such results, of which three answer. "
    "Texts are Python's own modules, this project's documentation and the sample documents with their questions; "
    "JSON, CSV, logs and reports in three languages are made from seeds. `left` are the tokens of the whole request "
    "that are left of those of the results, with all marks, manuals and tools that were added. Needles are what an "
    "answer needs, byte for byte. `valid` are results that parse again as what they were; another notation is not "
    "valid, though a model may read it. Milliseconds are of the processor. `as short as` gives ours, text by text, "
    "the share that the other took; `behind` are texts of which ours then kept fewer needles. The prefix is what of a "
    "request is sent again, unchanged, in the next one of the conversation. Headroom's model for prose has to be "
    "fetched, so prose passes; its list of tools whose results it never touches was kept out of the way by the tool's "
    "name. Seed 1 was looked at while the methods were mended, seed 2 was not."
)

SHARE = 0.25
SEEDS = (1, 2)
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "HEADROOM_TELEMETRY": "off"}
HOMES = {
    name: PeerEnvironment(name, package, QUIET)
    for name, package in {
        "headroom": "headroom-ai==0.42.0", "litellm": "litellm==1.110.2", "kompact": "kompact==0.4.0",
        "llmtrim": "llmtrim==0.13.7",
    }.items()
}  # fmt: skip
PEERS = {
    "headroom": ("headroom", "default"), "headroom agent": ("headroom", "agent"), "kompact": ("kompact", "-"),
    "litellm": ("litellm", "-"), "llmtrim auto": ("llmtrim", "auto"), "llmtrim aggressive": ("llmtrim", "aggressive"),
}  # fmt: skip
LEXICAL = "lexical_relevance:budget={share},units=auto"
OURS, FOLD, TRUNCATION, RANDOM = "tokenry", "tokenry fold", "truncation", "random"
HERE = {
    OURS: ("tokenry", LEXICAL), FOLD: ("tokenry", "fold"), f"{FOLD} + lexical": ("tokenry", f"fold {LEXICAL}"),
    TRUNCATION: ("truncation", "-"), RANDOM: ("tokenry", "compress/random:budget={share},units=auto"),
}  # fmt: skip
WARM = [{"role": "user", "content": "Hello."}]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one context: messages or an error, and the time it took."""

    messages: list[Any] | None
    tools: list[Any]
    error: str
    cpu_ms: float


def main() -> None:
    """Measure all, or one seed, kind or arm, which is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, help="only texts of this seed")
    options.add_argument("--kinds", nargs="+", metavar="KIND", help="only texts of these kinds")
    options.add_argument("--arms", nargs="+", metavar="ARM", help="only these")
    options.add_argument("--misses", action="store_true", help="print needles that ours does not keep")
    given = options.parse_args()
    torch.set_num_threads(1)
    seeds = SEEDS if given.seed is None else (given.seed,)
    arms = {arm: how for arm, how in {**HERE, **PEERS}.items() if given.arms is None or arm in given.arms}
    settings = {"share": SHARE, "seeds": seeds, "tokenizer": TOKENIZER, "arms": arms,
                "packages": {name: home.package for name, home in HOMES.items()}}  # fmt: skip
    whole = given.seed is None and given.kinds is None and given.arms is None
    record = Record("peers/against_context_compressors", dtype="text", settings=settings, save=whole)
    for home in HOMES.values():
        home.install()
    for seed in seeds:
        texts = [c for c in contexts(seed) if given.kinds is None or c.kind in given.kinds]
        took: dict[str, list[float]] = {}
        for arm, how in track(list(arms.items()), f"seed {seed}"):
            rows = record.rows if record.find(arm=arm, seed=seed) else measure(arm, how, seed, texts, None)
            if rows is not record.rows:
                record.add(*rows)
            took[arm] = [s for r in record.rows if (r["arm"], r["seed"]) == (arm, seed) for s in r["left"]]
            if arm in PEERS and record.find(arm=f"as short as {arm}", seed=seed) is None:
                record.add(*measure(f"as short as {arm}", HERE[OURS], seed, texts, took[arm]))
        if given.misses:
            _misses(record.rows, texts, seed)
    for arm, how in arms.items():
        if record.find(arm=arm, task="conversation") is None:
            record.add(growing(arm, how))
    show(record.finish(claims(record.rows) if whole else []), tables)


def measure(
    arm: str, how: tuple[str, str], seed: int, texts: Sequence[Context], shares: Sequence[float] | None
) -> list[Row]:
    """One arm on all texts of a seed, kind by kind."""
    shares = [SHARE] * len(texts) if shares is None else shares
    jobs = [(WARM, SHARE), *((c.messages, share) for c, share in zip(texts, shares, strict=True))]
    (_, cold), *found = answers(how, jobs)
    judged = [(c.kind, _judged(c, answer)) for c, (answer, _) in zip(texts, found, strict=True)]
    rows = []
    for kind in dict.fromkeys(c.kind for c in texts):
        mine = [row for k, row in judged if k == kind]
        columns = {name: [row[name] for row in mine] for name in mine[0]}
        rows.append({"task": "texts", "arm": arm, "seed": seed, "kind": kind, "cold_s": round(cold, 3)} | columns)
    return rows


def answers(how: tuple[str, str], jobs: Sequence[tuple[list[Any], float]]) -> Iterator[tuple[Answer, float]]:
    """What a process of its own answers, and its seconds of processor time since it started."""
    name, setting = how
    home = HOMES.get(name)
    lines = "".join(json.dumps({"messages": messages, "share": share}) + "\n" for messages, share in jobs)
    if home is None:
        process = {"args": [sys.executable, "-m", "benchmarks.peers.context_child", name, setting], "text": True}
    else:
        process = home.process("context_child", name, setting)
    done = subprocess.run(**process, input=lines, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: the process ended early:\n{done.stderr[-2000:]}")
    for line in done.stdout.splitlines():
        said = json.loads(line)
        answer = Answer(said.get("messages"), said.get("tools") or [], said.get("error", ""), said["cpu_ms"])
        yield answer, said["since_start_s"]


def _judged(context: Context, answer: Answer) -> Row:
    """Tokens left, needles whole, results valid, and whether everything else of the request is as it was."""
    counter = Counter.of(TOKENIZER)
    results = {m["tool_call_id"]: m["content"] for m in context.messages if m["role"] == "tool"}
    whole = sum(map(counter, results.values()))
    rest = sum(counter(_text(m)) for m in context.messages if m["role"] != "tool")
    messages = context.messages if answer.messages is None else answer.messages
    texts = [_text(m) for m in messages]
    left = sum(map(counter, texts)) + (counter(json.dumps(answer.tools)) if answer.tools else 0) - rest
    said = {m.get("tool_call_id"): _text(m) for m in messages if m.get("role") == "tool"}
    around = "\n".join(texts)
    return {
        "left": round(left / whole, 5), "needles": len(context.needles),
        "kept": sum(n in around for n in context.needles),
        "formed": sum(bool(form) for form in context.forms.values()),
        "valid": sum(bool(form) and parses(said.get(key, ""), form) for key, form in context.forms.items()),
        "intact": _skeleton(messages) == _skeleton(context.messages), "cpu_ms": round(answer.cpu_ms, 2),
        "error": answer.error,
    }  # fmt: skip


def parses(text: str, form: str) -> bool:
    """Whether a text is still of its form; of Markdown, whether fences are closed."""
    try:
        match form:
            case "json":
                json.loads(text)
            case "lines":
                return bool(text.strip()) and all(
                    isinstance(json.loads(line), dict) for line in text.splitlines() if line
                )
            case "python":
                ast.parse(text)
            case "csv":
                separator = max(",;\t", key=text.partition("\n")[0].count)
                return len({len(row) for row in csv.reader(text.splitlines(), delimiter=separator) if row} - {1}) == 1
            case "markdown":
                return sum(line.startswith("```") for line in text.splitlines()) % 2 == 0
    except (ValueError, SyntaxError, RecursionError):
        return False
    return bool(text)


def growing(arm: str, how: tuple[str, str]) -> Row:
    """What of each request of a conversation is the beginning of the next one."""
    messages = transcript(SEEDS[0], 0).messages
    ends = [i for i, m in enumerate(messages) if m["role"] == "assistant"] + [len(messages)]
    found = [answer for answer, _ in answers(how, [(messages[:end], SHARE) for end in ends])]
    sent = [json.dumps(a.messages or messages[:end])[:-1] for a, end in zip(found, ends, strict=True)]
    stays = [_common(a, b) for a, b in pairwise(sent)]
    return {
        "task": "conversation", "arm": arm, "requests": len(ends), "errors": sum(bool(a.error) for a in found),
        "prefix": round(sum(stays) / sum(map(len, sent[:-1])), 5),
    }  # fmt: skip


def claims(rows: Sequence[Row]) -> list[Row]:
    """All needles and structures at a quarter, the prefix, and no fewer needles than a peer at its own saving."""
    found = []
    for seed in SEEDS:
        mine = [r for r in rows if r.get("seed") == seed and r["arm"] == OURS]
        needles = sum(sum(r["kept"]) for r in mine) / sum(sum(r["needles"]) for r in mine)
        valid = sum(sum(r["valid"]) for r in mine) / sum(sum(r["formed"]) for r in mine)
        found += [
            claim(f"lexical_relevance at a quarter, seed {seed}: share of needles kept", needles, at_least=1.0),
            claim(f"lexical_relevance at a quarter, seed {seed}: share of structures valid", valid, at_least=1.0),
            claim(f"lexical_relevance at a quarter, seed {seed}: largest share left",
                  max(max(r["left"]) for r in mine), at_most=SHARE + 0.001),
        ]  # fmt: skip
        for arm in PEERS:
            ours, theirs = (sum(sum(r["kept"]) for r in rows if (r["arm"], r.get("seed")) == (a, seed))
                            for a in (f"as short as {arm}", arm))  # fmt: skip
            text = f"lexical_relevance as short as {arm}, seed {seed}: needles kept more than by it"
            found.append(claim(text, ours - theirs, at_least=0))
    prefix = next(r["prefix"] for r in rows if r["task"] == "conversation" and r["arm"] == OURS)
    return [*found, claim("lexical_relevance: share of a request that the next one begins with", prefix, at_least=1.0)]


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    heads = (
        "arm",
        "left",
        "needles",
        "valid",
        "rest intact",
        "behind",
        "errors",
        "cold s",
        "warm ms",
        "slowest ms",
        "prefix",
    )
    texts = [r for r in document["rows"] if r["task"] == "texts"]
    prefix = {r["arm"]: r["prefix"] for r in document["rows"] if r["task"] == "conversation"}
    found = []
    for seed, rows in by(texts, "seed"):
        cells = [(arm, *_cells(mine, _theirs(arm, rows)), percent(prefix.get(arm))) for arm, mine in by(rows, "arm")]
        found.append(Table(f"all kinds, seed {seed}", heads, cells))
    kinds = list(dict.fromkeys(r["kind"] for r in texts))
    for seed, rows in by(texts, "seed"):
        cells = [(arm, *(_short(r) for r in mine)) for arm, mine in by(rows, "arm")]
        found.append(Table(f"needles kept and share left by kind, seed {seed}", ("arm", *kinds), cells))
    return found


def _cells(rows: Sequence[Row], theirs: Sequence[Row]) -> tuple[str, ...]:
    every: Mapping[str, list[Any]] = {
        name: [v for r in rows for v in r[name]]
        for name in ("left", "needles", "kept", "formed", "valid", "intact", "cpu_ms", "error")
    }
    behind = [a < b for r, t in zip(rows, theirs, strict=False) for a, b in zip(r["kept"], t["kept"], strict=True)]
    return (
        fixed(mean(every["left"]), 2), f"{sum(every['kept'])} of {sum(every['needles'])}",
        f"{sum(every['valid'])} of {sum(every['formed'])}", f"{sum(every['intact'])} of {len(every['intact'])}",
        str(sum(behind)) if theirs else "", str(sum(map(bool, every["error"]))), fixed(rows[0]["cold_s"], 2),
        fixed(median(every["cpu_ms"]), 1), fixed(max(every["cpu_ms"]), 0),
    )  # fmt: skip


def _theirs(arm: str, rows: Sequence[Row]) -> list[Row]:
    return [r for r in rows if f"as short as {r['arm']}" == arm]


def _short(row: Row) -> str:
    return f"{sum(row['kept'])}/{sum(row['needles'])} at {mean(row['left']):.2f}"


def _misses(rows: Sequence[Row], texts: Sequence[Context], seed: int) -> None:
    for arm, mine in by(
        [r for r in rows if (r.get("seed") == seed and "as short" in r["arm"]) or r["arm"] == OURS], "arm"
    ):
        for row in mine:
            named = [c for c in texts if c.kind == row["kind"]]
            theirs = _theirs(arm, [r for r in rows if r["kind"] == row["kind"]])
            for i, c in enumerate(named):
                least = theirs[0]["kept"][i] if theirs else row["needles"][i]
                if row["kept"][i] < least or row["valid"][i] < row["formed"][i]:
                    print(
                        arm,
                        c.kind,
                        c.name,
                        "kept",
                        row["kept"][i],
                        "of",
                        least,
                        "valid",
                        row["valid"][i],
                        "left",
                        row["left"][i],
                    )


def _common(a: str, b: str) -> int:
    """Characters with which both begin."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _text(message: Mapping[str, Any]) -> str:
    """What a message says, whatever parts it has."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", part.get("content", ""))) for part in content)
    return content or ""


def _skeleton(messages: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Roles, ids, calls and all texts that no tool gave."""
    return [
        (
            m.get("role"), m.get("tool_call_id"), None if m.get("role") == "tool" else _text(m),
            [(c["id"], c["function"]["name"], json.loads(c["function"]["arguments"]))
             for c in m.get("tool_calls") or ()],
        )
        for m in messages
    ]  # fmt: skip


if __name__ == "__main__":
    main()
