"""Parts of a corpus done by Ray Data, on one machine or many; who asked writes them down."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from tokenry.core import errors
from tokenry.core.errors import TokenryError
from tokenry.core.needs import need
from tokenry.pipeline.batch.corpus import Part
from tokenry.pipeline.batch.doing import Done, Form, do
from tokenry.pipeline.batch.work import Work
from tokenry.pipeline.cluster import on_cluster

RETRIES = 2
"""Times that a worker which died is replaced, and its part done again."""


def done_on_ray(parts: Sequence[Part], work: Work, form: Form, workers: int, address: str) -> Iterator[Done]:
    """Parts as they end; files of the corpus are read where the workers are, under the same paths.

    Raises:
        WorkerLost: workers die again and again, or Ray itself; the sentence says what it knows.
        TokenryError: what a worker could not load.
    """
    need("ray.data", "ray")
    for said in on_cluster(_done, (list(parts), work, form, workers), address, workers):
        if not isinstance(said, Done):
            kind, message = said
            raise getattr(errors, kind, TokenryError)(message)
        yield said


def _done(ray: Any, parts: Sequence[Part], work: Work, form: Form, workers: int) -> Iterator[Any]:
    """Have Ray do all parts."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.actor_init_retry_on_errors = False
    # Each item is one part, so that a worker that dies loses no more; as text, which no library changes.
    items = [{"part": json.dumps(asdict(part))} for part in parts]
    team = ray.data.ActorPoolStrategy(size=min(workers, len(parts)))
    rows = ray.data.from_items(items, override_num_blocks=len(items)).map(
        _Worker, fn_constructor_args=(work, form), compute=team, num_cpus=1, max_restarts=RETRIES,
        max_task_retries=RETRIES,
    )  # fmt: skip
    for row in rows.iter_rows():
        told = json.loads(row["told"])
        yield tuple(told) if isinstance(told, list) else Done(rows=row["rows"], errors=row["errors"], **told)


class _Worker:
    """What Ray builds once in each of its processes."""

    def __init__(self, work: Work, form: Form) -> None:
        self.form = form
        self.fault: tuple[str, str] | None = None
        try:
            self.doing: Any = work.open()
            self.computing = work.computing()
            self.computing.__enter__()
        except TokenryError as error:
            self.fault = type(error).__name__, str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            said = self.fault or do(_part(json.loads(row["part"])), self.doing, self.form)
        except TokenryError as error:
            said = type(error).__name__, str(error)
        if not isinstance(said, Done):
            return {"told": json.dumps(said), "rows": b"", "errors": b""}
        told = {"number": said.number, "sums": said.sums, "cost": said.cost}
        return {"told": json.dumps(told), "rows": said.rows, "errors": said.errors}


def _part(told: dict[str, Any]) -> Part:
    return Part(**told | {"span": tuple(told["span"]), "names": tuple(told["names"])})
