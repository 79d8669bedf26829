"""Something done in a process of its own that may neither take long nor take others down."""

from __future__ import annotations

import multiprocessing
import resource
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
import transformers

Row = dict[str, Any]


def alone(seconds: int, do: Callable[..., Row], *given: Any) -> Row:
    """What it gives, or a row that says that it took more than so many seconds of the processor, or died."""
    forked = multiprocessing.get_context("fork")
    ours, theirs = forked.Pipe(duplex=False)
    process = forked.Process(target=_send, args=(theirs, seconds, do, *given))
    process.start()
    theirs.close()
    row: Row = {"status": "timeout", "why": "nothing was said"}
    try:
        while True:
            row = ours.recv()
    except EOFError:
        process.join()
    return row


def said(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _send(to: Connection, seconds: int, do: Callable[..., Row], *given: Any) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    to.send({"status": "timeout", "why": f"took more than {seconds} seconds"})
    try:
        row = do(*given)
    except BaseException as error:
        row = {"status": "crash", "why": said(error)}
    to.send(row)
