"""`tokenry batch`: shorten, encode, measure or answer over every row of a corpus."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tokenry.apps.cli import complete
from tokenry.apps.cli import options as o
from tokenry.apps.cli.status import bars, warn


def batch(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="JSON lines, Parquet, texts, saved datasets, and folders of these.",
            autocompletion=complete.files,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder, or one of the same run, which goes on.")],
    use: o.Use = None,
    pipeline: o.PipelineFile = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who answers a question.", autocompletion=complete.models)
    ] = None,
    tokenizer: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Whose tokens count; without a method, what texts are encoded by.",
            autocompletion=complete.tokenizers,
        ),
    ] = "smollm2",
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="What is read of a row: text, or else messages.")
    ] = None,
    ask: o.Ask = None,
    ask_column: Annotated[str | None, typer.Option(metavar="NAME", help="A column that holds the questions.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    floor: Annotated[int, typer.Option(help="Of messages: results of fewer tokens stay.")] = 2000,
    max_new: o.MaxNew = 64,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Only this column comes along; repeatable.")
    ] = None,
    to: Annotated[str, typer.Option(help="jsonl or parquet.", autocompletion=lambda: ["jsonl", "parquet"])] = "jsonl",
    workers: Annotated[int, typer.Option(min=1, help="Processes that work side by side.")] = 1,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Work on Ray: local, auto, or the address of a cluster.")
    ] = None,
    part: Annotated[
        int | None, typer.Option(min=1, help="Rows of a part, which is written whole or not at all.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads that each worker computes with.")] = 1,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    trust_remote_code: o.Trust = False,
    as_json: o.Json = False,
) -> None:
    """Shorten, encode, measure or answer over every row of a corpus, by what the methods are.

    A run that was stopped goes on where it was when the same line is run again.
    """
    methods = o.chosen(use, pipeline, some=model is None)
    o.check(use=methods, model=model, dtype=dtype)

    from tokenry.pipeline.batch.run import run_batch
    from tokenry.pipeline.batch.work import Work

    work = Work(
        use=tuple(methods), model=model, tokenizer=tokenizer, column=column, ask=ask, ask_column=ask_column,
        system=system, floor=floor, max_new=max_new, threads=threads, device=device, dtype=dtype,
        trust_remote_code=trust_remote_code,
    )  # fmt: skip
    with bars() as progress:
        receipt = run_batch(
            inputs, work, out, to=to, keep=keep, workers=workers, ray=ray, size=part, progress=progress, tell=warn
        )
    if as_json:
        sys.stdout.write(json.dumps(receipt) + "\n")
    else:
        _print(receipt)


def _print(receipt: dict[str, Any]) -> None:
    sums = receipt["sums"]
    done = sums["rows"] + sums["bad"]
    lines = [f"{name.replace('_', ' '):<16} {value:>14,}" for name, value in sums.items() if name != "bad"]
    if sums["bad"]:
        lines.append(f"{'bad rows':<16} {sums['bad']:>14,}   reasons in {receipt['out']}/errors-*.jsonl")
    if receipt["parts_before"]:
        lines.append(f"{'parts before':<16} {receipt['parts_before']:>14,} of {receipt['parts']:,}")
    lines.append(f"{'seconds':<16} {receipt['seconds']:>14,.1f}")
    if receipt["seconds"] and not receipt["parts_before"]:
        lines.append(f"{'rows a second':<16} {done / receipt['seconds']:>14,.1f}")
    for name, one in receipt["workers"].items():
        lines.append(f"{name}: {one['rows']:,} rows, at most {one['peak_bytes'] / 1e6:,.0f} MB")
    sys.stdout.write("\n".join([*lines, str(receipt["out"])]) + "\n")
