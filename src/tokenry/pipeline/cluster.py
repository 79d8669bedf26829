"""A Ray cluster to work on: one that is there, or one that lives as long as the work."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tokenry.core.errors import InvalidValue
from tokenry.core.needs import need

LOCAL = "local"
"""Asks for a cluster of this machine alone, which ends with the block."""


@contextmanager
def joined(address: str, workers: int) -> Iterator[None]:
    """Inside the block this process is connected to Ray.

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
    if ray.is_initialized():
        yield
        return
    told = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == LOCAL:
            ray.init(address=LOCAL, num_cpus=workers + 1, include_dashboard=False, **told)
        else:
            ray.init(address=address, **told)
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise InvalidValue(
            f"ray: must be the address of a cluster that answers; got {address!r}: {first[:200]}"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
