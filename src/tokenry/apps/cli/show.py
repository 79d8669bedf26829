"""How runs and comparisons look in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table as Grid

from tokenry.apps.cli.status import warn as warn
from tokenry.apps.cli.tables import Column, Table
from tokenry.pipeline.compare import Arm
from tokenry.pipeline.plan import Plan, Tried
from tokenry.pipeline.receipt import COSTS, Receipt
from tokenry.pipeline.trace import Trace, ratios

_err = Console(stderr=True, highlight=False)
_out = Console(highlight=False)

_ARMS = (
    Column("KL", width=6), Column("top-1", width=5), Column("prompt", width=6), Column("read/step", 2),
    Column("first token", 1, width=8), Column("tokens/s", 3), Column("KV", 4, width=6), Column("peak", 5, width=6),
)  # fmt: skip


def print_run(trace: Trace) -> None:
    """The receipt, beside the dense one where there is one."""
    _err.print()
    steps = Grid(title="receipt", title_justify="left", box=None, pad_edge=False)
    for heading, side in (("step", "left"), ("tokens in", "right"), ("tokens out", "right"), ("seconds", "right")):
        steps.add_column(heading, justify=side)  # type: ignore[arg-type]
    for s in trace.receipt.steps:
        steps.add_row(f"{s.room}/{s.method}", str(s.tokens_in), str(s.tokens_out), f"{s.seconds:.2f}")
    if trace.receipt.steps:
        _err.print(steps)
        _err.print()
    dense = trace.dense.receipt if trace.dense else None
    _err.print(_costs(trace.receipt, dense, dict(ratios(trace))))
    for note in trace.receipt.notes:
        _err.print(f"\n{note}", markup=False, style="dim", soft_wrap=True)
    if trace.dense is not None:
        _err.print(f"\nto dense: KL {trace.dense.kl:.3f}, top-1 {trace.dense.top1:.0%} over its answer:", markup=False)
        _err.print(trace.dense.answer, markup=False, style="dim")


def arm_table(names: Sequence[str]) -> Table:
    """The table of a comparison, whose rows are printed as arms end."""
    return Table("arm", names, _ARMS)


def print_arm(table: Table, arm: Arm) -> None:
    """One line for an arm; controls are dimmed."""
    r = arm.receipt
    cells = (
        "" if arm.kl is None else f"{arm.kl:.3f}", "" if arm.top1 is None else f"{arm.top1:.0%}", str(r.prompt_tokens),
        f"{_mean(r.read_per_step):.0f}", f"{r.seconds.first_token:.2f} s", f"{r.tokens_per_second:.1f}",
        _size(r.kv_bytes), _size(r.peak_bytes),
    )  # fmt: skip
    table.row(arm.name, cells, style="dim" if arm.control else "")


def print_answers(arms: Sequence[Arm]) -> None:
    """What every arm said."""
    for arm in arms:
        _out.print(f"\n{arm.name}", markup=False, style="bold" if not arm.control else "dim", soft_wrap=True)
        _out.print(arm.answer, markup=False, style="dim" if arm.control else "", soft_wrap=True)


def print_leaderboard(arms: Sequence[Arm]) -> None:
    """The same lines once more, nearest to dense first; what is as near in less time stands above."""
    ranked = sorted(arms, key=lambda arm: (arm.kl is not None, arm.kl or 0.0, -(arm.receipt.tokens_per_second or 0.0)))
    table = arm_table([arm.name for arm in ranked])
    _out.print("\nnearest to dense first")
    table.heading()
    for arm in ranked:
        print_arm(table, arm)


def plan_table(names: Sequence[str], cost: str) -> Table:
    """The table of what a plan tries; what shall be small stays whatever the width."""
    ranks = dict(zip(COSTS, (1, 2, 3, 4), strict=True)) | {cost: 0}
    costs = [Column(c, ranks[c], width=7) for c in COSTS]
    head = (Column("texts", 5, width=5), Column("loss", width=5), Column("95 %", width=11))
    return Table("setting", names, (*head, *costs, Column("", left=True)))


def print_tried(table: Table, tried: Tried) -> None:
    """One line for a setting; those that lose too much are dimmed, and so are those not tried on all texts."""
    ends = "" if not tried.spec else f"{tried.interval[0]:.3f}–{tried.interval[1]:.3f}"
    figures = (str(len(tried.losses)), f"{tried.loss:.3f}", ends, f"{tried.seconds:.2f}", f"{tried.tokens:.0f}",
               _size(tried.bytes), f"{tried.flops / 1e12:.3f} T", "within" if tried.within else "")  # fmt: skip
    cells = [""] * len(figures) if tried.note else figures
    table.row(tried.spec or "dense", cells, style="" if tried.within else "dim", note=tried.note)


def print_plan(plan: Plan, line: str) -> None:
    """The front, what is cheapest within the loss, and the line to run."""
    dense = plan.tried[0]
    front = Grid(title=f"\nfront over {plan.samples} texts", title_justify="left", box=None, pad_edge=False)
    for heading, side in (("setting", "left"), (f"loss ({plan.by})", "right"), (plan.cost, "right"), ("", "left")):
        front.add_column(heading, justify=side)  # type: ignore[arg-type]
    for t in plan.front:
        loss, cost = t.interval, t.cost_interval
        front.add_row(
            t.spec or "dense", f"{t.loss:.3f} ({loss[0]:.3f}–{loss[1]:.3f})",
            f"{getattr(t, plan.cost):.4g} ({cost[0]:.4g}–{cost[1]:.4g})", "chosen" if t is plan.chosen else "",
            style="" if t.within else "dim",
        )  # fmt: skip
    _out.print(front)
    if plan.chosen is dense:
        _out.print("\nNothing cheaper stays within this loss; run the model alone:", markup=False)
    else:
        less = getattr(dense, plan.cost) / getattr(plan.chosen, plan.cost)
        _out.print(f"\n{plan.chosen.spec} is the cheapest within this loss, {less:.1f} times less {plan.cost} than "
                   "dense:", markup=False, soft_wrap=True)  # fmt: skip
    _out.print(line, markup=False, soft_wrap=True)


def _costs(ours: Receipt, dense: Receipt | None, saved: dict[str, float]) -> Grid:
    table = Grid(box=None, pad_edge=False, show_header=dense is not None)
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
