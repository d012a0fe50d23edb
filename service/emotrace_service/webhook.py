"""The webhook: events of all sessions, posted to a backend that holds no sockets.

Posts are signed as Standard Webhooks says (standardwebhooks.com). Those of one session follow one
another, in order; those of different sessions do not wait for each other. No session ever waits for
a post: what does not fit into the queue is dropped, and counted. What waits of a session that is
deleted is dropped at once.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import random
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from http import HTTPStatus
from typing import Any

import httpx

from emotrace_service.endings import Deleted, unless
from emotrace_service.errors import place
from emotrace_service.logs import Logger
from emotrace_service.metrics import Metrics

POSTS_AT_ONCE = 8
MAX_WAITING = 2_000
MAX_WAITING_BYTES = 16 * 1024 * 1024
ATTEMPTS = 8
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
LONGEST_RETRY_AFTER_S = 120.0
TIMEOUT = httpx.Timeout(10.0, connect=5.0)
READ_BYTES = 64 * 1024  # of an answer, so that its connection can be used again
END = "session.ended"


@dataclass(frozen=True, slots=True)
class Message:
    """name: the same at every attempt, so that the receiver knows one that it has. recalled: it is
    not tried again."""

    name: str
    body: bytes
    recalled: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Lane:
    """What is to be posted of one session. first: whose turn it is; None: its turn has not come."""

    waiting: deque[Message] = field(default_factory=deque)
    first: Message | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """status: None where none came. retry_after_s: when to come again, if that was said."""

    status: int | None
    retry_after_s: float | None = None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def passing(self) -> bool:
        """Whether another attempt may succeed."""
        status = self.status
        return status is None or status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500


def sign(key: bytes, name: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`."""
    signed = f"{name}.{timestamp}.".encode() + body
    return f"v1,{b64encode(hmac.digest(key, signed, sha256)).decode()}"


def wait_s(attempt: int, answer: Answer, chance: float) -> float:
    """How long to wait after attempt number `attempt`, from 0. chance: from 0 to 1."""
    jittered = chance * min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**attempt)
    asked = min(answer.retry_after_s or 0.0, LONGEST_RETRY_AFTER_S)
    return asked + jittered


