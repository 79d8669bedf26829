"""A Ray cluster to work on: one that is there, or one that lives as long as the work."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tokenry.core.errors import InvalidValue
from tokenry.core.needs import need

LOCAL = "local"
"""Asks for a cluster of this machine alone, which ends with the block."""


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
    told = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == LOCAL:
            ray.init(address=LOCAL, num_cpus=workers + 1, include_dashboard=False, **told)
        else:
            ray.init(address=address, **told)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        said = str(error).splitlines()[0][:200]
        raise InvalidValue(f"ray: must be the address of a cluster that answers; got {address!r}: {said}") from error
    try:
        yield named if address.startswith("ray://") else ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


def answers(address: str) -> bool:
    """Whether somebody listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5.0):
            return True
    except (OSError, ValueError, OverflowError):
        return False
