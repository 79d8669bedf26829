"""Parts of a corpus done by Ray Data, on one machine or many; who asked writes them down.

Ray lives in a process of its own: where a cluster is gone its library waits forever, and a process can be ended.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any

from tokenry.core import errors
from tokenry.core.errors import TokenryError, WorkerLost
from tokenry.core.needs import need
from tokenry.pipeline.arm import end_with_the_other
from tokenry.pipeline.batch.corpus import Part
from tokenry.pipeline.batch.doing import Done, Form, do
from tokenry.pipeline.batch.work import Work
from tokenry.pipeline.cluster import answers, joined

RETRIES = 2
"""Times that a worker which died is replaced, and its part done again."""
LOOK = 2.0
"""Seconds without news after which it is looked whether Ray still answers."""
SILENT = 3
"""Looks without an answer after which it is gone."""


def done_on_ray(parts: Sequence[Part], work: Work, form: Form, workers: int, address: str) -> Iterator[Done]:
    """Parts as they end; files of the corpus are read where the workers are, under the same paths.

    Raises:
        WorkerLost: workers die again and again, or Ray itself; the sentence says what it knows.
        TokenryError: what a worker could not load.
    """
    need("ray.data", "ray")
    pipe, theirs = Pipe()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as noise:
        command = [sys.executable, "-m", "tokenry.pipeline.batch.on_ray", str(theirs.fileno())]
        driver = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=noise, stderr=noise, pass_fds=[theirs.fileno()],
            start_new_session=True,
        )  # fmt: skip
        theirs.close()
        try:
            with suppress(OSError):
                pipe.send((list(parts), work, form, workers, address))
            yield from _heard(pipe)
        except EOFError:
            noise.seek(0)
            said = _reason(noise.read())
            raise WorkerLost(
                f"batch: Ray must live until the end; it ended: {said}; parts that are done stay."
            ) from None
        finally:
            pipe.close()
            # What it started here ends with it.
            with suppress(OSError):
                os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()


def _heard(pipe: Connection) -> Iterator[Done]:
    """What the driver says, until it says that all is done."""
    at, silent = "", 0
    while True:
        if not pipe.poll(LOOK):
            silent = silent + 1 if at and not answers(at) else 0
            if silent >= SILENT:
                raise WorkerLost(f"batch: Ray must live until the end; {at} answers no more; parts that are done stay.")
            continue
        said = pipe.recv()
        if said is None:
            return
        if isinstance(said, str):
            at = said
        elif isinstance(said, Done):
            yield said
        else:
            kind, message = said
            raise getattr(errors, kind, TokenryError)(message)


class _Worker:
    """What Ray builds once in each of its processes."""

    def __init__(self, work: Work, form: Form) -> None:
        self.form = form
        try:
            self.doing: Any = work.open()
            self.fault: TokenryError | None = None
            self.computing = work.computing()
            self.computing.__enter__()
        except TokenryError as error:
            self.fault = error

    def __call__(self, row: dict[str, Any]) -> dict[str, bytes]:
        said = _plain(self.fault) if self.fault else do(pickle.loads(row["part"]), self.doing, self.form)
        return {"done": pickle.dumps(said)}


def main() -> None:
    """Have Ray do what comes through the pipe, and say each part as it ends."""
    end_with_the_other()
    pipe = Connection(int(sys.argv[1]))
    parts, work, form, workers, address = pipe.recv()
    ray = need("ray", "ray")
    try:
        with joined(address, workers) as at:
            pipe.send(at)
            for said in _rows(ray, parts, work, form, workers):
                pipe.send(said)
            pipe.send(None)
    except TokenryError as error:
        pipe.send(_plain(error))
    except ray.exceptions.RayError as error:
        said = f"batch: workers must live until the end; {_reason(str(error))}; parts that are done stay."
        pipe.send(("WorkerLost", said))


def _rows(ray: Any, parts: Sequence[Part], work: Work, form: Form, workers: int) -> Iterator[Any]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.actor_init_retry_on_errors = False
    # Each item is one part, so that a worker that dies loses no more than that; as bytes, which no library changes.
    items = [{"part": pickle.dumps(part)} for part in parts]
    team = ray.data.ActorPoolStrategy(size=min(workers, len(parts)))
    # The class of the module, not of the script that this process runs.
    from tokenry.pipeline.batch.on_ray import _Worker as Worker

    rows = ray.data.from_items(items, override_num_blocks=len(items)).map(
        Worker, fn_constructor_args=(work, form), compute=team, num_cpus=1, max_restarts=RETRIES,
        max_task_retries=RETRIES,
    )  # fmt: skip
    for row in rows.iter_rows():
        yield pickle.loads(row["done"])


def _plain(error: TokenryError) -> tuple[str, str]:
    return type(error).__name__, str(error)


def _reason(text: str) -> str:
    """The lines of a long report that say what happened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = ("OOM", "memory", "died", "killed", "unexpectedly")
    found = [line for line in lines if any(word in line for word in telling)]
    return " ".join(found[:3] or lines[-2:])[:600].rstrip(".")


if __name__ == "__main__":
    main()
