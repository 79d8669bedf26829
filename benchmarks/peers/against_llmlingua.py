"""LLMLingua's own package beside ours: the same scorer, the same text, the same rates.

The package (0.2.2) asks the network for an encoding when it starts, and unpacks caches as transformers before 4.47 gave
them; so it runs with transformers 4.46 in a folder of its own, with a stand-in for the encoding, which it only counts
with. What is compared is the token-level method without a question on passages that hold an answer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from rich.progress import track

from benchmarks.peers.folder import PeerFolder
from benchmarks.record import Record, claim
from benchmarks.tables import Result, Table, by, fixed, show
from tokenry import Pipeline, data
from tokenry.models.files.load import LanguageModel, load
from tokenry.models.generate.answer import Sampling, answer
from tokenry.models.text.document import Document
from tokenry.models.text.prompt import prompt
from tokenry.pipeline.pipeline import check_fit

TITLE = "Beside LLMLingua's own package"
SUBJECTS = ("compress/llmlingua",)
ABOUT = (
    "The package llmlingua 0.2.2 and `llmlingua` here compress the same passages of 4,000 characters to the same "
    "rates with SmolLM2-135M in 32-bit floats, token by token and without a question. The package does not run "
    "with transformers 5: it unpacks caches as versions before 4.47 gave them, and asks the network for an "
    "encoding when it starts. It runs here with transformers 4.46 in an environment of its own and a stand-in for "
    "that encoding, which it only counts with. `there` are accepted answers that the compressed text still holds, "
    "`right` the questions that the model then answers."
)

HOME = PeerFolder("llmlingua", (
    "llmlingua==0.2.2", "tiktoken==0.14.0", "nltk", "regex", "transformers==4.46.3", "tokenizers==0.20.3",
    "huggingface_hub==0.26.5", "requests", "tqdm", "filelock", "fsspec", "packaging",
))  # fmt: skip
RATES = (0.5, 0.25)
PASSAGE = 4000
"""Characters around an answer that are compressed."""

OURS, THEIRS, CHANCE = "tokenry llmlingua", "llmlingua 0.2.2", "random tokens"
SPECS = {OURS: "llmlingua:units=token,budget={rate}", CHANCE: "compress/random:units=token,budget={rate}"}


def main() -> None:
    """Compare on all questions, or on the first few, which is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--questions", type=int, metavar="N", help="only the first N")
    given = options.parse_args()
    torch.set_num_threads(1)
    questions = data.questions()[:: 1 if given.questions is None else max(1, 30 // given.questions)][: given.questions]
    settings = {"model": "smollm2", "rates": RATES, "passage": PASSAGE, "questions": len(questions)}
    record = Record(
        "peers/against_llmlingua", dtype="float32", settings=settings,
        save=given.questions is None,
    )  # fmt: skip
    language = load("smollm2", dtype="float32")
    peer = Peer(language)
    for question in track(questions, "questions"):
        if record.find(question=question.id) is None:
            record.add(*compare(language, peer, question))
    show(record.finish(claims(record.rows)), tables)


class Peer:
    """The package in a process of its own."""

    def __init__(self, language: LanguageModel) -> None:
        HOME.install()
        folder = _model(language)
        self.process = subprocess.Popen(
            **HOME.process("llmlingua_child", folder),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._hear()

    def compress(self, text: str, rate: float) -> tuple[str, float]:
        """The compressed text and the seconds it took."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"text": text, "rate": rate}) + "\n")
        self.process.stdin.flush()
        said = self._hear()
        return said["text"], said["seconds"]

    def _hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"llmlingua: the package's process ended early with code {self.process.wait()}.")
        return json.loads(line)


def compare(language: LanguageModel, peer: Peer, question: Any) -> list[dict[str, Any]]:
    """All arms at all rates on the passage around one answer."""
    text = _passage(question)
    whole = _count(language, text)
    rows = []
    for rate in RATES:
        for arm in (THEIRS, *SPECS):
            if arm == THEIRS:
                short, seconds = peer.compress(text, rate)
            else:
                start = time.perf_counter()
                short = Pipeline([SPECS[arm].format(rate=rate)]).compress(text, language.tokenizer, model=language)
                seconds = time.perf_counter() - start
            batch = prompt(language.tokenizer, [Document(short)], question.ask)
            check_fit(language, batch, 32)
            said = answer(language, batch, Sampling(max_new_tokens=32), Pipeline().attach(language, batch)).text
            rows.append(
                {
                    "question": question.id, "rate": rate, "arm": arm, "tokens": whole,
                    "kept": _count(language, short), "seconds": round(seconds, 3),
                    "still_there": data.is_correct(question, short), "correct": data.is_correct(question, said),
                }
            )  # fmt: skip
    return rows


def claims(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ours meets the rate exactly and is no slower."""
    miss = {
        arm: max(abs(r["kept"] - r["tokens"] * r["rate"]) for r in rows if r["arm"] == arm) for arm in (OURS, THEIRS)
    }
    seconds = {arm: sum(r["seconds"] for r in rows if r["arm"] == arm) for arm in (OURS, THEIRS)}
    return [
        claim(f"{OURS}: largest miss of the rate, in tokens ({THEIRS}: {miss[THEIRS]:.0f})", miss[OURS], at_most=1.0),
        claim(f"{OURS}: times faster than {THEIRS}", seconds[THEIRS] / seconds[OURS], at_least=1.0),
    ]


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    heads = ("arm", "tokens kept", "largest miss of the rate", "seconds", "there", "right")
    found = []
    for rate in document["settings"]["rates"]:
        cells = []
        for arm, rows in by([r for r in document["rows"] if r["rate"] == rate], "arm"):
            cells.append(
                (
                    arm, f"{100 * mean(r['kept'] / r['tokens'] for r in rows):.1f} %",
                    f"{max(abs(r['kept'] - r['tokens'] * rate) for r in rows):.0f} tokens",
                    fixed(mean(r["seconds"] for r in rows), 2), f"{sum(r['still_there'] for r in rows)} of {len(rows)}",
                    f"{sum(r['correct'] for r in rows)} of {len(rows)}",
                )
            )  # fmt: skip
        found.append(Table(f"rate {rate}", heads, cells))
    return found


def _passage(question: Any) -> str:
    """Text around what answers the question."""
    text = data.read(question.document)
    at = text.find(question.evidence)
    start = max(0, min(at - PASSAGE // 2, len(text) - PASSAGE))
    return text[start : start + PASSAGE]


def _count(language: LanguageModel, text: str) -> int:
    return len(language.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _model(language: LanguageModel) -> Path:
    """The same weights in a folder that transformers 4 reads."""
    folder = HOME.path / "model"
    language.model.save_pretrained(folder)
    language.tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rotary = config.pop("rope_parameters", None) or {}
    config |= {"rope_theta": rotary.get("rope_theta", 10000.0), "torch_dtype": config.pop("dtype", "float32")}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    about = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    about["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


if __name__ == "__main__":
    main()
