"""redis.conf and the user that prepare.sh makes: all that the server needs, and nothing else."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import demo_pcm, live_server, pieces
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.retry import Retry
from redis_server import redis_server
from undaunted import Undaunted

from emotrace_protocol.messages import SessionEnd, SessionStart, Transcription
from emotrace_service.redis_store import RedisStore


@pytest.fixture
def url(prepared: Path, tmp_path: Path) -> Iterator[str]:
    """Redis with the user that prepare.sh makes; that user's URL."""
    given = (prepared / "secrets/session-store.env").read_text().strip().partition("=")[2]
    assert given.endswith("@redis:6379/0")
    with redis_server(tmp_path, prepared / "secrets/redis.acl") as running:
        yield given.replace("@redis:6379", f"@127.0.0.1:{running.port}")
    assert list(tmp_path.iterdir()) == [], "Redis wrote to disk"


def test_others_are_kept_out_and_the_user_in_its_place(url: str) -> None:
    with Redis.from_url(url) as user:
        assert user.ping()
        for command in ("FLUSHALL", "KEYS *", "CONFIG GET *", "GET another", "SAVE", "ACL LIST"):
            with pytest.raises(NoPermissionError):
                user.execute_command(*command.split())
    nobody = Redis.from_url(re.sub("//.*@", "//", url), retry=Retry(NoBackoff(), 0))
    with nobody, pytest.raises(AuthenticationError):
        nobody.ping()


async def test_a_session_is_kept_and_taken_up_again(url: str, toy: Path) -> None:
    audio, pcm = demo_pcm(6.0)
    start = SessionStart(audio=audio, transcription=Transcription.OFF, resume=True)
    with live_server(toy, workers="threads", session_store=url) as server:
        session = Undaunted(start, [*pieces(pcm, 16_000), SessionEnd()], lose=random.Random(7))
        heard = await session.run(server)
        another = RedisStore(url, 60_000)
        async with asyncio.timeout(30):
            while not await another.room_elsewhere(True):  # noqa: ASYNC110 - of another server
                await asyncio.sleep(0.1)
        await another.close()
    assert session.cuts
    assert [event for event in heard if event.type == "emotion.final"]
    assert "resume_lost" not in [event.model_dump().get("code") for event in heard]
