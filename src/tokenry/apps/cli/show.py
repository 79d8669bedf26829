"""How runs and comparisons look in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tokenry.pipeline.compare import Arm
from tokenry.pipeline.plan import Plan
from tokenry.pipeline.receipt import Receipt
from tokenry.pipeline.trace import Trace, ratios

_err = Console(stderr=True, highlight=False)
_out = Console(highlight=False)


def warn(text: str) -> None:
    """One line for people, on standard error."""
    _err.print(text, markup=False, style="dim")


def print_run(trace: Trace) -> None:
    """The receipt, beside the dense one where there is one."""
    _err.print()
    steps = Table(title="receipt", title_justify="left", box=None, pad_edge=False)
    for heading, side in (("step", "left"), ("tokens in", "right"), ("tokens out", "right"), ("seconds", "right")):
        steps.add_column(heading, justify=side)  # type: ignore[arg-type]
    for s in trace.receipt.steps:
        steps.add_row(f"{s.room}/{s.method}", str(s.tokens_in), str(s.tokens_out), f"{s.seconds:.2f}")
    if trace.receipt.steps:
        _err.print(steps)
        _err.print()
    dense = trace.dense.receipt if trace.dense else None
    _err.print(_costs(trace.receipt, dense, dict(ratios(trace))))
    if trace.dense is not None:
        _err.print(f"\nto dense: KL {trace.dense.kl:.3f}, top-1 {trace.dense.top1:.0%} over its answer:", markup=False)
        _err.print(trace.dense.answer, markup=False, style="dim")


def print_arms(arms: Sequence[Arm]) -> None:
    """One line for each arm; controls are dimmed."""
    table = Table(box=None, pad_edge=False)
    for heading in ("arm", "KL", "top-1", "prompt", "read/step", "first token", "tokens/s", "KV", "peak"):
        table.add_column(heading, justify="left" if heading == "arm" else "right", no_wrap=heading != "arm")
    for arm in arms:
        r = arm.receipt
        table.add_row(
            arm.name, "" if arm.kl is None else f"{arm.kl:.3f}", "" if arm.top1 is None else f"{arm.top1:.0%}",
            str(r.prompt_tokens), f"{_mean(r.read_per_step):.0f}", f"{r.seconds.first_token:.2f} s",
            f"{r.tokens_per_second:.1f}", _size(r.kv_bytes), _size(r.peak_bytes), style="dim" if arm.control else "",
        )  # fmt: skip
    _out.print(table)
    for arm in arms:
        _out.print(f"\n{arm.name}", markup=False, style="bold" if not arm.control else "dim")
        _out.print(arm.answer, markup=False, style="dim" if arm.control else "")


def print_plan(plan: Plan, line: str) -> None:
    """What was tried, dearest first within each method, and the line to run."""
    table = Table(box=None, pad_edge=False)
    for heading in ("setting", "loss", "95 %", "seconds", "tokens", "bytes read", ""):
        table.add_column(heading, justify="left" if heading in ("setting", "") else "right", no_wrap=heading != "")
    dense = plan.tried[0]
    for t in plan.tried:
        loss = "" if t.note else f"{t.loss:.3f}"
        ends = "" if t.note or t is dense else f"{t.interval[0]:.3f}–{t.interval[1]:.3f}"
        costs = ["", "", ""] if t.note else [f"{t.seconds:.2f}", f"{t.tokens:.0f}", _size(t.bytes)]
        verdict = "cheapest" if t is plan.chosen else "" if t.within else t.note or "loses too much"
        table.add_row(t.spec or "dense", loss, ends, *costs, verdict, style="" if t.within else "dim")
    _out.print(table)
    if plan.chosen is dense:
        _out.print("\nNothing cheaper stays within this loss; run the model alone:", markup=False)
    else:
        less = getattr(dense, plan.cost) / getattr(plan.chosen, plan.cost)
        _out.print(f"\n{less:.1f} times less {plan.cost} than dense:", markup=False)
    _out.print(line, markup=False, soft_wrap=True)


@contextmanager
def working(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error; the callback names what starts next."""
    columns = (
        TextColumn("{task.completed}/{task.total}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=_err, transient=True) as bar:
        task = bar.add_task("", total=total, completed=-1)
        yield lambda name: bar.update(task, advance=1, description=name)


def _costs(ours: Receipt, dense: Receipt | None, saved: dict[str, float]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=dense is not None)
    for heading in ("", "run", "dense", "less"):
        table.add_column(heading, justify="right" if heading else "left")
    rows: list[tuple[str, str, Callable[[Receipt], str]]] = [
        ("prompt tokens", "prompt tokens", lambda r: str(r.prompt_tokens)),
        ("tokens read per step", "", lambda r: f"{_mean(r.read_per_step):.0f}"),
        ("first token", "seconds to the first token", lambda r: f"{r.seconds.first_token:.2f} s"),
        ("prefill", "", lambda r: f"{r.seconds.prefill:.2f} s"),
        ("decode", "", lambda r: f"{r.seconds.decode:.2f} s, {r.tokens_per_second:.1f} tokens/s"),
        ("operations", "operations", lambda r: f"{r.flops / 1e12:.3f} T"),
        ("cached keys and values", "cached bytes", lambda r: _size(r.kv_bytes)),
        ("read by attention", "bytes read", lambda r: _size(r.bytes_read)),
        ("peak memory", "peak memory", lambda r: _size(r.peak_bytes)),
        ("loading", "", lambda r: f"{r.seconds.load:.2f} s"),
    ]
    for name, ratio, cell in rows:
        less = f"{saved[ratio]:.1f}×" if ratio in saved else ""
        table.add_row(name, cell(ours), cell(dense) if dense else "", less)
    return table


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
