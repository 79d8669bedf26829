"""`tokenry serve` and `tokenry savings`: a gateway in front of any model, and what it saved."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from tokenry.apps.cli import complete
from tokenry.apps.cli import options as o
from tokenry.apps.cli.interrupt import ending

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
    pipeline: o.PipelineFile = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings in TOML.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Whose tokens are counted.")] = None,
    floor: Annotated[int | None, typer.Option(help="Results of fewer tokens stay.")] = None,
    keep: Annotated[list[str] | None, typer.Option(help="A tool whose results stay; * stands for any letters.")] = None,
    retrieve: Annotated[str | None, typer.Option(help="no, offer or answer: how originals come back.")] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Serve from replicas on Ray: local, auto, or an address.")
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, help="On Ray; each conversation stays on one of them.")] = 2,
    studio: Annotated[bool, typer.Option("--studio", help="Also serve the studio, at /studio/.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Read the settings, say what they are, and stop.")] = False,
) -> None:
    """Serve a gateway: results of tools get shorter on their way to a model behind an API.

    With --model a model at hand answers; --use then names an attention method that is bound to each request's cache.
    """
    from tokenry.core.errors import InvalidValue

    methods = o.chosen(use, pipeline, some=model is None)
    o.check(use=methods, model=model)
    if studio and ray is not None:
        raise InvalidValue("studio: must be beside what this process serves; got --ray; start `tokenry studio` for it.")
    if model is not None:
        far = None if ray is None else (ray, replicas)
        where = host or "127.0.0.1", 8484 if port is None else port
        _speak(model, methods, *where, studio=studio, check=check, far=far)
        return
    from dataclasses import asdict

    from tokenry.apps.server.config import Config
    from tokenry.models.text.counting import Counter

    settings = Config.read(
        config, upstream=upstream, use=tuple(methods) or None, host=host, port=port, tokenizer=tokenizer,
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
    if ray is not None:
        from tokenry.apps.server.on_ray import gateway_app

        most = settings.most_at_once + settings.most_waiting
        with _door(
            gateway_app, asdict(settings), ray, replicas, settings.most_bytes, most, settings.client_seconds
        ) as door:
            sys.stderr.write(f"http://{settings.host}:{settings.port} -> {replicas} replicas -> {settings.upstream}\n")
            _run(uvicorn, door, settings.host, settings.port, int(settings.drain_seconds), date=False)
        return
    from tokenry.apps.server.gateway import Gateway

    app = Gateway(settings).app()
    if studio:
        from tokenry.apps.studio.app import mount

        mount(app, settings.host)
    sys.stderr.write(f"http://{settings.host}:{settings.port} -> {settings.upstream}\n")
    _run(uvicorn, app, settings.host, settings.port, int(settings.drain_seconds), date=False)


def _speak(
    model: str, use: list[str], host: str, port: int, *, studio: bool, check: bool, far: tuple[str, int] | None
) -> None:
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
    if far is not None:
        from tokenry.apps.server.on_ray import model_app

        told = {"model": model, "use": use[0] if use else None, "host": host}
        with _door(model_app, told, *far, most_bytes=32 << 20, most=64) as door:
            sys.stderr.write(f"http://{host}:{port} serves {model} from {far[1]} replicas\n")
            _run(uvicorn, door, host, port, DRAIN_SECONDS)
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
    _run(uvicorn, app, host, port, DRAIN_SECONDS)
    speaker.close()


@contextmanager
def _door(
    build: Any, told: dict[str, Any], ray: str, replicas: int, most_bytes: int, most: int, client_seconds: float = 60.0
) -> Iterator[Any]:
    """The application in front of replicas, which live as long as the block."""
    from tokenry.apps.server.on_ray import Door, deployed
    from tokenry.core.needs import need
    from tokenry.pipeline.cluster import ending_with, joined

    need("ray.serve", "ray")
    with joined(ray, replicas) as at, ending_with(at), deployed(build, told, replicas, most) as asked:
        yield Door(asked, most_bytes, most=most, client_seconds=client_seconds)


def _run(uvicorn: Any, app: Any, host: str, port: int, drain: int, *, date: bool = True) -> None:
    """Serve until somebody stops it.

    Args:
        drain: seconds that answers under way get then.
        date: whether replies get a date; those of an upstream bring theirs.
    """
    with ending():
        uvicorn.run(
            app, host=host, port=port, http=PARSER, log_level="warning", access_log=False, server_header=False,
            date_header=date, timeout_graceful_shutdown=drain,
        )  # fmt: skip


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
