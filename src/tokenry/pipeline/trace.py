"""The trace of one run: what happened to every token, what was said, what it cost."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.compress.kept.recover import Recovered, recover
from tokenry.core.registry import PREPARING
from tokenry.core.tokens import TokenBatch
from tokenry.models.cache.reads import Reads
from tokenry.models.generate.step import Notes
from tokenry.pipeline.receipt import Receipt

RUN_SCHEMA = "tokenry.run/0"
TRACE_SCHEMA = "tokenry.trace/0"


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The prompt after one method.

    Args:
        batch: tokens that are left, with the fate of all originals.
        importance: score of every original token that was still there, -inf elsewhere.
    """

    batch: TokenBatch
    importance: Float[Tensor, "N0"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """The model alone on the whole document, beside which a run is judged.

    Args:
        answer: what it said.
        receipt: what that cost.
        kl: KL(dense || run) in nats, mean over the tokens of the dense answer.
        top1: share of these tokens for which both predict the same next token.
    """

    answer: str
    receipt: Receipt
    kl: float
    top1: float

    def to_dict(self) -> dict[str, Any]:
        return {"answer": self.answer, "receipt": self.receipt.to_dict(), "kl": self.kl, "top1": self.top1}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """Everything about one run; the command line, the report and the benchmarks print parts of it.

    Args:
        ask: the question.
        answer: what the model said.
        receipt: what it cost.
        prompt: the tokens before any method that drops some: as they were spelled.
        steps: the tokens after each method that changes them.
        pipeline: the methods in their one-line form.
        model: name, context, dtype and device.
        reads: what attention read by column, when recorded.
        notes: what a decoder noted at every step.
        dense: the comparison, when asked for.
    """

    ask: str
    answer: str
    receipt: Receipt
    prompt: TokenBatch = field(repr=False)
    steps: tuple[Step, ...] = field(repr=False)
    pipeline: tuple[str, ...]
    model: Mapping[str, Any]
    reads: Reads | None = field(default=None, repr=False)
    dense: Dense | None = None
    notes: tuple[Notes, ...] = field(default=(), repr=False)

    @property
    def final(self) -> TokenBatch:
        """The tokens the model read."""
        return self.steps[-1].batch if self.steps else self.prompt

    def recover(self) -> list[Recovered]:
        """Passages of the documents that the answer repeats from the tokens that were left."""
        return recover(self.final, self.answer)

    def run_dict(self) -> dict[str, Any]:
        """The document that `tokenry run --json` prints."""
        return {
            "schema": RUN_SCHEMA,
            "answer": self.answer,
            "receipt": self.receipt.to_dict(),
            "dense": None if self.dense is None else self.dense.to_dict(),
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything, token by token, as the report shows it."""
        texts = _Texts(self.prompt)
        costs: list[dict[str, Any]] = self.receipt.to_dict()["steps"]
        changed = iter(self.steps)
        steps = []
        for cost in costs:
            step = next(changed, None) if cost["room"] in PREPARING else None
            steps.append(cost | (texts.paint(step) if step is not None else {}))
        return {
            "schema": TRACE_SCHEMA,
            "model": dict(self.model),
            "ask": self.ask,
            "pipeline": list(self.pipeline),
            "documents": texts.documents(),
            "steps": steps,
            "reads": texts.reads(self.final, self.reads),
            "answer": self.answer,
            "recovered": [texts.place(r) for r in self.recover()],
            "receipt": self.receipt.to_dict(),
            "dense": None if self.dense is None else self.dense.to_dict(),
        }

    def _repr_html_(self) -> str:
        from tokenry.report.notebook import html_of_run

        texts, alive = _Texts(self.prompt), self.final.survival()[0] > 0
        documents = [
            (document["name"], document["tokens"], alive[tokens].tolist())
            for document, tokens in zip(texts.documents(), texts.tokens, strict=True)
        ]
        return html_of_run(self.run_dict(), self.ask, documents)

    def report(self, path: str | Path) -> None:
        """Write one self-contained HTML page."""
        from tokenry.report.page import write

        write(self.to_dict(), Path(path))


class _Texts:
    """The original tokens of each document, in the order of the text."""

    def __init__(self, prompt: TokenBatch) -> None:
        self.prompt = prompt
        source = prompt.origin.source[0]
        self.sources = [i for i, s in enumerate(prompt.origin.sources) if s.kind == "text"]
        self.tokens = [(source == i).nonzero()[:, 0] for i in self.sources]

    def documents(self) -> list[dict[str, Any]]:
        out = []
        for i, tokens in zip(self.sources, self.tokens, strict=True):
            data = self.prompt.origin.sources[i].data.encode("utf-8", "surrogatepass")
            # A character that several tokens share is shown where it ends.
            parts, end, decoder = [], 0, getincrementaldecoder("utf-8")("replace")
            for start, stop in self.prompt.origin.spans[0, tokens, :2].tolist():
                parts.append(decoder.decode(data[max(start, end) : stop]))
                end = max(end, stop)
            out.append({"name": self.prompt.origin.sources[i].name, "tokens": parts})
        return out

    def paint(self, step: Step) -> dict[str, Any]:
        alive = step.batch.survival()[0] > 0
        painted: dict[str, Any] = {"kept": [alive[t].int().tolist() for t in self.tokens], "importance": None}
        if step.importance is not None:
            painted["importance"] = [_scaled(step.importance[t]) for t in self.tokens]
        return painted

    def reads(self, final: TokenBatch, reads: Reads | None) -> dict[str, Any] | None:
        if reads is None or not reads.counts:
            return None
        n0 = final.fate.shape[2]
        column, original = final.fate.index
        layers = []
        for layer in sorted(reads.counts):
            counts = reads.counts[layer][0].mean(0).cpu() / max(1, len(reads.per_step))
            seen = torch.zeros(n0)
            inside = column < len(counts)
            seen[original[inside]] = counts[column[inside]]
            layers.append([[round(float(v), 3) for v in seen[t]] for t in self.tokens])
        return {"layers": len(layers), "steps": len(reads.per_step), "counts": layers}

    def place(self, found: Recovered) -> dict[str, Any]:
        document = self.sources.index(found.source)
        spans = self.prompt.origin.spans[0, self.tokens[document], :2]
        inside = ((spans[:, 0] < found.span[1]) & (spans[:, 1] > found.span[0])).nonzero()[:, 0]
        first, last = (int(inside[0]), int(inside[-1])) if len(inside) else (0, 0)
        return {"answer": list(found.answer), "document": document, "tokens": [first, last], "text": found.text}


def _scaled(values: Tensor) -> list[float]:
    """Importance by rank, from 0 to 1, so that a few extremes do not hide the rest."""
    if not len(values):
        return []
    order = values.argsort(stable=True).argsort(stable=True).float()
    return [round(float(v), 3) for v in order / max(1, len(values) - 1)]


def document_tokens(batch: TokenBatch) -> int:
    """Tokens of the documents, protected ones too; those between documents belong to none."""
    text = torch.tensor([*(source.kind == "text" for source in batch.origin.sources), False])
    return int((batch.mask[0].cpu() & text[batch.spans()[0, :, 0].cpu()]).sum())


def ratios(trace: Trace) -> Sequence[tuple[str, float]]:
    """How many times less than dense each thing took."""
    if trace.dense is None:
        return []
    ours, dense = trace.receipt, trace.dense.receipt
    pairs = [
        ("prompt tokens", dense.prompt_tokens, ours.prompt_tokens),
        ("seconds to the first token", dense.seconds.first_token, ours.seconds.first_token),
        ("operations", dense.flops, ours.flops),
        ("cached bytes", dense.kv_bytes, ours.kv_bytes),
        ("bytes read", dense.bytes_read, ours.bytes_read),
        ("peak memory", dense.peak_bytes, ours.peak_bytes),
    ]
    return [(name, theirs / mine) for name, theirs, mine in pairs if mine]
