"""Logs: one line an event, nothing that a client said, and no flood."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from live import LiveServer, live_server, talk

from emotrace_protocol.messages import SessionStart
from emotrace_service import logs
from emotrace_service.rationing import Rations

CANARY = "zanzibar-7c1f"


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines of a JSON log so far."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_of_each_kind_ten_a_second_and_a_count_of_the_others() -> None:
    rations: Rations[str] = Rations()
    written = sum(rations.take("flood", 5.0) for _ in range(1_000))
    assert written == 10
    assert rations.take("other", 5.0), "one flood leaves the others their place"
    assert rations.left_out(5.5) == {}, "told once a second"
    assert rations.left_out(6.0) == {"flood": 990}
    assert rations.left_out(8.0) == {}, "told once"
    assert rations.take("flood", 8.0)
    assert not rations.rest()


def flooded(say: Callable[[int], None], count: int, clock: Clock) -> list[dict[str, Any]]:
    """The lines that come of a flood within a second, one more line, and the end."""
    stream = io.StringIO()
    handler = logs.RationedHandler(stream, clock)
    root = logging.getLogger()
    handler.setFormatter(root.handlers[0].formatter)
    root.handlers = [handler]
    for number in range(count):
        say(number)
    clock.now += 1.0
    logs.logger().info("later")
    say(0)
    for _ in range(30):
        say(1)
    handler.close()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_flood_of_our_own_lines_is_counted_by_event_and_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("json")

    def say(number: int) -> None:
        logs.logger().warning("refused", code=("one", "two")[number % 2], session=f"s{number}")

    lines = flooded(say, 10_000, Clock())
    events = [line["event"] for line in lines]
    assert events[:20] == ["refused"] * 20, "ten of each code"
    assert lines[20]["event"] == "lines left out"
    assert lines[20]["counts"] == {"refused (one)": 4_990, "refused (two)": 4_990}
    assert events[21] == "later"
    assert lines[-1]["counts"]["refused (two)"] == 20, "the rest is told at the end"
    written = events.count("refused")
    counted = sum(sum(line["counts"].values()) for line in lines if "counts" in line)
    assert written + counted == 10_031, "every line is written or counted"


def test_a_flood_of_a_librarys_lines_is_one_kind_whatever_is_filled_in(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("json")

    def say(number: int) -> None:
        logging.getLogger("websockets").error(f"bad frame {number}")

    lines = flooded(say, 500, Clock())
    assert len(lines) < 30
    (kind,) = lines[10]["counts"]
    assert kind.startswith("websockets test_logs.py:")


async def test_invalid_messages_do_not_flood_the_log_and_are_all_counted(
    toy_server: LiveServer, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("json")
    before = toy_server.metric("emotrace_refusals_total", code="utterance_unknown")
    async with talk(toy_server) as client:
        await client.say(SessionStart())
        await client.until("session.started")
        said = '{"type":"utterance.text","utterance":9,"text":"' + CANARY + '"}'
        await client.say(*[said] * 500, '{"type":"marker","id":"end"}')
        await client.until("marker.reached")
    after = toy_server.metric("emotrace_refusals_total", code="utterance_unknown")
    assert after - before == 500, "counters are exact"
    lines = written(capsys)
    assert len(lines) < 30
    assert CANARY not in str(lines)


@pytest.fixture
def toy_server(toy: Any) -> Iterator[LiveServer]:
    with live_server(toy) as running:
        yield running


HOSTILE = "a\r\n2026 [info] all is well\x1b[2J\x9b31m\u2028\u202egnp.exe\u200b\udc80"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_control_characters_break_neither_line_nor_terminal(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(log_format)
    logs.logger().warning("odd", session=HOSTILE)
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert printed.rstrip("\n").isprintable()
    assert "\\u202e" in printed, "escaped, and not dropped"


def test_of_a_librarys_line_only_the_template_is_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("json")
    logging.getLogger("uvicorn.error").error("Refused %s from %s", CANARY, "192.0.2.7")
    logging.getLogger("x").warning("Odd: {}".format("line\n" + CANARY), stack_info=True)
    logging.getLogger("uvicorn.error").error(
        f'Traceback (most recent call last):\n  File "x.py", line 1\nOSError: {CANARY}\n'
    )
    first, second, third = written(capsys)
    assert (first["event"], first["logger"]) == ("Refused %s from %s", "uvicorn.error")
    assert second["event"] == "Odd: line"
    assert third["error"] == "OSError"
    assert CANARY not in str((first, second, third))


def test_a_task_that_nobody_waits_for_tells_no_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("json")

    async def broken() -> None:
        raise ValueError(CANARY)

    async def forget() -> None:
        asyncio.get_running_loop().create_task(broken())
        await asyncio.sleep(0)

    asyncio.run(forget())
    gc.collect()
    (line,) = written(capsys)
    assert line["event"] == "Task exception was never retrieved"
    assert line["error"] == "ValueError"
    assert CANARY not in str(line)


def test_exceptions_that_python_would_print_become_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gc.collect()  # what other tests left
    logs.configure("json")
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # put back at the end
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    logs.catch_stray_exceptions()

    class Broken:
        def __del__(self) -> None:
            raise ValueError(CANARY)

    def break_down() -> None:
        raise KeyError(CANARY)

    thread = threading.Thread(target=break_down)
    thread.start()
    thread.join()
    Broken()
    first, second = written(capsys)
    assert (first["event"], first["error"]) == ("a thread broke", "KeyError")
    assert (second["event"], second["error"]) == ("an exception was ignored", "ValueError")
    assert "break_down" in first["place"]
    assert CANARY not in str((first, second))
