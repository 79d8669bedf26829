"""Work on a Ray cluster: one that is there, or one that lives as long as the work.

Ray lives in a process of its own: where a cluster is gone its library waits forever, and a process can be ended.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any

from tokenry.core import errors
from tokenry.core.errors import InvalidValue, TokenryError, WorkerLost
from tokenry.core.needs import need
from tokenry.pipeline.arm import end_with_the_other

LOOK = 2.0
"""Seconds without news after which it is looked whether Ray still answers."""
STARTS = 3
"""Times that a cluster of this machine is started before that is given up."""
SILENT = 3
"""Looks without an answer after which it is gone."""
LOST = 2
"""Exit status of who ends with its cluster."""
LOCAL = "local"
"""Asks for a cluster of this machine alone, which ends with the block."""


def on_cluster(work: Callable[..., Iterator[Any]], told: Sequence[Any], address: str, workers: int) -> Iterator[Any]:
    """What some work gives that is done in a process which is connected to Ray.

    Args:
        work: a function of a module, called with the library of Ray and what it is `told`.
        address: see `joined`.

    Raises:
        WorkerLost: workers die again and again, or Ray itself; the sentence says what it knows.
        TokenryError: what the work raises.
    """
    need("ray", "ray")
    pipe, theirs = Pipe()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as noise:
        command = [sys.executable, "-m", "tokenry.pipeline.cluster", str(theirs.fileno())]
        driver = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=noise, stderr=noise, pass_fds=[theirs.fileno()],
            start_new_session=True,
        )  # fmt: skip
        theirs.close()
        try:
            with suppress(OSError):
                pipe.send((work, told, address, workers))
            yield from _heard(pipe)
        except (EOFError, ConnectionError):
            noise.seek(0)
            said = _reason(noise.read())
            raise WorkerLost(f"ray: must live until the end; it ended: {said}; what is done stays.") from None
        finally:
            pipe.close()
            # What it started here ends with it.
            with suppress(OSError):
                os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
            if driver.stdin is not None:
                driver.stdin.close()


def _heard(pipe: Connection) -> Iterator[Any]:
    """What the driver says, until it says that all is done."""
    at, silent = "", 0
    while True:
        if not pipe.poll(LOOK):
            silent = silent + 1 if at and not answers(at) else 0
            if silent >= SILENT:
                raise WorkerLost(f"ray: must live until the end; {at} answers no more; what is done stays.")
            continue
        what, said = pipe.recv()
        if what == "end":
            return
        if what == "at":
            at = said
        elif what == "item":
            yield said
        else:
            raise getattr(errors, what, TokenryError)(said)


@contextmanager
def joined(address: str, workers: int) -> Iterator[str]:
    """Inside the block this process is connected to Ray; gives the address that answers while the cluster lives.

    Args:
        address: `local`, `auto` for the cluster of this machine, `host:port`, or `ray://host:port`.
        workers: processors that a local cluster says it has.

    Raises:
        InvalidValue: Ray is not installed, or nothing answers at the address.
    """
    # Nothing is reported to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = need("ray", "ray")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    named = address.removeprefix("ray://")
    if address not in (LOCAL, "auto") and not answers(named):
        raise InvalidValue(f"ray: must be local, auto, or the address of a cluster; nothing answers at {address!r}.")
    told: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        told |= {"num_cpus": workers + 1, "include_dashboard": False}
    for left in reversed(range(STARTS if address == LOCAL else 1)):
        try:
            ray.init(address=address, **told)
            break
        except Exception as error:
            # Ray raises whatever there is, also where a busy machine took longer to start it than it waits.
            ray.shutdown()
            if not left:
                said = str(error).splitlines()[0][:200]
                raise InvalidValue(f"ray: must start or answer; got {address!r}: {said}") from error
    try:
        yield named if address.startswith("ray://") else ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


@contextmanager
def ending_with(address: str) -> Iterator[None]:
    """Inside the block this process ends, with a sentence, when the cluster that it is connected to does.

    The library of Ray would wait for it, and whoever asks this process would wait too.
    """
    import ray

    over = threading.Event()

    def look() -> None:
        silent = 0
        while silent < SILENT and not over.wait(LOOK):
            silent = 0 if answers(address) and any(node["Alive"] for node in ray.nodes()) else silent + 1
        if not over.is_set():
            sys.stderr.write(f"error: ray: must live until the end; {address} answers no more; start again.\n")
            sys.stderr.flush()
            os._exit(LOST)

    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def answers(address: str) -> bool:
    """Whether somebody listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5.0):
            return True
    except (OSError, ValueError, OverflowError):
        return False


def main() -> None:
    """Do what comes through the pipe, and say what it gives."""
    end_with_the_other()
    pipe = Connection(int(sys.argv[1]))
    work, told, address, workers = pipe.recv()
    ray = need("ray", "ray")
    try:
        with joined(address, workers) as at:
            pipe.send(("at", at))
            for said in work(ray, *told):
                pipe.send(("item", said))
            pipe.send(("end", None))
    except TokenryError as error:
        pipe.send((type(error).__name__, str(error)))
    except ray.exceptions.RayError as error:
        said = f"ray: workers must live until the end; {_reason(str(error))}; what is done stays."
        pipe.send(("WorkerLost", said))


def _reason(text: str) -> str:
    """The line of a long report that says what happened, without the addresses and sizes that follow."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = ("OOM", "memory", "died", "killed", "unexpectedly")
    found = [line for line in lines if any(word in line for word in telling)]
    return next(iter(found or lines), "no reason was given").split(". ")[0][:300].rstrip(".")


if __name__ == "__main__":
    main()
