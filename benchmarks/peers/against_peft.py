"""PEFT's prompt tuning and prefix tuning beside ours: the same start, the same examples, the same steps of Adam.

Learning: each arm in a process of its own, on the same batches; PEFT gets them as its users would make them, padded on
the right with labels. Serving: four rows with one prompt and four with another, which PEFT answers in two runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.progress import track
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.capitals import ASK, INSTRUCTION, LEARN, plain_model
from benchmarks.record import ROOT, Record, claim, module_of, take_turns
from benchmarks.tables import MIB, Result, Table, fixed, show
from tokenry.models.attention.rest import at_rest
from tokenry.models.cache.name import with_cache
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.document import Document
from tokenry.models.text.prompt import prompt
from tokenry.soft.base import SoftTokens
from tokenry.soft.prefix_tuning import PrefixTuning
from tokenry.soft.prompt_tuning import PromptTuning
from tokenry.soft.prompts.mixed import together
from tokenry.soft.prompts.peft_format import write_peft
from tokenry.soft.training.answer_loss import loss
from tokenry.soft.training.examples import Lesson, lessons

TITLE = "Beside PEFT"
SUBJECTS = ("soft/prompt_tuning", "soft/prefix_tuning")
ABOUT = (
    "Prompt tuning and prefix tuning without MLP by PEFT and by tokenry, on the task above: the same start from "
    "text, the same batches, the same Adam, each arm in a process of its own. PEFT gets batches as its users make "
    "them, padded on the right with labels; tokenry pads prompts on the left and computes logits for answers "
    "alone. Seconds of learning are of processor time. `untuned` learns at a rate of zero, or serves without soft "
    "tokens. "
    "Eight rows with two prompts are one run here; PEFT holds one active prompt and answers them in two. What rows "
    "say alone is what PEFT says to one row at a time, which needs no padding. In prompt tuning by PEFT the prompt "
    "stands before the padding, which is counted in positions, so padded rows say something else."
)

TOKENS, STEPS, BATCH, NEW, ROUNDS, GOAL = 8, 12, 8, 16, 3, 3.0
KINDS = ("prompt", "prefix")
OURS, THEIRS, UNTUNED = "tokenry", "peft", "untuned"


def main() -> None:
    """Compare learning and serving, or with `--quick` only for two steps, which is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="two steps, one round; records nothing")
    options.add_argument("--child", nargs=3, metavar=("WHO", "KIND", "STEPS"), help=argparse.SUPPRESS)
    given = options.parse_args()
    torch.set_num_threads(1)
    if given.child:
        who, kind, steps = given.child
        sys.stdout.write(json.dumps(learn(who, kind, int(steps))) + "\n")
        return
    steps, rounds = (2, 1) if given.quick else (STEPS, ROUNDS)
    settings = {
        "model": "smollm2", "tokens": TOKENS, "steps": STEPS, "batch": BATCH, "new": NEW, "rounds": ROUNDS,
        "goal": GOAL, "instruction": INSTRUCTION, "peft": _version(),
    }  # fmt: skip
    record = Record(
        "peers/against_peft", dtype="float32", settings=settings,
        save=not given.quick,
    )  # fmt: skip
    arms = [(who, kind) for kind in KINDS for who in (OURS, THEIRS)]
    for who, kind in track([*arms, (UNTUNED, "prompt")], "learn"):
        if record.find(task="learn", arm=who, kind=kind) is None:
            record.add(_child(who, kind, steps))
    if record.find(task="serve") is None:
        record.add(*serve(rounds))
    show(record.finish([] if given.quick else claims(record)), tables)


def learn(who: str, kind: str, steps: int) -> dict[str, Any]:
    """One arm in this process: losses, processor seconds of each step, and the most memory it ever held."""
    language = plain_model()
    method = _begun(kind, language, seed=0)
    found = lessons(language, LEARN)
    batches = [[found[(s * BATCH + i) % len(found)] for i in range(BATCH)] for s in range(steps)]
    before = _peak(anew=True)
    with at_rest(language.model):
        if who == THEIRS:
            wrapped = _learner(kind, method, language)
            leaves = [p for p in wrapped.parameters() if p.requires_grad]
            inputs = [_as_users_do(batch) for batch in batches]
            step = lambda i: wrapped(**inputs[i]).loss  # noqa: E731
        else:
            leaves = list(method.parameters())
            step = lambda i: loss(method, language, batches[i])  # noqa: E731
        optimizer = torch.optim.Adam(leaves, lr=0.0 if who == UNTUNED else method.rate)
        losses, seconds = [], []
        for i in range(steps):
            start = time.process_time()
            optimizer.zero_grad()
            value = step(i)
            value.backward()
            optimizer.step()
            seconds.append(time.process_time() - start)
            losses.append(float(value.detach()))
    return {
        "task": "learn", "arm": who, "kind": kind, "losses": losses, "seconds": seconds,
        "learned": sum(p.numel() for p in leaves), "peak_bytes": _peak(), "loaded_bytes": before,
        "steps_to_goal": next((i for i, v in enumerate(losses) if v <= GOAL), None),
    }  # fmt: skip


