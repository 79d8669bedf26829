"""The command `tokenry`: every subcommand in a file of its own."""

from __future__ import annotations

import json
import sys

import typer

from tokenry.apps.cli import (
    adapt,
    compare,
    compress,
    decode,
    demo,
    encode,
    measure,
    methods,
    models,
    plan,
    probe,
    run,
    serve,
    train,
    tune,
)
from tokenry.core.errors import TokenryError

app = typer.Typer(
    name="tokenry",
    help="Everything that happens to tokens between raw data and attention.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(run.run)
app.command()(demo.demo)
app.command()(compress.compress)
app.command()(compare.compare)
app.command()(plan.plan)
app.command()(probe.probe)
app.command()(adapt.adapt)
app.command()(encode.encode)
app.command()(decode.decode)
app.command()(train.train)
app.command()(tune.tune)
app.command()(measure.measure)
app.command()(serve.serve)
app.command()(serve.savings)
app.command("list")(methods.list_methods)
app.command()(methods.explain)
app.add_typer(models.app, name="models")


def main() -> None:
    """Run a command; what the user got wrong is one sentence, or JSON with `--json`, and exit status 2."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except TokenryError as error:
        _fail(type(error).__name__, str(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("\ninterrupted; nothing was left half written\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
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


if __name__ == "__main__":
    main()
