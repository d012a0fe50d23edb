"""Peers that are gone without a word, or that read nothing: their sockets are really freed, by the
server and by the kernel. A cable between two network namespaces is cut, so that no FIN and no RST
comes, which the loopback interface would always send. Who reads nothing needs no cable, so both
happen at the same time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from namespaces import CLIENT, SERVER, Cable, Server, cable, clients, served

HALF_OPEN_S, DEAF_S = 25.0, 10.0
KERNEL_S = 12.0  # TCP_USER_TIMEOUT, for what was still to be sent
STARVED_S = 10.0  # a machine that has no time for the server is not the server's fault
DEAF = 30
MOST_HELD_KIB = 512.0
WARM_UP = 5


@pytest.fixture(scope="module")
def wire() -> Iterator[Cable]:
    with cable() as made:
        yield made


@pytest.fixture(scope="module")
def server(wire: Cable, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("served") / "log"
    with served(wire, toy, log, EMOTRACE_COMPUTE_BUDGET="100") as running:
        yield running


@dataclass
class Fate:
    """Of the peers at one address. Seconds until they were freed by the server, and by the kernel;
    the most that the kernel held of what was to be sent to them, in KiB."""

    freed_s: float = 0.0
    gone_s: float = 0.0
    unsent_kib: float = 0.0
    begun: float = field(default_factory=time.monotonic)

    def look(self, server: Server, peer: str) -> bool:
        """Whether there is any left."""
        found, passed = server.connections(peer), time.monotonic() - self.begun
        self.unsent_kib = max(self.unsent_kib, sum(one.unsent for one in found) / 1_024)
        if any(one.held for one in found):
            self.freed_s = passed
        if found:
            self.gone_s = passed
        return bool(found)


@dataclass(frozen=True)
class Fates:
    """grown_kib: of the server's process, while it had peers that read nothing."""

    half_open: Fate
    deaf: Fate
    grown_kib: int


def wait(server: Server, fates: dict[str, Fate]) -> int:
    """Until nothing is left of them. The most memory that the process had meanwhile, in KiB."""
    end, most = time.monotonic() + HALF_OPEN_S + KERNEL_S + STARVED_S, 0
    while [peer for peer, fate in fates.items() if fate.look(server, peer)]:
        assert time.monotonic() < end
        most = max(most, server.resident_kib())
        time.sleep(0.05)
    return most


@pytest.fixture(scope="module")
def fates(wire: Cable, server: Server) -> Fates:
    with clients(wire.client, "talking"):
        assert [one.held for one in server.connections(CLIENT)] == [True]
        wire.cut()
        half_open = Fate()
        try:
            with clients(wire.server, "deaf", WARM_UP):
                wait(server, {SERVER: Fate()})
            before = server.resident_kib()
            with clients(wire.server, "deaf", DEAF):
                deaf = Fate()
                most = wait(server, {SERVER: deaf, CLIENT: half_open})
        finally:
            wire.mend()
    return Fates(half_open, deaf, most - before)


def test_a_peer_whose_cable_is_cut_is_freed(fates: Fates) -> None:
    fate = fates.half_open
    print(f"half-open: freed after {fate.freed_s:.1f} s, of the kernel after {fate.gone_s:.1f} s")
    assert 5 < fate.freed_s <= HALF_OPEN_S


def test_peers_that_read_nothing_are_freed_and_hold_little(fates: Fates) -> None:
    fate, kernel, process = fates.deaf, fates.deaf.unsent_kib / DEAF, fates.grown_kib / DEAF
    print(
        f"{DEAF} deaf: freed after {fate.freed_s:.1f} s, of the kernel after {fate.gone_s:.1f} s;"
    )
    print(f"{kernel:.0f} KiB each in the kernel, {process:.0f} in the process")
    assert 1 < fate.freed_s <= DEAF_S
    assert kernel <= MOST_HELD_KIB
    assert process <= MOST_HELD_KIB


def test_nothing_is_left_of_a_cable() -> None:
    with cable() as made:
        names = {made.server, made.client}
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert not names & {line.split()[0] for line in listed.stdout.splitlines() if line}