def serve(rounds: int) -> list[dict[str, Any]]:
    """Eight rows with two prompts, or two prefixes: one run of ours, two of PEFT's, and one without soft tokens."""
    language = plain_model()
    rows = [prompt(language.tokenizer, [Document(e.prompt)], None) for e in ASK[:8]]
    found = []
    for kind in KINDS:
        methods = [_begun(kind, language, seed) for seed in (0, 1)]
        wrapped = _server(methods, language)
        halves = [_padded(language, rows[:4]), _padded(language, rows[4:])]

        def ours(methods: list[SoftTokens] = methods) -> tuple[float, list[list[int]]]:
            start = time.perf_counter()
            batch, cache = together([(methods[i // 4], row) for i, row in enumerate(rows)], language)
            out = _said(language.model, {**batch.model_inputs(), **with_cache(cache)})
            return time.perf_counter() - start, out

        def theirs(wrapped: Any = wrapped, halves: list[dict[str, Tensor]] = halves) -> tuple[float, list[list[int]]]:
            start, out = time.perf_counter(), []
            for name, inputs in zip("01", halves, strict=True):
                wrapped.set_adapter(name)
                out += _said(wrapped, inputs)
            return time.perf_counter() - start, out

        def alone() -> tuple[float, list[list[int]]]:
            start = time.perf_counter()
            out = _said(language.model, _padded(language, rows))
            return time.perf_counter() - start, out

        turns = take_turns({OURS: ours, THEIRS: theirs, UNTUNED: alone}, rounds)
        # PEFT with one row at a time needs no padding, and is right.
        expected = [_one(wrapped, i // 4, _padded(language, [row])) for i, row in enumerate(rows)]
        batch, cache = together([(methods[i // 4], row) for i, row in enumerate(rows)], language)
        logits = {
            OURS: _first(language.model, {**batch.model_inputs(), **with_cache(cache)}),
            THEIRS: torch.cat([_one(wrapped, i, half)[1] for i, half in enumerate(halves)]),
            UNTUNED: _first(language.model, _padded(language, rows)),
        }
        for arm, done in turns.items():
            found.append(
                {
                    "task": "serve", "arm": arm, "kind": kind, "seconds": [s for s, _ in done],
                    "same_rows": sum(a == b[0][0] for a, b in zip(done[0][1], expected, strict=True)),
                    "apart": float((logits[arm] - torch.cat([b[1] for b in expected])).abs().max()),
                }
            )  # fmt: skip
    return found


def claims(record: Record) -> list[dict[str, Any]]:
    """Ours learns the same and is not slower; mixed rows are served in less time."""
    made = []
    for kind in KINDS:
        ours, theirs = (record.find(task="learn", arm=arm, kind=kind) for arm in (OURS, THEIRS))
        assert ours is not None
        assert theirs is not None
        apart = max(abs(a - b) for a, b in zip(ours["losses"], theirs["losses"], strict=True))
        made.append(claim(f"{kind}: largest difference of the losses of a step, in nats", apart, at_most=0.01))
        ratio = min(theirs["seconds"]) / min(ours["seconds"])
        made.append(claim(f"{kind}: processor seconds of the best step, PEFT's over ours", ratio, at_least=0.95))
        served = [record.find(task="serve", arm=arm, kind=kind) for arm in (OURS, THEIRS)]
        assert served[0] is not None
        assert served[1] is not None
        made.append(
            claim(f"{kind}: logits of rows in a mixed batch, largest difference from PEFT with one row at a time",
                  served[0]["apart"], at_most=1e-3)
        )  # fmt: skip
        ratio = median(served[1]["seconds"]) / median(served[0]["seconds"])
        made.append(claim(f"{kind}: seconds for eight rows of two prompts, PEFT's over ours", ratio, at_least=1.0))
    return made


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    learn = [r for r in document["rows"] if r["task"] == "learn"]
    serve = [r for r in document["rows"] if r["task"] == "serve"]
    goal = document["settings"]["goal"]
    learned = [
        (
            f"{r['arm']}, {r['kind']}", f"{r['learned']:,}", fixed(r["losses"][0], 3), fixed(r["losses"][-1], 3),
            str("never" if r["steps_to_goal"] is None else r["steps_to_goal"]), fixed(min(r["seconds"]), 2),
            fixed((r["peak_bytes"] - r["loaded_bytes"]) / MIB, 0),
        )
        for r in learn
    ]  # fmt: skip
    served = [
        (
            f"{r['arm']}, {r['kind']}", fixed(median(r["seconds"]), 2), f"{r['same_rows']} of 8",
            "" if r["arm"] == "untuned" else f"{r['apart']:.5f}",
        )
        for r in serve
    ]  # fmt: skip
    steps = document["settings"]["steps"]
    return [
        Table(
            f"{steps} steps of learning",
            ("arm", "learned", "first loss", "last loss", f"steps to {goal:g}", "best step s", "MiB above the model"),
            learned,
        ),
        Table("eight rows with two prompts", ("arm", "seconds", "rows as alone", "logits apart from alone"), served),
    ]


def _begun(kind: str, language: LanguageModel, seed: int) -> SoftTokens:
    if kind == "prompt":
        method: SoftTokens = PromptTuning(tokens=TOKENS)
    else:
        method = PrefixTuning(tokens=TOKENS, hidden=0)
    if seed:
        return method.start(language, seed=seed)
    return method.start(language, "text", text=INSTRUCTION)


def _learner(kind: str, method: SoftTokens, language: LanguageModel) -> Any:
    """PEFT's model, to be learned from our start."""
    from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model

    make = PromptTuningConfig if kind == "prompt" else PrefixTuningConfig
    wrapped = get_peft_model(language.model, make(task_type="CAUSAL_LM", num_virtual_tokens=TOKENS))
    with tempfile.TemporaryDirectory() as folder:
        write_peft(method, folder, language)
        start = load_file(Path(folder) / "adapter_model.safetensors")["prompt_embeddings"]
    with torch.no_grad():
        wrapped.prompt_encoder["default"].embedding.weight.copy_(start)
    return wrapped


def _server(methods: list[SoftTokens], language: LanguageModel) -> Any:
    """PEFT's model with two of our prompts or prefixes, called 0 and 1."""
    from peft import PeftModel

    wrapped: Any = None
    for name, method in enumerate(methods):
        with tempfile.TemporaryDirectory() as folder:
            write_peft(method, folder, language)
            if wrapped is None:
                wrapped = PeftModel.from_pretrained(language.model, folder, adapter_name=str(name))
            else:
                wrapped.load_adapter(folder, str(name))
    return wrapped.eval()


def _as_users_do(batch: list[Lesson]) -> dict[str, Tensor]:
    """Prompts and answers in one row, padded on the right, with labels for the answers alone."""
    rows = [torch.cat((lesson.prompt.ids[0], lesson.answer)) for lesson in batch if lesson.prompt.ids is not None]
    n = max(map(len, rows))
    ids, labels = torch.zeros(len(rows), n, dtype=torch.long), torch.full((len(rows), n), -100)
    mask = torch.zeros(len(rows), n, dtype=torch.long)
    for i, (row, lesson) in enumerate(zip(rows, batch, strict=True)):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
        labels[i, len(row) - len(lesson.answer) : len(row)] = lesson.answer
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _padded(language: LanguageModel, rows: list[Any]) -> dict[str, Tensor]:
    n = max(row.shape[1] for row in rows)
    ids = torch.cat([torch.nn.functional.pad(row.ids, (n - row.shape[1], 0)) for row in rows])
    mask = torch.cat([torch.nn.functional.pad(row.mask.long(), (n - row.shape[1], 0)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


def _one(wrapped: Any, adapter: int, inputs: dict[str, Tensor]) -> tuple[list[list[int]], Tensor]:
    """What PEFT says with one of its prompts, and the logits of the first token."""
    wrapped.set_adapter(str(adapter))
    return _said(wrapped, inputs), _first(wrapped, inputs)


def _first(model: Any, inputs: dict[str, Any]) -> Tensor:
    out = model.generate(
        **inputs, max_new_tokens=1, do_sample=False, pad_token_id=0, output_logits=True, return_dict_in_generate=True
    )
    return out.logits[0].float()


def _said(model: Any, inputs: dict[str, Any]) -> list[list[int]]:
    """The new ids of each row, all `NEW` of them."""
    out = model.generate(**inputs, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0)
    return out[:, -NEW:].tolist()


def _child(who: str, kind: str, steps: int) -> dict[str, Any]:
    command = [sys.executable, "-m", module_of("peers/against_peft"), "--child", who, kind, str(steps)]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _peak(anew: bool = False) -> int:
    """The most bytes that this process held; with `anew`, what it holds now, from where the peak is counted again."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]


def _version() -> str:
    import peft

    return str(peft.__version__)


if __name__ == "__main__":
    main()
