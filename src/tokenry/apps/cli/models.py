"""`tokenry models`: the models that are known by a short name."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from tokenry.apps.cli import complete
from tokenry.apps.cli import options as o
from tokenry.core.errors import UnknownModel
from tokenry.models.files.catalog import ALIASES

app = typer.Typer(help="Known models: list, fetch, remove.", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete.aliases)]


def list_models(as_json: o.Json = False) -> None:
    """List known models and whether they are ready."""
    from tokenry.apps.cli.tables import listed
    from tokenry.models.files import store

    rows: list[dict[str, Any]] = [
        {"name": a.name, "kind": a.kind, "ready": store.place(a.name) is not None, "hub": a.hub,
         "package": a.package, "licence": a.licence, "about": a.about}
        for a in ALIASES.values()
    ]  # fmt: skip
    if as_json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    listed([(r["name"], "ready" if r["ready"] else "not fetched", r["about"]) for r in rows])


def get(name: Name) -> None:
    """Fetch a model and convert it once, or train it; interrupt a training, and the same command goes on with it."""
    from tokenry.apps.cli.status import working
    from tokenry.models.files import store

    _known(name)
    if ALIASES[name].recipe and store.place(name) is None:
        _train(name)
    with working(f"fetching {name}"):
        where = store.get(name)
    sys.stdout.write(f"{where}\n")


def remove(name: Name) -> None:
    """Delete the converted files of a model."""
    from tokenry.models.files import store

    _known(name)
    sys.stdout.write("removed\n" if store.remove(name) else "nothing to remove\n")


def _train(name: str) -> None:
    """Train a model by its recipe, with bars on standard error."""
    from importlib import import_module

    from tokenry.apps.cli.status import bars

    with bars() as bar:
        import_module(f"tokenry.recipes.{name}").make(
            tell=lambda what, done, steps, loss: bar(what, done, steps, f"{what}, loss {loss:.3f}")
        )


def _known(name: str) -> None:
    if name not in ALIASES:
        raise UnknownModel(f"model {name!r}: must be one of {', '.join(ALIASES)}; hub models need no fetching.")
