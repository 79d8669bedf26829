"""The upstream of a gateway: requests go to it as clients wrote them, and nothing is remembered between two."""

from __future__ import annotations

from collections.abc import Iterable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from tokenry.apps.server.config import Config

OURS = b"x-tokenry-"
Headers = list[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade".split()
)
_MADE_ANEW = (b"host", b"content-length", b"accept-encoding")


def client(config: Config, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """What reaches the upstream; over the network where no transport is given."""
    made = httpx.AsyncClient(
        base_url=config.upstream,
        transport=transport,
        timeout=httpx.Timeout(config.upstream_seconds, connect=min(30.0, config.upstream_seconds)),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=config.most_at_once),
        # Cookies that one client is given are nothing that others may send.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )
    for name in ("accept", "user-agent"):
        del made.headers[name]
    return made


def asked(client: httpx.AsyncClient, scope: Any, body: bytes) -> httpx.Request:
    """A client's request, to the upstream.

    Raises:
        httpx.InvalidURL: a path that is none.
    """
    url = scope["raw_path"].decode("ascii") + (
        f"?{scope['query_string'].decode('ascii')}" if scope["query_string"] else ""
    )
    headers = [(name, value) for name, value in onward(scope["headers"]) if name not in _MADE_ANEW]
    # What is not packed can be read as it passes.
    headers.append((b"accept-encoding", b"identity"))
    return client.build_request(scope["method"], url, headers=headers, content=body)


def onward(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Headers that go on to the other side."""
    found = [(name.lower(), value) for name, value in headers]
    named = {n.strip() for name, value in found if name == b"connection" for n in value.lower().split(b",")}
    return [(n, v) for n, v in found if n not in _HOP_BY_HOP and n not in named and not n.startswith(OURS)]


def leads_astray(path: str) -> bool:
    """Whether a path may lead elsewhere than it says: upwards, to another host, or over the end of its line."""
    parts = path.replace("\\", "/").split("/")
    return any(part in ("..", ".") for part in parts) or any(ord(c) < 32 or ord(c) == 127 for c in path)
