"""`tokenry studio`: a page on this machine that shows what happens to tokens."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
import webbrowser
from typing import Annotated

import typer

from tokenry.apps.cli import complete
from tokenry.apps.cli import options as o
from tokenry.apps.cli.interrupt import ending

STOP_SECONDS = 3
"""That requests under way get when the studio is stopped."""


def studio(
    reader: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A tokenizer or model beside those that are ready: a folder, a GGUF file …; repeat.",
            autocompletion=complete.tokenizers,
        ),
    ] = None,
    pipeline: o.PipelineFile = None,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine it needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8485,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
) -> None:  # fmt: skip
    """Open the studio: paste a text, choose methods, and see every token at every stage."""
    from tokenry.apps.cli.serve import PARSER, needed

    methods = o.chosen(None, pipeline)
    uvicorn = needed("starlette")
    # Whatever a page names, nothing is fetched for it; read where Hugging Face's libraries are imported.
    os.environ["HF_HUB_OFFLINE"] = "1"

    from tokenry.apps.server.config import EVERYWHERE, LOOPBACK
    from tokenry.apps.studio.app import Studio

    at_home = host in LOOPBACK
    key = "" if at_home else secrets.token_urlsafe(24)
    hosts = LOOPBACK if at_home else () if host in EVERYWHERE else (host,)
    app = Studio(reader or (), methods, hosts=hosts, key=key).app()
    # What stands behind the sign # is sent to no server and stands in no log.
    here = _listening(host, port)
    named = f"[{host}]" if ":" in host else host
    address = f"http://{named}:{here.getsockname()[1]}/" + (f"#key={key}" if key else "")
    sys.stderr.write(f"studio: {address}\n")
    sys.stderr.flush()
    if open_page:
        threading.Timer(0.5, webbrowser.open, (address,)).start()
    settings = uvicorn.Config(
        app, http=PARSER, log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )  # fmt: skip
    with ending():
        uvicorn.Server(settings).run(sockets=[here])


def _listening(host: str, port: int) -> socket.socket:
    """A socket at an address; port 0 is any that is free.

    Raises:
        InvalidValue: an address that this machine does not have, or a port that is taken.
    """
    from tokenry.core.errors import InvalidValue

    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise InvalidValue(
            f"studio: must listen on an address of this machine and a free port; {host}, port {port}: "
            f"{error.strerror}; choose others with --host and --port."
        ) from error