def read_retry_after(value: str | None, now: datetime) -> float | None:
    """The header Retry-After, in seconds: a number of them, or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - now).total_seconds())


class Webhook:
    """Of one server. kinds: types of the events to post. key: to sign with.

    transport, sleep, chance: how it is posted, waited, and drawn by lot.
    """

    def __init__(
        self,
        url: str,
        key: bytes,
        kinds: Collection[str],
        metrics: Metrics,
        log: Logger,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._url = url
        self._key = key
        self._kinds = frozenset(kinds)
        self._metrics = metrics
        self._log = log
        self._transport = transport
        self._sleep = sleep
        self._chance = chance
        self._lanes: dict[str, Lane] = {}  # each has its turn in the queue, or is being worked on
        self._turns: asyncio.Queue[str] = asyncio.Queue()  # sessions whose next message is due
        self._waiting = 0
        self._bytes = 0
        self._dropped = 0  # in the present run of drops
        self._gone = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._posting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to post."""
        self._posting = asyncio.create_task(self._post_all())

    def offer(self, session: str, text: str, *, only_end: bool = False) -> None:
        """An event of a session, as on the wire: it is posted if its kind is wanted, and if there
        is room; with only_end, if it is the last one. Never waits."""
        event = json.loads(text)
        kind = event.pop("type")
        if kind not in self._kinds or self._gone or (only_end and kind != END):
            return
        name = f"msg_{session}_{event['sequence']}"
        body = json.dumps(
            {
                "type": kind,
                "timestamp": datetime.now(UTC).isoformat(),
                "data": {"session": session, **event},
            },
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
        if self._waiting >= MAX_WAITING or self._bytes + len(body) > MAX_WAITING_BYTES:
            self._drop()
            return
        if self._waiting < MAX_WAITING // 2:
            self._tell_dropped()
        self._put(session, Message(name, body))

    def recall(self, session: str) -> None:
        """Drop what waits of a session. What is on its way is not tried again."""
        lane = self._lanes.get(session)
        if lane is None:
            return
        for message in lane.waiting:
            self._done("deleted", message)
        lane.waiting.clear()
        if lane.first is not None:
            lane.first.recalled.set()

    async def close(self, seconds: float) -> None:
        """Try for so long to post what waits, then stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            self._log.warning("webhook stopped with undelivered events", count=self._waiting)
            self._metrics.webhook.labels("undelivered").inc(self._waiting)
        self._tell_dropped()
        if self._posting is not None:
            self._posting.cancel()
            await asyncio.wait({self._posting})

    def _put(self, session: str, message: Message) -> None:
        if session not in self._lanes:
            self._lanes[session] = Lane()
            self._turns.put_nowait(session)
        self._lanes[session].waiting.append(message)
        self._count(1, len(message.body))

    def _done(self, result: str, message: Message) -> None:
        self._metrics.webhook.labels(result).inc()
        self._count(-1, -len(message.body))

    def _count(self, messages: int, size: int) -> None:
        self._waiting += messages
        self._bytes += size
        self._metrics.webhook_waiting.set(self._waiting)
        if self._waiting:
            self._empty.clear()
        else:
            self._empty.set()

    def _drop(self) -> None:
        if not self._dropped:
            self._log.warning("webhook queue full: events are dropped", waiting=self._waiting)
        self._dropped += 1
        self._metrics.webhook.labels("dropped").inc()

    def _tell_dropped(self) -> None:
        if self._dropped:
            self._log.warning("webhook dropped events", count=self._dropped)
            self._dropped = 0

    async def _post_all(self) -> None:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT, transport=self._transport) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(POSTS_AT_ONCE):
                group.create_task(self._work(client))

    async def _work(self, client: httpx.AsyncClient) -> None:
        while True:
            session = await self._turns.get()
            lane = self._lanes[session]
            if lane.waiting:  # else they were recalled before their turn
                message = lane.first = lane.waiting.popleft()
                self._done(await self._deal_with(client, message), message)
                lane.first = None
            if lane.waiting:
                self._turns.put_nowait(session)
            else:
                del self._lanes[session]

    async def _deal_with(self, client: httpx.AsyncClient, message: Message) -> str:
        """Gives what became of it."""
        if self._gone:
            return "dropped"
        try:
            return await self._deliver(client, message)
        except Deleted:
            return "deleted"
        except Exception as fault:
            self._log.error("webhook broke", error=type(fault).__name__, place=place(fault))
            return "failed"

    async def _deliver(self, client: httpx.AsyncClient, message: Message) -> str:
        """Gives what became of it. Raises Deleted."""
        answer = Answer(None)
        for attempt in range(ATTEMPTS):
            if attempt:
                seconds = wait_s(attempt - 1, answer, self._chance())
                await unless(message.recalled, self._sleep(seconds))
                self._metrics.webhook_retries.inc()
            answer = await self._post(client, message)
            if answer.delivered:
                return "delivered"
            if answer.status == HTTPStatus.GONE:
                self._stop()
                return "dropped"
            if not answer.passing:
                self._log.warning("webhook event refused", status=answer.status)
                return "refused"
        self._log.warning("webhook event given up", status=answer.status, attempts=ATTEMPTS)
        return "failed"

    def _stop(self) -> None:
        """The receiver wants no more: what waits is dropped as its turn comes."""
        if not self._gone:
            self._log.error("webhook stopped: the receiver answers 410 Gone")
        self._gone = True

    async def _post(self, client: httpx.AsyncClient, message: Message) -> Answer:
        timestamp = int(time.time())
        headers = {
            "content-type": "application/json",
            "webhook-id": message.name,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(self._key, message.name, timestamp, message.body),
        }
        try:
            async with client.stream(
                "POST", self._url, content=message.body, headers=headers
            ) as answer:
                length = answer.headers.get("content-length", "")
                if length.isdecimal() and int(length) <= READ_BYTES:
                    await answer.aread()
                wait = read_retry_after(answer.headers.get("retry-after"), datetime.now(UTC))
                return Answer(answer.status_code, wait)
        except httpx.HTTPError:
            return Answer(None)
