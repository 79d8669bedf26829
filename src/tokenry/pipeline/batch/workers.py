"""Parts of a corpus done by several processes of this machine, each of which loads once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from tokenry.core import errors
from tokenry.core.errors import TokenryError, WorkerLost
from tokenry.pipeline.arm import end_with_the_other
from tokenry.pipeline.batch.corpus import Part
from tokenry.pipeline.batch.doing import Done, Form, do
from tokenry.pipeline.batch.work import Work

DEATHS = 20
"""Workers that one part may cost before the run ends."""


def done_by_workers(
    parts: Sequence[Part], work: Work, form: Form, workers: int, tell: Callable[[str], None] = lambda _: None
) -> Iterator[Done]:
    """Parts as they end, in any order.

    A worker that is killed is replaced and its part done again. A row at which workers were killed twice is a bad row,
    whose reason names the worker and what killed it.

    Args:
        tell: called with what happens to workers.

    Raises:
        WorkerLost: a part that workers do not survive.
        TokenryError: what a worker could not load.
    """
    left = deque(parts)
    tries: dict[int, _Tried] = {}
    team: list[_Worker] = []
    try:
        for _ in range(min(workers, len(left))):
            team.append(_Worker(work, form))
        while left or any(w.part for w in team):
            for one in team:
                if one.part is None and left:
                    one.give(left.popleft(), tries)
            for pipe in wait([w.pipe for w in team if w.part]):
                one = next(w for w in team if w.pipe is pipe)
                try:
                    done = one.heard()
                except (EOFError, OSError):
                    assert one.part is not None
                    tell(tries.setdefault(one.part.number, _Tried()).lost(one))
                    left.appendleft(one.part)
                    team[team.index(one)] = _Worker(work, form)
                    one.end()
                    continue
                if done is not None:
                    yield done
    finally:
        for one in team:
            one.end()


@dataclass(slots=True)
class _Tried:
    """What happened to a part so far."""

    deaths: int = 0
    at: list[int] = field(default_factory=list)
    lost_rows: dict[int, str] = field(default_factory=dict)

    def lost(self, one: _Worker) -> str:
        """Note that a worker died, and say so.

        Raises:
            WorkerLost: too many did.
        """
        assert one.part is not None
        part, status = one.part, one.process.wait()
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        why = "; memory may have run out: use fewer workers or smaller rows" if status == -9 else ""
        where = f"row {part.first + one.row + 1} of {part.file}" if one.row >= 0 else "loading"
        said = f"worker process {one.process.pid} {how} at {where}{why}"
        self.deaths += 1
        if self.deaths >= DEATHS or (one.row < 0 and self.deaths > 1):
            raise WorkerLost(f"batch: workers must live through part {part.number}; {said}; parts that are done stay.")
        if one.row in self.at:
            self.lost_rows[one.row] = f"row: must be done by a worker that lives; {said}."
        self.at.append(one.row)
        return said


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, work: Work, form: Form) -> None:
        self.pipe, theirs = Pipe()
        command = [sys.executable, "-m", "tokenry.pipeline.batch.workers", str(theirs.fileno())]
        # Its standard input closes when this process ends, however it does.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=sys.stderr.fileno() if _has_file(sys.stderr) else None,
            pass_fds=[theirs.fileno()],
        )  # fmt: skip
        theirs.close()
        self.part: Part | None = None
        self.row = -1
        # Where it died at once, what reads the pipe finds that out.
        with suppress(OSError):
            self.pipe.send((work, form))

    def give(self, part: Part, tries: dict[int, _Tried]) -> None:
        """Have it do a part."""
        self.part, self.row = part, -1
        lost = tries[part.number].lost_rows if part.number in tries else {}
        try:
            self.pipe.send((part, lost))
        except OSError:
            # It died idle; what reads the pipe finds that out.
            return

    def heard(self) -> Done | None:
        """What it says: a part that it did, or nothing where it began a row."""
        said = self.pipe.recv()
        if isinstance(said, int):
            self.row = said
            return None
        self.part = None
        if isinstance(said, Done):
            return said
        kind, message = said
        raise getattr(errors, kind, TokenryError)(message)

    def end(self) -> None:
        """Stop it, whatever it does."""
        self.pipe.close()
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()


def _has_file(stream: Any) -> bool:
    try:
        return stream.fileno() >= 0
    except (AttributeError, OSError, ValueError):
        return False


def main() -> None:
    """Do what comes through the pipe, until it closes."""
    end_with_the_other()
    # Ctrl-C reaches all processes of a terminal; who asked ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = Connection(int(sys.argv[1]))
    try:
        work, form = pipe.recv()
        try:
            doing = work.open()
            with work.computing():
                while True:
                    part, lost = pipe.recv()
                    pipe.send(do(part, doing, form, begins=pipe.send, lost=lost))
        except TokenryError as error:
            pipe.send((type(error).__name__, str(error)))
    except (EOFError, OSError):
        # Who asked is gone.
        os._exit(1)


if __name__ == "__main__":
    main()
