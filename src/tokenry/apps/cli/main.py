"""The command `tokenry`: every subcommand in a file of its own."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from tokenry import __version__
from tokenry.apps.cli import (
    adapt,
    audit,
    batch,
    compare,
    compress,
    decode,
    demo,
    encode,
    hypernetwork,
    measure,
    methods,
    models,
    plan,
    probe,
    quiet,
    run,
    serve,
    studio,
    train,
    tune,
)
from tokenry.apps.cli.interrupt import heard
from tokenry.core.errors import TokenryError

Verbose = Annotated[bool, typer.Option("--verbose", help="Log what happens on standard error.")]

INTERRUPTED = 130
"""Exit status of who was stopped by Ctrl-C."""

app = typer.Typer(
    name="tokenry",
    help="Everything that happens to tokens between raw data and attention.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"tokenry {__version__}\n")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_say_version)
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Everything that happens to tokens between raw data and attention."""
    quiet.settle(verbose)


def _add(function: Callable[..., None], name: str | None = None, to: typer.Typer = app) -> None:
    """Add a command, which knows `--verbose` like all the others."""
    given = inspect.signature(function, eval_str=True)
    shared = inspect.Parameter("verbose", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Verbose)

    def command(verbose: bool = False, **options: Any) -> None:
        if verbose:
            quiet.settle(verbose)
        try:
            function(**options)
        except BrokenPipeError:
            # Whoever read has enough; what is flushed at the end must not complain again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)

    parameters = [*given.parameters.values(), shared]
    command.__signature__ = given.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = function.__doc__
    to.command(name or function.__name__)(command)


COMMANDS: tuple[Callable[..., None], ...] = (
    run.run, demo.demo, compress.compress, compare.compare, plan.plan, batch.batch, probe.probe, adapt.adapt,
    hypernetwork.hypernetwork, encode.encode, decode.decode, audit.audit, train.train, tune.tune, measure.measure,
    serve.serve, serve.savings, studio.studio, methods.explain,
)  # fmt: skip
for _command in COMMANDS:
    _add(_command)
_add(methods.list_methods, "list")
_add(models.list_models, "list", models.app)
_add(models.get, "get", models.app)
_add(models.remove, "remove", models.app)
app.add_typer(models.app, name="models")


def main() -> None:
    """Run a command; what the user got wrong is one sentence, or JSON with `--json`, and exit status 2."""
    try:
        with heard():
            status = app(standalone_mode=False, prog_name="tokenry") or 0
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(status)
    except TokenryError as error:
        _fail(type(error).__name__, str(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("\ninterrupted; nothing was left half written\n")
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        _fail("UsageError", error.format_message())


def _fail(kind: str, message: str) -> None:
    if "--json" in sys.argv:
        sys.stderr.write(json.dumps({"error": {"kind": kind, "message": message}}) + "\n")
    else:
        sys.stderr.write(f"error: {message}\n")
    sys.exit(2)
