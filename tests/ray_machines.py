"""A Ray cluster whose two nodes are both this machine, and the processes of the replicas there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil
import pytest


@dataclass(frozen=True)
class Machines:
    """cluster: Ray's. worker: its second node."""

    cluster: Any
    worker: Any

    @property
    def address(self) -> str:
        return str(self.cluster.address)


@contextmanager
def two_machines() -> Iterator[Machines]:
    """They start, and stop in the end."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("RAY_AUTH_MODE", "disabled")  # whatever token lies in the home folder
        import ray
        from ray import serve
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": 100 * 1024 * 1024}
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        worker = cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
        try:
            yield Machines(cluster, worker)
        finally:
            serve.shutdown()
            ray.shutdown()
            cluster.shutdown()


def running(application: str) -> list[psutil.Process]:
    """The processes of the replicas that have the models."""
    title = f"ServeReplica:{application}-models:"
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if title in " ".join(process.cmdline()):
                found.append(process)
    return found


@contextmanager
def held(application: str) -> Iterator[None]:
    """The replicas stand still: what is sent to them waits. They go on in the end."""
    processes = running(application)
    assert processes
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()
