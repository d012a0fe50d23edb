"""Peers that are gone without a word, or that read nothing: their sockets are really freed, by the
server and by the kernel. A cable between two network namespaces is cut, so that no FIN and no RST
comes, which the loopback interface would always send."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from namespaces import Cable, Server, cable, client, served

HALF_OPEN_S, DEAF_S = 25.0, 10.0
KERNEL_S = 12.0  # TCP_USER_TIMEOUT, for what was still to be sent
STARVED_S = 10.0  # a machine that has no time for the server is not the server's fault
PEERS = 10
MOST_HELD_BYTES = 512 * 1024


@pytest.fixture(scope="module")
def wire() -> Iterator[Cable]:
    with cable() as made:
        yield made


@pytest.fixture(scope="module")
def server(wire: Cable, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(wire, toy, tmp_path_factory.mktemp("served") / "log") as running:
        yield running


def seconds_until(holds: Callable[[], object], limit_s: float) -> float:
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < limit_s
        time.sleep(0.05)
    return time.monotonic() - begun


def test_a_peer_whose_cable_is_cut_is_freed(wire: Cable, server: Server) -> None:
    before = server.sockets()
    with client(wire, "talking"):
        assert server.sockets() == before + 1
        wire.cut()
        try:
            freed = seconds_until(lambda: server.sockets() == before, HALF_OPEN_S + STARVED_S)
            gone = freed + seconds_until(lambda: not server.connections(), KERNEL_S + STARVED_S)
        finally:
            wire.mend()
    print(f"half-open: freed after {freed:.1f} s, gone from the kernel after {gone:.1f} s")
    assert freed <= HALF_OPEN_S


def test_peers_that_read_nothing_are_freed_and_hold_little(wire: Cable, server: Server) -> None:
    before, resident = server.sockets(), server.resident_kib()
    held = grown = 0
    with ExitStack() as peers:
        for _ in range(PEERS):
            peers.enter_context(client(wire, "deaf"))

        def freed() -> bool:
            nonlocal held, grown
            held = max(held, sum(size for _, size in server.connections()))
            grown = max(grown, server.resident_kib() - resident)
            return server.sockets() == before

        took = seconds_until(freed, DEAF_S + STARVED_S)
        gone = took + seconds_until(lambda: not server.connections(), KERNEL_S + STARVED_S)
    print(
        f"{PEERS} deaf: freed after {took:.1f} s, gone from the kernel after {gone:.1f} s; ", end=""
    )
    print(f"{held / PEERS / 1024:.0f} KiB each in the kernel, {grown / PEERS:.0f} in the process")
    assert took <= DEAF_S
    assert held / PEERS <= MOST_HELD_BYTES


def test_nothing_is_left_of_a_cable() -> None:
    with cable() as made:
        names = {made.server, made.client}
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert not names & {line.split()[0] for line in listed.stdout.splitlines() if line}
