"""`tokenry models`: the models that are known by a short name."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from tokenry.apps.cli import options as o
from tokenry.core.errors import UnknownModel
from tokenry.models.files.catalog import ALIASES

app = typer.Typer(help="Known models: list, fetch, remove.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME")]


@app.command("list")
def list_models(as_json: o.Json = False) -> None:
    """List known models and whether they are ready."""
    from tokenry.models.files import store

    rows = [
        {"name": a.name, "kind": a.kind, "ready": store.place(a.name) is not None, "hub": a.hub,
         "package": a.package, "licence": a.licence, "about": a.about}
        for a in ALIASES.values()
    ]  # fmt: skip
    if as_json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    for r in rows:
        sys.stdout.write(f"{r['name']:<10} {'ready' if r['ready'] else 'not fetched':<12} {r['about']}\n")


@app.command()
def get(name: Name) -> None:
    """Fetch a model and convert it once, or train it; interrupt a training, and the same command goes on with it."""
    from tokenry.models.files import store

    _known(name)
    if ALIASES[name].recipe and store.place(name) is None:
        _train(name)
    sys.stdout.write(f"{store.get(name)}\n")


@app.command()
def remove(name: Name) -> None:
    """Delete the converted files of a model."""
    from tokenry.models.files import store

    _known(name)
    sys.stdout.write("removed\n" if store.remove(name) else "nothing to remove\n")


def _train(name: str) -> None:
    """Train a model by its recipe, with bars on standard error."""
    from importlib import import_module

    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        bars: dict[str, Any] = {}

        def tell(what: str, done: int, steps: int, loss: float) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=steps)
            progress.update(bars[what], completed=done, description=f"{what}, loss {loss:.3f}")

        import_module(f"tokenry.recipes.{name}").make(tell=tell)


def _known(name: str) -> None:
    if name not in ALIASES:
        raise UnknownModel(f"model {name!r}: must be one of {', '.join(ALIASES)}; hub models need no fetching.")
