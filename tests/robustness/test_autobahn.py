"""RFC 6455: the cases of the Autobahn test suite against the server's own websocket stack.

The server runs as in production (server.py) with one route that echoes; only the limit of a
message's size is lifted, since section 9 sends 16 MiB. Compression is off, so the cases of section
12, which offer it, must find it declined.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
from autobahn_cases import converted, fetched, identity, load
from autobahn_peer import Outcome, Peer
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from emotrace_service.__main__ import bound
from emotrace_service.server import uvicorn_config
from emotrace_service.settings import Settings

ALL = 517
AT_ONCE = 8
MOST_BYTES = 32 * 1024 * 1024
LIMITS, COMPRESSION = ("9",), ("12", "13")
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}


def echo() -> FastAPI:
    app = FastAPI()

    @app.websocket("/")
    async def say_it_again(websocket: WebSocket) -> None:
        await websocket.accept()
        with suppress(WebSocketDisconnect):
            while (message := await websocket.receive())["type"] != "websocket.disconnect":
                if (text := message.get("text")) is not None:
                    await websocket.send_text(text)
                else:
                    await websocket.send_bytes(message["bytes"])

    return app


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    config = uvicorn_config(echo())
    config.ws_max_size = MOST_BYTES
    with bound(Settings(port=0)) as listener:
        listener.listen()
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def cases(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Sequence[type[Any]]:
    assert pytestconfig.cache is not None
    archive = fetched(pytestconfig.cache.mkdir("autobahn"))
    folder = tmp_path_factory.mktemp("autobahn")
    converted(archive, folder)
    found = load(folder)
    assert len(found) >= 300
    return found


def section(case: type[Any]) -> str:
    return identity(case).partition(".")[0]


async def outcomes(cases: Sequence[type[Any]], port: int, at_once: int) -> list[Outcome]:
    waiting, found = iter(cases), []

    async def client() -> None:
        for case in waiting:
            offers = section(case) in COMPRESSION
            one = await Peer().run(case, "127.0.0.1", port, deflate=offers)
            found.append(Outcome(identity(case), one.behavior, one.close, one.why))

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(client())
    return found


def check(found: Sequence[Outcome]) -> None:
    by_close: dict[str, Counter[str]] = {}
    for one in found:
        by_close.setdefault(one.behavior, Counter())[one.close] += 1
    for behavior, closes in by_close.items():
        print(behavior, sum(closes.values()), dict(closes))
    wrong = [
        one
        for one in found
        if one.case.partition(".")[0] not in COMPRESSION
        and (one.behavior not in GOOD or one.close not in GOOD)
    ]
    assert wrong == []


def test_framing_control_frames_fragments_utf8_and_closing(
    cases: Sequence[type[Any]], port: int
) -> None:
    chosen = [case for case in cases if section(case) not in LIMITS + COMPRESSION]
    assert len(chosen) > 200
    found = asyncio.run(outcomes(chosen, port, AT_ONCE))
    check(found)


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_all_cases(cases: Sequence[type[Any]], port: int) -> None:
    found = asyncio.run(outcomes(cases, port, 2))
    check(found)
    declined = [one for one in found if one.case.partition(".")[0] in COMPRESSION]
    assert {one.behavior for one in declined} == {"UNIMPLEMENTED"}
    assert {one.close for one in declined} == {"OK"}
    assert len(found) == ALL
