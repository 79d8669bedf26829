"""`tokenry plan`: the cheapest method and budget that stay within a tolerated loss on one's own texts."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Annotated

import typer

from tokenry.apps.cli import options as o

PLAN_SCHEMA = "tokenry.plan/0"


def plan(
    documents: o.Documents,
    loss: Annotated[float, typer.Option(help="Tolerated mean KL to the model alone, in nats a token.")] = 0.05,
    ask: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="A question as users ask; repeatable.")] = None,
    cost: Annotated[str, typer.Option(help="What shall be small: seconds, tokens, bytes or flops.")] = "seconds",
    use: Annotated[
        list[str] | None, typer.Option("--use", metavar="NAME", help="Try only this method; repeatable.")
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
    texts = o.read_documents(documents)

    from tokenry.apps.cli.show import print_plan, working
    from tokenry.models.files.load import load
    from tokenry.pipeline.plan import SHARES, candidates, samples
    from tokenry.pipeline.plan import plan as make_plan

    found = samples(texts, ask or [], passage)
    # Evenly over the texts, so that a long one does not stand for all.
    found = [found[i * len(found) // limit] for i in range(limit)] if len(found) > limit else found
    language = load(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    with working(1 + len(SHARES) * len(names or candidates())) as tell:
        made = make_plan(language, found, loss=loss, cost=cost, methods=names, max_new=max_new, tell=tell)
    words = ["tokenry", "run", *documents, "--ask", (ask or ["…"])[0], "--model", model]
    words += ["--use", made.chosen.spec] if made.chosen.spec else []
    line = shlex.join(words)
    if as_json:
        sys.stdout.write(
            json.dumps({"schema": PLAN_SCHEMA, "samples": len(found), "run": line, **made.to_dict()}) + "\n"
        )
    else:
        print_plan(made, line)
