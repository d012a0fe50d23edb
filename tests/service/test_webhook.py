"""The webhook: signed, in order for each session, retried, bounded, and never in the way."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from structlog.testing import capture_logs

from emotrace_clients.webhook import verify
from emotrace_service import webhook as sink
from emotrace_service.errors import StartRefused
from emotrace_service.logs import logger
from emotrace_service.metrics import WEBHOOK_RESULTS, Metrics
from emotrace_service.settings import Settings
from emotrace_service.webhook import Answer, Webhook, read_retry_after, wait_s
from emotrace_service.webhook_choice import load_webhook

KEY = bytes(range(32))
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
URL = "https://backend.example/hook"
KINDS = ("emotion.final", "session.ended")
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def event(sequence: int, kind: str = "emotion.final", **fields: object) -> str:
    return json.dumps({"type": kind, "sequence": sequence, **fields})


class Receiver:
    """A backend. It answers with `statuses` in turn, then with 200; `hold`: it answers later."""

    def __init__(self, *statuses: int, hold: asyncio.Event | None = None) -> None:
        self._statuses: Iterator[int] = iter(statuses)
        self._hold = hold
        self.headers: dict[str, str] = {}
        self.requests: list[httpx.Request] = []
        self.broken = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self._hold is not None:
            await self._hold.wait()
        if self.broken:
            self.broken -= 1
            raise httpx.ConnectError("nobody there")
        return httpx.Response(next(self._statuses, 200), headers=self.headers)

    @property
    def posted(self) -> list[tuple[str, int]]:
        data = [json.loads(request.content)["data"] for request in self.requests]
        return [(one["session"], one["sequence"]) for one in data]


class Bench:
    """A webhook that posts to a receiver, and how long it waited between attempts."""

    def __init__(self, receiver: Receiver) -> None:
        self.waits: list[float] = []
        self.metrics = Metrics()
        self.webhook = Webhook(
            URL,
            KEY,
            KINDS,
            self.metrics,
            logger(),
            transport=httpx.MockTransport(receiver),
            sleep=self._sleep,
            chance=lambda: 1.0,
        )

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    def metric(self, name: str, **labels: str) -> int:
        value = self.metrics.registry.get_sample_value(name, labels)
        assert value is not None, name
        return int(value)

    @property
    def results(self) -> dict[str, int]:
        counts = {
            result: self.metric("emotrace_webhook_events_total", result=result)
            for result in WEBHOOK_RESULTS
        }
        return {result: count for result, count in counts.items() if count}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - it counts, it is no event
                await asyncio.sleep(0)


@asynccontextmanager
async def posting(receiver: Receiver) -> AsyncIterator[Bench]:
    """At the end all is posted."""
    bench = Bench(receiver)
    bench.webhook.start()
    yield bench
    await bench.webhook.close(10)


async def test_a_post_is_what_standard_webhooks_says() -> None:
    receiver = Receiver()
    async with posting(receiver) as bench:
        bench.webhook.offer("s1", event(7, utterance=2, label="ärger"))
    (request,) = receiver.requests
    assert (request.method, str(request.url)) == ("POST", URL)
    assert request.headers["content-type"] == "application/json"
    delivery = verify(SECRET, dict(request.headers), request.content)
    assert delivery.id == "msg_s1_7"
    body = json.loads(request.content)
    assert set(body) == {"type", "timestamp", "data"}
    assert body["type"] == "emotion.final"
    assert body["data"] == {"session": "s1", "sequence": 7, "utterance": 2, "label": "ärger"}
    assert datetime.fromisoformat(body["timestamp"]).tzinfo is not None


def test_the_signature_is_that_of_the_standards_own_example() -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = sink.sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_only_the_chosen_events_are_posted() -> None:
    receiver = Receiver()
    async with posting(receiver) as bench:
        bench.webhook.offer("s1", event(0, "session.started"))
        bench.webhook.offer("s1", event(1, "transcript.final", text="secret"))
        bench.webhook.offer("s1", event(2))
        bench.webhook.offer("s1", event(3, "session.ended"))
    assert receiver.posted == [("s1", 2), ("s1", 3)]
    assert bench.results == {"delivered": 2}


async def test_posts_of_a_session_are_in_order_and_sessions_do_not_wait_for_each_other() -> None:
    hold = asyncio.Event()
    receiver = Receiver(hold=hold)
    async with posting(receiver) as bench:
        for sequence in range(3):
            for session in ("a", "b", "c"):
                bench.webhook.offer(session, event(sequence))
        await bench.until(lambda: len(receiver.requests) == 3)
        assert receiver.posted == [("a", 0), ("b", 0), ("c", 0)]  # one of each at once
        hold.set()
    for session in ("a", "b", "c"):
        assert [at for name, at in receiver.posted if name == session] == [0, 1, 2]
    assert bench.results == {"delivered": 9}


async def test_what_may_pass_is_tried_again_with_the_same_name_and_in_order() -> None:
    receiver = Receiver(503, 500, 429, 200)
    async with posting(receiver) as bench:
        bench.webhook.offer("a", event(0))
        bench.webhook.offer("a", event(1))
    assert receiver.posted == [("a", 0)] * 4 + [("a", 1)]
    assert len({request.headers["webhook-id"] for request in receiver.requests[:4]}) == 1
    for request in receiver.requests:
        verify(SECRET, dict(request.headers), request.content)
    assert bench.waits == [0.5, 1.0, 2.0]
    assert bench.results == {"delivered": 2}


async def test_a_backend_that_is_not_there_is_tried_again() -> None:
    receiver = Receiver()
    receiver.broken = 2
    async with posting(receiver) as bench:
        bench.webhook.offer("a", event(0))
    assert len(receiver.requests) == 3
    assert bench.results == {"delivered": 1}


async def test_an_event_is_given_up_after_some_attempts_and_the_next_one_is_posted() -> None:
    receiver = Receiver(*[500] * sink.ATTEMPTS)
    with capture_logs() as logs:
        async with posting(receiver) as bench:
            bench.webhook.offer("a", event(0))
            bench.webhook.offer("a", event(1))
    assert receiver.posted == [("a", 0)] * sink.ATTEMPTS + [("a", 1)]
    assert bench.results == {"failed": 1, "delivered": 1}
    (log,) = logs
    assert (log["event"], log["status"]) == ("webhook event given up", 500)


@pytest.mark.parametrize("status", [301, 400, 401, 404, 408, 422])
async def test_other_answers_are_final(status: int) -> None:
    receiver = Receiver(status)
    async with posting(receiver) as bench:
        bench.webhook.offer("a", event(0))
        bench.webhook.offer("a", event(1))
    assert receiver.posted == [("a", 0), ("a", 1)]
    assert bench.results == {"refused": 1, "delivered": 1}


async def test_gone_means_no_more() -> None:
    receiver = Receiver(410)
    with capture_logs() as logs:
        async with posting(receiver) as bench:
            for sequence in range(3):
                bench.webhook.offer("a", event(sequence))
            await bench.until(lambda: bench.results == {"dropped": 3})
            bench.webhook.offer("b", event(0))
    assert len(receiver.requests) == 1
    assert [log["event"] for log in logs] == ["webhook stopped: the receiver answers 410 Gone"]


async def test_what_does_not_fit_is_dropped_counted_and_told_without_content(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sink, "MAX_WAITING", 4)
    hold = asyncio.Event()
    receiver = Receiver(hold=hold)
    with capture_logs() as logs:
        async with posting(receiver) as bench:
            for sequence in range(7):
                bench.webhook.offer("a", event(sequence, label="anger"))
            assert bench.metric("emotrace_webhook_waiting") == 4
            hold.set()
            await bench.until(lambda: bench.results.get("delivered") == 4)
            bench.webhook.offer("a", event(7))
    assert [at for _, at in receiver.posted] == [0, 1, 2, 3, 7]
    assert bench.results == {"delivered": 5, "dropped": 3}
    assert [log["event"] for log in logs] == [
        "webhook queue full: events are dropped",
        "webhook dropped events",
    ]
    assert logs[1]["count"] == 3
    assert "anger" not in str(logs)


async def test_bytes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "MAX_WAITING_BYTES", 1_000)
    receiver = Receiver()
    async with posting(receiver) as bench:
        bench.webhook.offer("a", event(0, text="x" * 2_000))
        bench.webhook.offer("a", event(1))
    assert receiver.posted == [("a", 1)]
    assert bench.results == {"delivered": 1, "dropped": 1}


async def test_what_waits_of_a_deleted_session_is_dropped_and_its_end_is_posted() -> None:
    hold = asyncio.Event()
    receiver = Receiver(503, hold=hold)
    async with posting(receiver) as bench:
        for sequence in range(3):
            bench.webhook.offer("a", event(sequence, text="secret"))
        await bench.until(lambda: bool(receiver.requests))
        bench.webhook.recall("a")
        assert bench.metric("emotrace_webhook_waiting") == 1, "what is on its way may arrive"
        bench.webhook.offer("a", event(3), only_end=True)
        bench.webhook.offer("a", event(4, "session.ended"), only_end=True)
        bench.webhook.offer("b", event(0))
        await bench.until(lambda: len(receiver.requests) == 2)
        assert receiver.posted == [("a", 0), ("b", 0)], "in order: the end waits for the first"
        hold.set()
    assert receiver.posted == [("a", 0), ("b", 0), ("a", 4)], "which is not tried again"
    assert bench.results == {"deleted": 3, "delivered": 2}
    assert bench.metric("emotrace_webhook_retries_total") == 0


async def test_a_session_is_recalled_before_its_turn_while_others_are_tried_again() -> None:
    hold = asyncio.Event()
    receiver = Receiver(hold=hold)
    async with posting(receiver) as bench:
        for number in range(sink.POSTS_AT_ONCE):
            bench.webhook.offer(f"s{number}", event(0))
        await bench.until(lambda: len(receiver.requests) == sink.POSTS_AT_ONCE)
        for sequence in range(3):
            bench.webhook.offer("late", event(sequence))
        bench.webhook.recall("late")
        bench.webhook.recall("unheard of")
        assert bench.metric("emotrace_webhook_waiting") == sink.POSTS_AT_ONCE
        for sequence in (3, 4):
            bench.webhook.offer("late", event(sequence))
        hold.set()
    assert [at for name, at in receiver.posted if name == "late"] == [3, 4]
    assert bench.results == {"deleted": 3, "delivered": sink.POSTS_AT_ONCE + 2}


async def test_a_backend_that_never_answers_does_not_hold_up_the_end() -> None:
    bench = Bench(Receiver(hold=asyncio.Event()))
    bench.webhook.start()
    for sequence in range(3):
        bench.webhook.offer("a", event(sequence))
    with capture_logs() as logs:
        await bench.webhook.close(0.01)
    assert bench.results == {"undelivered": 3}
    assert logs[0]["count"] == 3


async def test_an_answer_of_any_length_is_not_read() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=endless())

    metrics = Metrics()
    webhook = Webhook(URL, KEY, KINDS, metrics, logger(), transport=httpx.MockTransport(answer))
    webhook.start()
    webhook.offer("a", event(0))
    await webhook.close(10)
    sample = ("emotrace_webhook_events_total", {"result": "delivered"})
    assert metrics.registry.get_sample_value(*sample) == 1


@pytest.mark.parametrize(
    ("attempt", "retry_after_s", "chance", "waited"),
    [
        (0, None, 0.0, 0.0),
        (0, None, 1.0, 0.5),
        (3, None, 0.5, 2.0),
        (50, None, 1.0, 30.0),
        (0, 7.0, 0.0, 7.0),
        (0, 7.0, 1.0, 7.5),
        (0, 1e9, 0.0, 120.0),
    ],
)
def test_waits(attempt: int, retry_after_s: float | None, chance: float, waited: float) -> None:
    assert wait_s(attempt, Answer(503, retry_after_s), chance) == waited


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("12", 12.0),
        ("soon", None),
        ("-3", None),
        (format_datetime(NOW + timedelta(seconds=9), usegmt=True), 9.0),
        (format_datetime(NOW - timedelta(seconds=9), usegmt=True), 0.0),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert read_retry_after(value, NOW) == seconds


async def test_retry_after_is_heeded() -> None:
    receiver = Receiver(429)
    receiver.headers = {"retry-after": "3"}
    async with posting(receiver) as bench:
        bench.webhook.offer("a", event(0))
    assert bench.waits == [3.5]


def test_without_settings_there_is_none() -> None:
    assert load_webhook(Settings(), Metrics(), logger()) is None


@pytest.mark.parametrize(
    "url", [URL, "http://127.0.0.1:9000/hook", "http://localhost/x", "http://[::1]:1/"]
)
def test_addresses_that_are_taken(url: str) -> None:
    settings = Settings(webhook_url=url, webhook_secret=SECRET)
    assert load_webhook(settings, Metrics(), logger()) is not None


def test_http_to_another_machine_must_be_wished_for() -> None:
    url = "http://backend.internal/hook"
    with pytest.raises(StartRefused, match="EMOTRACE_WEBHOOK_INSECURE"):
        load_webhook(Settings(webhook_url=url, webhook_secret=SECRET), Metrics(), logger())
    wished = Settings(webhook_url=url, webhook_secret=SECRET, webhook_insecure=True)
    assert load_webhook(wished, Metrics(), logger()) is not None


@pytest.mark.parametrize(
    ("url", "secret", "said"),
    [
        (URL, None, "needs both"),
        (None, SECRET, "needs both"),
        ("ftp://backend.example/", SECRET, "https://"),
        ("backend.example/hook", SECRET, "https://"),
        ("https://", SECRET, "https://"),
        ("https://me:pass@backend.example/", SECRET, "password"),
        ("https://[bad", SECRET, "no address"),
        (URL, "hunter2", "EMOTRACE_WEBHOOK_SECRET"),
        (URL, SECRET.removeprefix("whsec_"), "EMOTRACE_WEBHOOK_SECRET"),
        (URL, "whsec_" + base64.b64encode(b"short").decode(), "24 to 64"),
    ],
)
def test_what_is_refused_at_the_start(url: str | None, secret: str | None, said: str) -> None:
    settings = Settings(webhook_url=url, webhook_secret=secret)
    with pytest.raises(StartRefused, match=said) as refused:
        load_webhook(settings, Metrics(), logger())
    for private in (secret, "pass@"):
        assert private is None or private not in str(refused.value)


def test_the_secret_is_not_shown() -> None:
    assert SECRET not in repr(Settings(webhook_url=URL, webhook_secret=SECRET))
