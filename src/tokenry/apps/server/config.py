"""What an operator decides about a gateway: one TOML file, environment variables over it, and options over both."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from tokenry.compress.base import Compressor
from tokenry.core.errors import InvalidValue, UnreadableInput
from tokenry.core.registry import parse
from tokenry.pipeline.messages.compressing import OLDER

ENVIRONMENT = "TOKENRY_SERVE_"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::", "")


@dataclass(frozen=True, kw_only=True)
class Config:
    """A gateway.

    Args:
        upstream: where requests go, as a URL without the path that clients ask for, such as `https://api.example.com`.
        use: compressors for results of tools, in their one-line form.
        allowed: other one-line forms that a request may choose by `x-tokenry-use`; `off` is always allowed.
        tokenizer: whose tokens are counted.
        floor: results of fewer tokens stay.
        keep: names of tools whose results stay, with `*` for any letters.
        older_every: tokens between two points at which older turns shrink, and `older_use` by what; 0 for never.
        retrieve: `no`, `offer` adds the tool that brings originals back, `answer` also answers its calls.
        host: the address that is listened on, and `port`.
        hosts: names that clients may call it by beside its own, `*` for any; any where it listens on all addresses.
        keys: what clients must send as `x-tokenry-key`; none where empty.
        most_bytes: of one request.
        most_at_once: requests under way; others wait, at most `most_waiting` of them.
        seconds: that shortening may take before a request passes as it is.
        upstream_seconds: without a byte from the upstream after which a request ends.
        client_seconds: in which a client sends no byte, or takes none, after which its request ends.
        drain_seconds: that requests under way get when the gateway is stopped.
        ledger: the SQLite file of what was saved; in the user's cache where not given.
        originals: the SQLite file of originals; in the user's cache where not given.
        usage: whether a reply that comes at once says in its `usage` what was shortened, as its headers do.
        record_text: whether the ledger keeps what the latest requests said, as it came and as it went on.
    """

    upstream: str = ""
    use: tuple[str, ...] = ("lexical_relevance:budget=0.25,units=auto",)
    allowed: tuple[str, ...] = ()
    tokenizer: str = "o200k_base"
    floor: int = 2000
    keep: tuple[str, ...] = ()
    older_every: int = 0
    older_use: tuple[str, ...] = OLDER
    retrieve: str = "no"
    host: str = "127.0.0.1"
    port: int = 8484
    hosts: tuple[str, ...] = ()
    keys: tuple[str, ...] = field(default=(), repr=False)
    most_bytes: int = 32 << 20
    most_at_once: int = 64
    most_waiting: int = 256
    seconds: float = 10.0
    upstream_seconds: float = 300.0
    client_seconds: float = 60.0
    drain_seconds: float = 30.0
    ledger: str = ""
    originals: str = ""
    usage: bool = True
    record_text: bool = False

    def __post_init__(self) -> None:
        address = urlsplit(self.upstream)
        if "@" in address.netloc:
            raise InvalidValue("upstream: must be an address without a password; clients send keys of their own.")
        if self.upstream and (address.scheme not in ("http", "https") or not address.hostname or address.query):
            raise InvalidValue(f"upstream: must be an address such as https://api.example.com; got {self.upstream!r}.")
        if self.retrieve not in ("no", "offer", "answer"):
            raise InvalidValue(f"retrieve: must be one of no, offer, answer; got {self.retrieve!r}.")
        for name in ("floor", "older_every", "most_waiting"):
            if getattr(self, name) < 0:
                raise InvalidValue(f"{name}: must be at least 0; got {getattr(self, name)}.")
        for name in ("most_bytes", "most_at_once", "seconds", "upstream_seconds", "client_seconds", "drain_seconds"):
            if getattr(self, name) <= 0:
                raise InvalidValue(f"{name}: must be more than 0; got {getattr(self, name)}.")
        if not 0 <= self.port < 65536:
            raise InvalidValue(f"port: must be in [0, 65535]; got {self.port}.")
        for spec in (*self.use, *self.allowed, *self.older_use):
            if not isinstance(parse(spec), Compressor):
                raise InvalidValue(f"use: must be compressors, which text can carry; got {spec!r}.")

    def chosen(self, wanted: str | None) -> tuple[str, ...]:
        """The methods of a request: the operator's, none, or one of those that it may choose."""
        if wanted == "off":
            return ()
        return (wanted,) if wanted is not None and wanted in (*self.allowed, *self.use) else self.use

    def is_called(self, host: str) -> bool:
        """Whether a client may call the gateway by this name; pages of strangers know this machine by theirs."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if "*" in self.hosts or (not self.hosts and self.host in EVERYWHERE):
            return True
        own = LOOPBACK if self.host in LOOPBACK else (self.host,)
        return name in (*own, *self.hosts)

    @classmethod
    def read(cls, file: str | Path | None = None, environment: Mapping[str, str] | None = None, **given: Any) -> Config:
        """A configuration from a file, the environment (`TOKENRY_SERVE_PORT=…`) and what is given, the last above all.

        Raises:
            UnreadableInput: the file is missing or no TOML.
            InvalidValue: a name that there is not, or a value that its rule forbids.
        """
        kinds = get_type_hints(cls)
        values = {} if file is None else _table(Path(file))
        for name, text in (os.environ if environment is None else environment).items():
            if name.startswith(ENVIRONMENT):
                values[name.removeprefix(ENVIRONMENT).lower()] = text
        values |= {name: value for name, value in given.items() if value is not None}
        known = {f.name for f in fields(cls)}
        for name in values:
            if name not in known:
                raise InvalidValue(f"configuration: has no {name!r}; it has {', '.join(sorted(known))}.")
        return replace(cls(), **{name: _as(kinds[name], value, name) for name, value in values.items()})


def _table(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableInput(f"{file}: must be a readable file; {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UnreadableInput(f"{file}: must be TOML; {error}.") from error


def _as(kind: Any, value: Any, name: str) -> Any:
    """A value of a file or of the environment as the type that it must be."""
    if kind == tuple[str, ...]:
        items = value.split() if isinstance(value, str) else value
        if isinstance(items, list | tuple) and all(isinstance(i, str) for i in items):
            return tuple(items)
    elif kind is bool and str(value).lower() in ("true", "false", "1", "0", "yes", "no"):
        return str(value).lower() in ("true", "1", "yes")
    elif kind in (int, float) and not isinstance(value, bool):
        try:
            return kind(value)
        except (TypeError, ValueError):
            pass
    elif kind is str and isinstance(value, str):
        return value
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    raise InvalidValue(f"{name}: must be {words.get(kind, 'a list of texts')}; got {value!r}.")
