"""The ring: whatever breaks, the server has every message once, in one order."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotrace_clients.patience import FIRST_S, LONGEST_S, Patience
from emotrace_clients.ring import MAX_KEPT_BYTES, Ring
from emotrace_protocol import ConversationError

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("sound"), st.integers(1, 9)),
        st.tuples(st.sampled_from(["text", "answer", "send", "acknowledge", "break"]), st.just(0)),
        st.tuples(st.just("lose"), st.integers(0, 5)),
    ),
    max_size=80,
)


@given(steps=STEPS)
def test_the_server_has_every_message_once_and_in_one_order(steps: list[tuple[str, int]]) -> None:
    ring = Ring(limit_bytes=40)
    server: list[str | bytes] = []  # what it has taken in, by number
    way: list[str | bytes] = []  # sent, and not yet there
    said: list[str | bytes] = []
    safe = 0

    def deliver_and_resume(lost: int) -> None:
        """The connection breaks: of what is under way the last few do not arrive."""
        nonlocal safe
        server.extend(way[: max(0, len(way) - lost)])
        way.clear()
        ring.rewind(len(server))
        safe = len(server)

    for number, (step, size) in enumerate(steps):
        match step:
            case "sound" if ring.has_room(size):
                said.append(bytes([number % 256]) * size)
                ring.push(said[-1])
            case "text" | "answer" if ring.has_room(0):
                said.append(f"{step} {number}")
                ring.push(said[-1], overtakes=step == "answer")
            case "send" if ring.following() is not None:
                way.append(ring.take().data)
            case "acknowledge":
                server.extend(way)
                way.clear()
                ring.acknowledge(safe := len(server))
            case "break":
                deliver_and_resume(0)
            case "lose":
                deliver_and_resume(size)
        audio = sum(len(one) for one in server[:safe] if isinstance(one, bytes))
        assert (ring.safe, ring.safe_bytes) == (safe, audio)
        assert ring.said_bytes - ring.safe_bytes <= 40
        sent = audio + sum(len(one) for one in (server + way)[safe:] if isinstance(one, bytes))
        assert ring.sent_bytes == sent
    while ring.following() is not None:
        way.append(ring.take().data)
    server.extend(way)
    assert sorted(server, key=repr) == sorted(said, key=repr)
    in_place = [one for one in said if not (isinstance(one, str) and one.startswith("answer"))]
    assert [one for one in server if one in in_place] == in_place


def test_an_answer_goes_before_what_was_never_sent_and_behind_what_has_its_number() -> None:
    ring = Ring(limit_bytes=100)
    for data in (b"a", b"b", b"c"):
        ring.push(data)
    ring.take()
    ring.take()
    ring.rewind(0)  # both have their numbers, whether they arrived or not
    ring.push("answer", overtakes=True)
    assert [ring.take().data for _ in range(4)] == [b"a", b"b", "answer", b"c"]


def test_nothing_is_kept_where_nothing_can_be_resumed() -> None:
    ring = Ring()
    for _ in range(100):
        assert ring.has_room(MAX_KEPT_BYTES)
        ring.push(bytes(MAX_KEPT_BYTES // 50))
        ring.take()
    assert ring.safe == 100


def test_texts_and_pictures_are_bounded_too() -> None:
    ring = Ring(limit_bytes=10)
    while ring.has_room(0):
        ring.push("x" * (MAX_KEPT_BYTES // 8))
        ring.take()
    ring.acknowledge(1)
    assert ring.has_room(0)


@pytest.mark.parametrize(("messages", "told"), [(3, "3 messages, and 2 were sent"), (0, "asks")])
def test_a_server_that_counts_otherwise_is_found_out(messages: int, told: str) -> None:
    ring = Ring(limit_bytes=10)
    for data in ("a", "b", "c"):
        ring.push(data)
    ring.take()
    ring.take()
    ring.acknowledge(1)
    with pytest.raises(ConversationError, match=told):
        ring.rewind(messages)


def test_pauses_are_drawn_from_a_limit_that_grows_within_the_window() -> None:
    class Highest(Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    patience, now, pauses = Patience(60.0, 5.0, Highest()), 5.0, []
    while (pause := patience.pause_s(now)) is not None:
        pauses.append(pause)
        now += pause
    growing = [0.2, 0.3, 0.45, 0.675, 1.0125, 1.51875, 2.278125, 3.4171875, 5.12578125, 7.688671875]
    assert pauses[:11] == pytest.approx([*growing, 10.0])
    assert max(pauses) == LONGEST_S
    assert sum(pauses) == pytest.approx(60.0)  # the last attempt is at the very end


def test_pauses_differ_from_client_to_client() -> None:
    first = {Patience(60.0, 0.0, Random(seed)).pause_s(0.0) for seed in range(50)}
    assert len(first) == 50
    assert all(pause is not None and 0 <= pause <= FIRST_S for pause in first)


def test_a_server_that_asks_for_time_gets_it_or_is_given_up() -> None:
    patience = Patience(10.0, 0.0, Random(1))
    assert patience.pause_s(0.0, at_least_s=3.0) == 3.0
    assert patience.pause_s(8.0, at_least_s=3.0) is None
    assert patience.pause_s(10.0) is None
