"""`tokenry serve` and `tokenry savings`: a gateway in front of any model, and what it saved."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tokenry.apps.cli import complete
from tokenry.apps.cli import options as o

DRAIN_SECONDS = 30
"""That answers under way get when a served model is stopped."""
PARSER = "h11"
"""Reads requests, whatever else is installed: another parser takes lines that this one refuses."""
SAVINGS_SCHEMA = "tokenry.savings/0"


def serve(
    upstream: Annotated[str | None, typer.Option(help="Address of the API, such as https://api.example.com.")] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Serve this model itself, not an API.", autocompletion=complete.models),
    ] = None,
    use: o.Use = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings in TOML.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Whose tokens are counted.")] = None,
    floor: Annotated[int | None, typer.Option(help="Results of fewer tokens stay.")] = None,
    keep: Annotated[list[str] | None, typer.Option(help="A tool whose results stay; * stands for any letters.")] = None,
    retrieve: Annotated[str | None, typer.Option(help="no, offer or answer: how originals come back.")] = None,
    studio: Annotated[bool, typer.Option("--studio", help="Also serve the studio, at /studio/.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Read the settings, say what they are, and stop.")] = False,
) -> None:
    """Serve a gateway: results of tools get shorter on their way to a model behind an API.

    With --model a model at hand answers; --use then names an attention method that is bound to each request's cache.
    """
    o.check(use=use or [], model=model)
    if model is not None:
        _speak(model, use or [], host or "127.0.0.1", 8484 if port is None else port, studio=studio, check=check)
        return
    from dataclasses import asdict

    from tokenry.apps.server.config import Config
    from tokenry.core.errors import InvalidValue
    from tokenry.models.text.counting import Counter

    settings = Config.read(
        config, upstream=upstream, use=tuple(use) if use else None, host=host, port=port, tokenizer=tokenizer,
        floor=floor, keep=tuple(keep) if keep else None, retrieve=retrieve,
    )  # fmt: skip
    if not settings.upstream:
        raise InvalidValue("upstream: must be given, as the address of the API that requests go on to; got none.")
    Counter.of(settings.tokenizer)
    if check:
        shown = asdict(settings) | {"keys": len(settings.keys)}
        sys.stdout.write("".join(f"{name} = {json.dumps(value)}\n" for name, value in shown.items()))
        return

    uvicorn = needed("starlette", "httpx", "prometheus_client")
    from tokenry.apps.server.gateway import Gateway

    app = Gateway(settings).app()
    if studio:
        from tokenry.apps.studio.app import mount

        mount(app, settings.host)
    sys.stderr.write(f"http://{settings.host}:{settings.port} -> {settings.upstream}\n")
    uvicorn.run(
        app, host=settings.host, port=settings.port, http=PARSER, log_level="warning", access_log=False,
        server_header=False, date_header=False, timeout_graceful_shutdown=int(settings.drain_seconds),
    )  # fmt: skip


def _speak(model: str, use: list[str], host: str, port: int, *, studio: bool, check: bool) -> None:
    """Serve a model at hand."""
    from tokenry.core.errors import InvalidValue

    if len(use) > 1:
        raise InvalidValue(f"use: must be at most one attention method for a model at hand; got {', '.join(use)}.")
    uvicorn = needed("starlette")
    from tokenry.apps.server.config import LOOPBACK
    from tokenry.apps.server.model import ModelApi
    from tokenry.apps.server.speaking import Speaker, method_of
    from tokenry.models.files.load import load

    method = method_of(use[0] if use else None)
    if check:
        shown = {"model": model, "use": str(method or ""), "host": host, "port": port}
        sys.stdout.write("".join(f"{name} = {json.dumps(value)}\n" for name, value in shown.items()))
        return
    speaker = Speaker(load(model), use[0] if use else None)
    app = ModelApi(speaker).app()
    if studio:
        from tokenry.apps.studio.app import mount

        mount(app, host, [model])
    if host in LOOPBACK:
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        # Pages of strangers know this machine by names of theirs.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))
    sys.stderr.write(f"http://{host}:{port} serves {speaker.language.name}\n")
    uvicorn.run(
        app, host=host, port=port, http=PARSER, log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )  # fmt: skip
    speaker.close()


def needed(*libraries: str) -> Any:
    """uvicorn, after everything that a server needs beside it was found."""
    from tokenry.core.needs import need

    for library in libraries:
        need(library, "serve")
    return need("uvicorn", "serve")


def savings(
    ledger: Annotated[str, typer.Option(metavar="FILE", help="The ledger; the gateway's usual one if not given.")] = "",
    as_json: o.Json = False,
) -> None:
    """Show what the gateway saved."""
    from tokenry.apps.server.ledger import Ledger

    found = Ledger(ledger or None).summary()
    if as_json:
        sys.stdout.write(json.dumps({"schema": SAVINGS_SCHEMA, **found}) + "\n")
        return
    of = found["tokens_in"]
    lines = [
        f"requests          {found['requests']:>12,}",
        f"shortened         {found['shortened']:>12,}",
        f"tokens of results {of:>12,} -> {found['tokens_out']:,}",
        f"brought back      {found['retrieved']:>12,}",
        f"saved             {found['saved']:>12,}" + (f" ({100 * found['saved'] / of:.0f} %)" if of else ""),
        f"provider's cache  {found['cache_read']:>12,} read, {found['cache_written']:,} written",
    ]
    for title, sums in (("by content", found["by_content"]), ("by method", found["by_method"])):
        lines += ["", title]
        lines += [f"  {name:<40} {s['tokens_in']:>12,} -> {s['tokens_out']:,}" for name, s in sums.items()]
    if found["passed_on"]:
        lines += ["", "passed on as it was, or ended early"]
        lines += [f"  {why:<40} {n:>12,}" for why, n in found["passed_on"].items()]
    sys.stdout.write("\n".join(lines) + "\n")
