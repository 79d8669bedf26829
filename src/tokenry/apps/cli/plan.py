"""`tokenry plan`: the cheapest method and budget that stay within a tolerated loss on one's own texts."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenry.apps.cli import complete
from tokenry.apps.cli import options as o
from tokenry.apps.cli.status import warn, working
from tokenry.core.errors import InvalidValue, UnreadableInput
from tokenry.pipeline.receipt import COSTS

if TYPE_CHECKING:
    from tokenry.models.text.document import Document
    from tokenry.pipeline.plan import Plan
    from tokenry.pipeline.planning.samples import Sample

PLAN_SCHEMA = "tokenry.plan/1"


def plan(
    documents: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DOC...]",
            help="Text files, and folders of them; - reads standard input.",
            autocompletion=complete.files,
        ),
    ] = None,
    messages: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Chat messages in JSON, with what was asked; repeatable.")
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            help="What is lost: kl, of predictions; check, right answers; needles, hidden numbers.",
            autocompletion=lambda: ["kl", "check", "needles"],
        ),
    ] = "",
    check: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="Reads an answer; exit status 0 says that it is right.")
    ] = None,
    loss: Annotated[
        float | None,
        typer.Option(help="Tolerated loss: 0.05 nats a token of kl, a quarter of the right answers of the others."),
    ] = None,
    ask: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="A question as users ask; repeatable.")] = None,
    cost: Annotated[
        str, typer.Option(help=f"What shall be small: {', '.join(COSTS)}.", autocompletion=lambda: list(COSTS))
    ] = "seconds",
    use: Annotated[
        list[str] | None,
        typer.Option(
            "--use", metavar="NAME", help="Try only this method; repeatable.", autocompletion=complete.methods
        ),
    ] = None,
    units: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="A kind of content to cut by, such as log; repeatable."),
    ] = None,
    passage: Annotated[
        int, typer.Option(min=200, help="Characters of a passage; documents are cut into these.")
    ] = 4000,
    limit: Annotated[int, typer.Option(min=4, help="Most passages with questions to try on.")] = 12,
    max_new: o.MaxNew = 24,
    results: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Keep every result here, and go on where it stopped.")
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the pipeline, for --pipeline of other commands."),
    ] = None,
    model: o.Model = "smollm2",
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    trust_remote_code: o.Trust = False,
    as_json: o.Json = False,
) -> None:
    """Try methods, budgets and kinds of content on your own texts, and print the cheapest good one."""
    from tokenry.core.registry import find

    names = [find(name).full_name for name in use] if use else None
    if cost not in COSTS:
        raise InvalidValue(f"plan: cost must be one of {', '.join(COSTS)}; got {cost!r}.")
    if not documents and not messages:
        raise InvalidValue("plan: needs texts to try on; got none; give files, folders, or --messages.")
    o.check(model=model, dtype=dtype, use=[f"compress/lexical_relevance:units={u}" for u in units or []])
    texts = _documents(documents or [])

    from tokenry.apps.cli.show import plan_table, print_plan, print_tried
    from tokenry.models.files.load import load
    from tokenry.pipeline.plan import Tried, settings
    from tokenry.pipeline.plan import plan as make_plan
    from tokenry.pipeline.planning.losses import loss_of
    from tokenry.pipeline.planning.samples import mixed, samples, samples_of_messages

    judge = loss_of(by or ("check" if check else "kl"), check)
    found: list[Sample] = samples(texts, ask or [], passage)
    for file in messages or []:
        found += samples_of_messages(_messages(file), passage)
    found = mixed(found, limit)
    tried = ["dense", *(spec for chain in settings(names, found, units or ()) for spec in chain)]
    table = plan_table(tried, cost)
    with working() as status:
        language = load(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)

        def ended(tried: Tried) -> None:
            if not as_json:
                with status.aside():
                    if not tried.spec:
                        table.heading()
                    print_tried(table, tried)

        made = make_plan(
            language, found, loss=loss, by=judge, cost=cost, methods=names, units=units or (), max_new=max_new,
            file=results, tell=status.say, ended=ended,
        )  # fmt: skip
    if write is not None:
        _write(write, made, model)
    files = [name for name in documents or [] if not Path(name).is_dir()]
    words = ["tokenry", "run", *(files or ["…"]), "--ask", (ask or ["…"])[0], "--model", model]
    if write is not None:
        words += ["--pipeline", str(write)]
    elif made.chosen.spec:
        words += ["--use", made.chosen.spec]
    line = shlex.join(words)
    if as_json:
        sys.stdout.write(json.dumps({"schema": PLAN_SCHEMA, "run": line, **made.to_dict()}) + "\n")
    else:
        print_plan(made, line)


def _documents(names: list[str]) -> list[Document]:
    """Text files, and those of folders, of which others are passed over."""
    found: list[Document] = []
    for name in names:
        if name == "-" or not Path(name).is_dir():
            found += o.read_documents([name])
            continue
        for file in sorted(f for f in Path(name).rglob("*") if f.is_file()):
            if any(part.startswith(".") for part in file.relative_to(name).parts):
                continue
            try:
                found += o.read_documents([str(file)])
            except UnreadableInput as error:
                warn(f"passed over: {error}")
    return found


def _messages(file: Path) -> list[Any]:
    """A list of messages, or that of a request."""
    _, given = o.read_messages(file)
    if isinstance(given, dict):
        given = given.get("messages", given.get("input"))
    if not isinstance(given, list):
        raise UnreadableInput(f"{file}: must be a list of messages, or a request that holds one; it is not.")
    return given


def _write(file: Path, made: Plan, model: str) -> None:
    from tokenry.pipeline.file import write_pipeline

    chosen = made.chosen
    facts = {
        "model": model, "by": made.by, "tolerated": made.tolerated, "loss": chosen.loss,
        "interval": list(chosen.interval), "cost": made.cost, made.cost: getattr(chosen, made.cost),
        "dense": getattr(made.tried[0], made.cost), "samples": made.samples,
    }  # fmt: skip
    write_pipeline(file, [chosen.spec] if chosen.spec else [], {"plan": facts})
