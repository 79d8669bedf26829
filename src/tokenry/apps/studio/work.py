"""Work that tells what it is doing while it goes on, and that stops when nobody listens any more."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool

from tokenry.apps.studio import again
from tokenry.apps.studio.shelf import Shelf
from tokenry.apps.studio.task import Task
from tokenry.core.errors import TokenryError
from tokenry.core.progress import watched

log = logging.getLogger("tokenry.studio")
_END = object()


class Stopped(Exception):
    """Nobody listens any more."""


def done(task: Task, shelf: Shelf, tell: Callable[[str], None]) -> dict[str, Any]:
    """What a task gives, with the lines that do it again.

    Args:
        tell: called with pieces of an answer as they come.
    """
    shelf.import_libraries()
    if task.kind == "text":
        from tokenry.apps.studio.reading import read_text

        found = read_text(task, shelf, tell)
    elif task.kind == "messages":
        from tokenry.apps.studio.talking import read_messages

        found = read_messages(task, shelf)
    else:
        from tokenry.apps.studio.seeing import read_signal

        found = read_signal(task)
    return found | {"command": again.command(task), "python": again.python(task)}


class Works:
    """One piece of heavy work at a time; light work, which no model does, passes it by."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._heavy = asyncio.Semaphore(1)
        self._light = asyncio.Semaphore(2)

    async def events(self, task: Task) -> AsyncIterator[bytes]:
        """Lines of JSON: what is going on, pieces of an answer, and the result or what is wrong."""
        slots = self._heavy if task.answer or task.methods else self._light
        if slots.locked():
            yield _line("progress", "waits for other work")
        await slots.acquire()
        said: asyncio.Queue[Any] = asyncio.Queue()
        loop, gone = asyncio.get_running_loop(), False

        def put(kind: str) -> Callable[[str], None]:
            def told(words: str) -> None:
                if gone:
                    raise Stopped
                loop.call_soon_threadsafe(said.put_nowait, _line(kind, words))

            return told

        def work() -> bytes:
            with watched(put("progress")):
                return _line("result", done(task, self._shelf, put("piece")))

        def ended(running: asyncio.Future[bytes]) -> None:
            # The slot is held until the work has really ended, also where nobody waits for it any more.
            slots.release()
            said.put_nowait(_END)
            if not running.cancelled():
                running.exception()

        running = asyncio.ensure_future(run_in_threadpool(work))
        running.add_done_callback(ended)
        try:
            while (line := await said.get()) is not _END:
                yield line
            yield _ended(running)
        finally:
            gone = True


async def refused_work(error: TokenryError) -> AsyncIterator[bytes]:
    """The one line of work that is not begun."""
    yield _line("error", str(error))


def _ended(running: asyncio.Future[bytes]) -> bytes:
    try:
        return running.result()
    except TokenryError as error:
        return _line("error", str(error))
    except MemoryError:
        return _line("error", "studio: must fit into memory; it did not; take a smaller input or model.")
    except Exception as error:
        log.warning("a task failed", exc_info=True)
        return _line("error", f"studio: could not do this; it is a fault of tokenry: {type(error).__name__}: {error}.")


def _line(kind: str, value: Any) -> bytes:
    return json.dumps({kind: value}, ensure_ascii=False, separators=(",", ":")).encode(errors="replace") + b"\n"
