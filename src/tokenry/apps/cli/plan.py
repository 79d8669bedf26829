"""`tokenry plan`: the cheapest method and budget that stay within a tolerated loss on one's own texts."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Annotated

import typer

from tokenry.apps.cli import complete
from tokenry.apps.cli import options as o
from tokenry.apps.cli.status import working
from tokenry.core.errors import InvalidValue
from tokenry.pipeline.receipt import COSTS

PLAN_SCHEMA = "tokenry.plan/0"


def plan(
    documents: o.Documents,
    loss: Annotated[float, typer.Option(help="Tolerated mean KL to the model alone, in nats a token.")] = 0.05,
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
    passage: Annotated[
        int, typer.Option(min=200, help="Characters of a passage; documents are cut into these.")
    ] = 4000,
    limit: Annotated[int, typer.Option(min=4, help="Most passages with questions to try on.")] = 12,
    max_new: o.MaxNew = 24,
    model: o.Model = "smollm2",
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    trust_remote_code: o.Trust = False,
    as_json: o.Json = False,
) -> None:
    """Try methods and budgets on your own texts, and print the line that runs the cheapest good one."""
    from tokenry.core.registry import find

    names = [find(name).full_name for name in use] if use else None
    if cost not in COSTS:
        raise InvalidValue(f"plan: cost must be one of {', '.join(COSTS)}; got {cost!r}.")
    o.check(model=model, dtype=dtype)
    texts = o.read_documents(documents)

    from tokenry.apps.cli.show import plan_table, print_plan, print_tried
    from tokenry.models.files.load import load
    from tokenry.pipeline.plan import SHARES, Tried, candidates, samples
    from tokenry.pipeline.plan import plan as make_plan

    found = samples(texts, ask or [], passage)
    # Evenly over the texts, so that a long one does not stand for all.
    found = [found[i * len(found) // limit] for i in range(limit)] if len(found) > limit else found
    settings = ["dense", *(f"{name}:budget={share}" for name in names or candidates() for share in SHARES)]
    table = plan_table(settings, cost)
    with working() as status:
        language = load(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)

        def ended(tried: Tried) -> None:
            if not as_json:
                with status.aside():
                    if not tried.spec:
                        table.heading()
                    print_tried(table, tried)

        made = make_plan(
            language, found, loss=loss, cost=cost, methods=names, max_new=max_new, tell=status.counting(len(settings)),
            ended=ended,
        )  # fmt: skip
    words = ["tokenry", "run", *documents, "--ask", (ask or ["…"])[0], "--model", model]
    words += ["--use", made.chosen.spec] if made.chosen.spec else []
    line = shlex.join(words)
    if as_json:
        sys.stdout.write(
            json.dumps({"schema": PLAN_SCHEMA, "samples": len(found), "run": line, **made.to_dict()}) + "\n"
        )
    else:
        print_plan(made, line)
