"""The ladder: a step up where urgent work waits, a step down where it does not, told to all."""

from __future__ import annotations

from pathlib import Path

from doubles import Stage, silence, speech
from hypothesis import given
from hypothesis import strategies as st

from emotrace_protocol.messages import Marker, SessionEnd, SessionStart
from emotrace_service.brownout import FALL_AFTER_S, MEANINGS, RISE_AFTER_S, RISE_S, Brownout


def after(state: Brownout, waits: list[tuple[float, float]]) -> Brownout:
    for now, wait in waits:
        state = state.advance(now, wait)
    return state


def test_one_late_batch_is_no_overload() -> None:
    state = after(Brownout(), [(0.0, 5.0), (0.1, 5.0), (0.2, 0.0), (0.4, 5.0), (0.5, 0.0)])
    assert state.level == 0


def test_it_climbs_a_step_at_a_time_and_comes_down_more_slowly() -> None:
    state, now, levels = Brownout(), 0.0, []
    while state.level < len(RISE_S):
        state = state.advance(now, 1.0)
        levels.append(state.level)
        now += 0.1
    assert sorted(set(levels)) == [0, 1, 2, 3]
    assert 3 * RISE_AFTER_S <= now <= 3 * RISE_AFTER_S + 1.0
    begun = now
    while state.level:
        state = state.advance(now, 0.0)
        now += 0.1
    assert now - begun >= 3 * FALL_AFTER_S


def test_it_stays_where_it_is_not_clear() -> None:
    between = (RISE_S[0] / 2 + RISE_S[1]) / 2
    state = after(Brownout(1), [(0.1 * n, between) for n in range(200)])
    assert state.level == 1


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 2.0))))
def test_a_level_is_always_one_of_the_ladder_and_moves_by_one(
    steps: list[tuple[float, float]],
) -> None:
    state, now = Brownout(), 0.0
    for passed, wait in steps:
        now += passed
        before, state = state.level, state.advance(now, wait)
        assert abs(state.level - before) <= 1
        assert 0 <= state.level < len(MEANINGS)


async def test_every_session_is_told_and_interims_stop(toy: Path) -> None:
    stage = Stage(toy)
    socket, task = stage.session()
    socket.say(SessionStart())
    await socket.until("session.started")
    stage.serving.degrade(1)
    told = await socket.until("service.degraded")
    assert (told.level, told.message) == (1, MEANINGS[1])
    socket.say(speech(1.5), silence(0.6), Marker(id="heard"))
    await socket.until("marker.reached")
    assert not socket.of("emotion.interim")
    assert len(socket.of("emotion.final")) == 1
    stage.serving.degrade(0)
    assert (await socket.until("service.degraded")).level == 0
    socket.say(speech(1.5), silence(0.3))
    await socket.until("emotion.interim")
    socket.say(silence(0.3), SessionEnd())
    await task
    assert len(socket.of("emotion.final")) == 2


async def test_at_the_last_step_nobody_new_comes_in_and_who_is_in_goes_on(toy: Path) -> None:
    stage = Stage(toy)
    socket, task = stage.session()
    socket.say(SessionStart(interim=False))
    await socket.until("session.started")
    stage.serving.degrade(3)
    late = await stage.play(SessionStart())
    assert [event.code for event in late.of("error")] == ["capacity"]
    socket.say(speech(1.0), silence(0.6), SessionEnd())
    await task
    assert len(socket.of("emotion.final")) == 1
    stage.serving.degrade(2)
    newcomer = await stage.play(SessionStart(), SessionEnd())
    assert [event.type for event in newcomer.heard[:2]] == ["session.started", "service.degraded"]
    assert newcomer.of("service.degraded")[0].level == 2
    assert newcomer.heard[-1].type == "session.ended"


async def test_who_comes_while_the_ladder_moves_hears_of_it_after_the_greeting(toy: Path) -> None:
    stage = Stage(toy)
    socket, task = stage.session()
    stage.serving.degrade(1)  # before a word was said
    socket.say(SessionStart(), SessionEnd())
    await task
    types = [event.type for event in socket.heard]
    assert types[:2] == ["session.started", "service.degraded"]
    assert types.count("service.degraded") == 1
