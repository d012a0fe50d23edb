"""Who comes in: as many as the machine carries, and exactly so many."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from doubles import Stage
from hypothesis import given
from hypothesis import strategies as st

from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_protocol.messages import SessionEnd, SessionStart
from emotrace_service.admission import MEMORY_S, Admission, Cost

RACES = 10_000


@given(st.floats(0.001, 0.5), st.floats(0.05, 1.0), st.integers(1, 50), st.lists(st.booleans()))
def test_never_more_than_the_budget_nor_the_limit(
    share: float, budget: float, limit: int, steps: list[bool]
) -> None:
    admission, cost = Admission(limit, budget), Cost.expected(share)
    for enter in steps:
        if not enter:
            admission = admission.leave() if admission.open else admission
            continue
        admitted = admission.admit(admission.open, cost)
        fits = admission.open < limit and (
            not admission.open or (admission.open + 1) * cost.share <= budget
        )
        assert (admitted is not None) == fits
        admission = admitted or admission
        assert admission.open <= limit
        assert admission.open <= max(1, budget / cost.share + 1e-9)


def test_who_is_not_heard_takes_nothing() -> None:
    admission = Admission(limit=1_000, budget=0.5)
    cost = Cost.expected(0.1)
    for _ in range(900):
        admitted = admission.admit(0, cost)
        assert admitted is not None
        admission = admitted
    assert admission.admit(5, cost) is None


def test_a_closed_door_lets_nobody_in() -> None:
    assert Admission(limit=10, closed=True).admit(0, Cost.expected(0.1)) is None


def test_the_cost_follows_what_is_measured_and_what_was_expected_fades() -> None:
    cost = Cost.expected(0.01)
    for _ in range(600):  # seconds of 20 sessions that cost twice as much
        cost = cost.after(used=20 * 0.02, heard_s=20.0, passed_s=1.0)
    assert cost.share == pytest.approx(0.02, rel=0.01)


def test_silence_teaches_nothing() -> None:
    cost = Cost.expected(0.01)
    for _ in range(10_000):
        cost = cost.after(used=0.0, heard_s=0.0, passed_s=1.0)
    assert cost == Cost.expected(0.01)
    assert cost.heard_s == MEMORY_S


async def test_of_many_who_come_at_once_exactly_as_many_come_in_as_fit(toy: Path) -> None:
    stage = Stage(toy, max_sessions=37)
    inside = most = 0

    async def come() -> bool:
        nonlocal inside, most
        try:
            with stage.serving.admitted():
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                await full.wait()
                inside -= 1
                return True
        except ProtocolError as error:
            refused.append(error)
            return False

    full = asyncio.Event()
    refused: list[ProtocolError] = []
    coming = [asyncio.create_task(come()) for _ in range(RACES)]
    await asyncio.sleep(0.1)
    full.set()
    came_in = sum(await asyncio.gather(*coming))
    assert (came_in, most, inside) == (37, 37, 0)
    assert {one.code for one in refused} == {ErrorCode.CAPACITY}
    assert all(one.retry_after_ms for one in refused)


async def test_sessions_that_cost_too_much_are_refused_and_told_when_to_come_again(
    toy: Path,
) -> None:
    stage = Stage(toy, compute_budget=0.5)
    stage.serving.expect(0.2)  # two fit
    first, one = stage.session()
    second, two = stage.session()
    first.say(SessionStart())
    second.say(SessionStart())
    await first.until("session.started")
    await second.until("session.started")
    third, refused = stage.session()
    third.say(SessionStart())
    await refused
    (error,) = third.of("error")
    assert (error.code, error.retryable) == ("capacity", True)
    assert error.retry_after_ms > 0
    assert third.code == ErrorCode.CAPACITY.kind.close
    for socket in (first, second):  # who is in stays in
        socket.say(SessionEnd())
    await asyncio.gather(one, two)
    assert first.heard[-1].reason == second.heard[-1].reason == "client"
    fourth = await stage.play(SessionStart(), SessionEnd())
    assert fourth.heard[-1].type == "session.ended"
