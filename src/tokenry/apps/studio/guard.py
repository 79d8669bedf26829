"""Who may call the studio: this machine by its own names, from the studio's own page, with the key where one is set."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokenry.apps.server.config import LOOPBACK

KEY = "x-tokenry-key"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a page of the studio may load: nothing but the studio."""
HEADERS = (
    (b"content-security-policy", POLICY.encode()), (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"), (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"), (b"cache-control", b"no-cache"),
)  # fmt: skip


class Guard:
    """Stands in front of an application.

    Args:
        hosts: names that the studio may be called by; any where empty, which needs a key.
        key: what calls of the API must bring in the header `x-tokenry-key`; none where empty.
    """

    def __init__(self, app: ASGIApp, *, hosts: tuple[str, ...] = LOOPBACK, key: str = "") -> None:
        assert hosts or key
        self._app, self._hosts, self._key = app, hosts, key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        refusal = self._refusal(Request(scope))
        await (refusal or self._app)(scope, receive, guarded)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if self._hosts and _name(f"//{host}") not in self._hosts:
            return refused(421, "host: must be a name of the studio; call it by the address that it printed.")
        origin = request.headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return refused(403, "origin: must be the studio's own page; pages of others may not call it.")
        given, asks = request.headers.get(KEY, "").encode(), "/api/" in request.scope["path"]
        if self._key and asks and not hmac.compare_digest(given, self._key.encode()):
            return refused(401, f"key: must be the studio's, in the header {KEY}; open the address that it printed.")
        if request.method == "POST" and request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return refused(415, "body: must be of the type application/json.")
        return None


def refused(status: int, sentence: str) -> Response:
    """A sentence that the page shows."""
    return JSONResponse({"error": sentence}, status)


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
