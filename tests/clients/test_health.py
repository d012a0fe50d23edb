"""Is the server ready: the answer, and the sentences where it is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from answering import answering_to

from emotrace_clients.errors import ServerNotReady, ServerUnreachable
from emotrace_clients.health import await_ready, check_ready


@contextmanager
def answering(answer: Callable[[], tuple[int, bytes]]) -> Iterator[str]:
    """The stream's address of a server whose /readyz says what `answer` gives."""

    def to(path: str) -> tuple[int, bytes]:
        return answer() if path == "/readyz" else (404, b"")

    with answering_to(to) as url:
        yield url


def not_ready() -> tuple[int, bytes]:
    return 503, json.dumps({"ready": False, "reason": "The models are warming up."}).encode()


def test_a_ready_server_says_what_it_has() -> None:
    with answering(lambda: (200, b'{"ready": true, "bundle": "toy"}')) as url:
        assert check_ready(url)["bundle"] == "toy"


def test_a_server_that_is_not_ready_says_why() -> None:
    with answering(not_ready) as url, pytest.raises(ServerNotReady, match="warming up"):
        check_ready(url)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]"])
def test_another_server_gives_its_status(body: bytes) -> None:
    with answering(lambda: (500, body)) as url, pytest.raises(ServerNotReady, match="HTTP 500"):
        check_ready(url)


@pytest.mark.parametrize("url", ["ws://127.0.0.1:9/v1/stream", "nonsense", "ws://[bad/"])
def test_where_nothing_answers_the_cure_is_named(url: str) -> None:
    with pytest.raises(ServerUnreachable, match="emotrace-serve"):
        check_ready(url)


def test_a_server_that_starts_is_waited_for() -> None:
    answers = [not_ready(), not_ready(), (200, b"{}")]
    waits: list[float] = []
    with answering(lambda: answers.pop(0)) as url:
        await_ready(url, waits.append)
    assert len(waits) == 2


def test_a_server_that_never_starts_is_given_up() -> None:
    waits: list[float] = []
    with answering(not_ready) as url, pytest.raises(ServerNotReady, match="warming up"):
        await_ready(url, waits.append)
    assert sum(waits) == pytest.approx(30)
