"""A receiver's check of signed webhooks: what is right passes, and each fault is named."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import importlib.util
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from live import demo_pcm, live_server, pieces, stream

from emotrace_clients import EmotraceError
from emotrace_clients.webhook import (
    Delivery,
    WebhookFault,
    WebhookRefused,
    read_event,
    verify,
)
from emotrace_protocol import Event, UnknownEvent, encode
from emotrace_protocol.events import Heartbeat, SessionEnded, Totals
from emotrace_protocol.messages import SessionStart
from emotrace_service.logs import logger
from emotrace_service.metrics import Metrics
from emotrace_service.webhook import Webhook

NOW = 1_700_000_000
BODY = b'{"type":"emotion.final"}'


def secret_of(number: int, size: int = 32) -> str:
    return "whsec_" + base64.b64encode(bytes([number]) * size).decode()


SECRET = secret_of(1)


def sign(secret: str, identity: str, stamp: object, body: bytes) -> str:
    """By the text of Standard Webhooks, without our code."""
    key = base64.b64decode(secret.split("_", 1)[1])
    mac = hmac.new(key, f"{identity}.{stamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


def headers_of(
    secret: str = SECRET, identity: str = "msg_1", stamp: object = NOW, body: bytes = BODY
) -> dict[str, str]:
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(stamp),
        "webhook-signature": sign(secret, identity, stamp, body),
    }


def fault_of(
    secret: str | list[str], headers: dict[str, str], body: bytes = BODY, now: float = NOW
) -> WebhookFault:
    with pytest.raises(WebhookRefused) as refused:
        verify(secret, headers, body, now=now)
    assert refused.value.fault.value in str(refused.value)
    assert isinstance(refused.value, EmotraceError)
    return refused.value.fault


def test_the_example_of_the_specification_passes() -> None:
    """Published by the Standard Webhooks reference libraries' tests (Svix's)."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    body = b'{"test": 2432232314}'
    assert verify(secret, headers, body, now=1614265330) == Delivery(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
    )


def test_what_is_right_passes_whatever_the_case_of_the_headers() -> None:
    assert verify(SECRET, headers_of(), BODY, now=NOW) == Delivery("msg_1", NOW)
    shouted = {name.title(): value for name, value in headers_of().items()}
    assert verify(SECRET, shouted, BODY, now=NOW).id == "msg_1"


def test_one_signature_of_several_is_enough() -> None:
    headers = headers_of()
    wrong = "v1," + base64.b64encode(bytes(32)).decode()
    right = headers["webhook-signature"]
    headers["webhook-signature"] = f"v1a,!! {wrong} v2,x {right}"
    assert verify(SECRET, headers, BODY, now=NOW).id == "msg_1"


def test_either_secret_may_have_signed_while_they_change() -> None:
    secrets = [secret_of(1), secret_of(2)]
    for signer in secrets:
        assert verify(secrets, headers_of(signer), BODY, now=NOW).id == "msg_1"
    assert fault_of(secrets, headers_of(secret_of(3))) is WebhookFault.SIGNATURE_WRONG


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_that_is_missing_is_named(name: str) -> None:
    for change in ({name: ""}, None):
        headers = headers_of()
        headers.pop(name)
        headers.update(change or {})
        with pytest.raises(WebhookRefused, match=name) as refused:
            verify(SECRET, headers, BODY, now=NOW)
        assert refused.value.fault is WebhookFault.HEADER_MISSING


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"webhook-id": "msg_2"}, WebhookFault.SIGNATURE_WRONG),
        ({"webhook-timestamp": str(NOW + 1)}, WebhookFault.SIGNATURE_WRONG),
        ({"webhook-timestamp": "soon"}, WebhookFault.TIMESTAMP_INVALID),
        ({"webhook-timestamp": "-1"}, WebhookFault.TIMESTAMP_INVALID),
        ({"webhook-timestamp": "1e9"}, WebhookFault.TIMESTAMP_INVALID),
        ({"webhook-timestamp": "٣"}, WebhookFault.TIMESTAMP_INVALID),
        ({"webhook-timestamp": "9" * 400}, WebhookFault.TIMESTAMP_INVALID),
        ({"webhook-signature": "nonsense"}, WebhookFault.SIGNATURE_INVALID),
        ({"webhook-signature": "v1,*"}, WebhookFault.SIGNATURE_INVALID),
        ({"webhook-signature": "v2,abcd"}, WebhookFault.SIGNATURE_INVALID),
        ({"webhook-signature": "v1,"}, WebhookFault.SIGNATURE_WRONG),
        ({"webhook-signature": "v1,abcd"}, WebhookFault.SIGNATURE_WRONG),
    ],
)
def test_each_fault_of_a_header_is_told(changed: dict[str, str], fault: WebhookFault) -> None:
    assert fault_of(SECRET, {**headers_of(), **changed}) is fault


@pytest.mark.parametrize(
    ("now", "fault"),
    [(NOW + 301, WebhookFault.TOO_OLD), (NOW - 301, WebhookFault.TOO_NEW)],
)
def test_a_delivery_from_another_time_is_refused(now: float, fault: WebhookFault) -> None:
    assert fault_of(SECRET, headers_of(), now=now) is fault
    near = NOW + (now - NOW) * 299 / 301
    assert verify(SECRET, headers_of(), BODY, now=near).sent_s == NOW
    assert verify(SECRET, headers_of(), BODY, tolerance_s=400, now=now).sent_s == NOW


def test_by_default_the_machine_s_clock_counts() -> None:
    with pytest.raises(WebhookRefused) as refused:
        verify(SECRET, headers_of(stamp=1_000_000_000), BODY)
    assert refused.value.fault is WebhookFault.TOO_OLD


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", SECRET[6:], secret_of(1, 23), secret_of(1, 65), "whsec_***", "whsec_ä", []],
)
def test_a_secret_that_is_none_is_refused(secret: str | list[str]) -> None:
    assert fault_of(secret, headers_of()) is WebhookFault.SECRET_INVALID


@pytest.mark.parametrize("size", [24, 64])
def test_secrets_of_the_shortest_and_longest_length_work(size: int) -> None:
    secret = secret_of(7, size)
    assert verify(secret, headers_of(secret), BODY, now=NOW).id == "msg_1"


@given(st.binary(max_size=200), st.integers(0, 199), st.integers(1, 255))
def test_a_body_that_changed_in_one_byte_is_refused(body: bytes, at: int, flip: int) -> None:
    headers = headers_of(body=body)
    assert verify(SECRET, headers, body, now=NOW).id == "msg_1"
    changed = bytearray(body or b"\x00")
    changed[at % len(changed)] ^= flip
    assert fault_of(SECRET, headers, bytes(changed)) is WebhookFault.SIGNATURE_WRONG


def test_no_error_tells_a_secret_or_a_signature() -> None:
    for secret, headers in (
        (SECRET, headers_of(secret_of(2))),
        (SECRET[:-3] + "*==", headers_of()),
    ):
        with pytest.raises(WebhookRefused) as refused:
            verify(secret, headers, BODY, now=NOW)
        assert secret[6:16] not in str(refused.value)
        assert sign(SECRET, "msg_1", NOW, BODY)[3:] not in str(refused.value)


def test_the_event_of_a_delivery_is_that_of_the_session() -> None:
    body = b'{"type":"heartbeat","timestamp":"t","data":{"session":"s","sequence":3,"audio_ms":9}}'
    assert read_event(body) == ("s", Heartbeat(sequence=3, audio_ms=9))
    session, event = read_event(body.replace(b"heartbeat", b"something.new"))
    assert (session, type(event)) == ("s", UnknownEvent)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"type":"heartbeat","data":[]}',
        b'{"type":"heartbeat","data":{"session":"s"}}',
        b'{"type":"heartbeat","data":{"session":7,"sequence":3,"audio_ms":9}}',
        b'{"type":7,"data":{"session":"s","sequence":3}}',
    ],
)
def test_what_is_no_event_is_told(body: bytes) -> None:
    with pytest.raises(WebhookRefused) as refused:
        read_event(body)
    assert refused.value.fault is WebhookFault.BODY_INVALID


class TestReceiver:
    """The example, listening."""

    EXAMPLE = Path(__file__).parents[2] / "clients/examples/webhook_receiver.py"

    @pytest.fixture
    def receiver(self) -> Iterator[str]:
        spec = importlib.util.spec_from_file_location("receiver_example", self.EXAMPLE)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = uvicorn.Config(module.create_app([secret_of(9), SECRET]), port=0, log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the receiver did not start"
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        server.should_exit = True
        thread.join(30)

    async def test_it_keeps_the_state_that_the_server_s_webhook_tells(
        self, receiver: str, toy: Path
    ) -> None:
        audio, sound = demo_pcm()
        start = SessionStart(audio=audio, speakers=("Ann", "Ben"))
        with live_server(toy) as server:
            started, heard, _ = await stream(server, start, pieces(sound))
        kinds = ("session.started", "emotion.final", "emotion.revised", "session.ended")
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        webhook = Webhook(f"{receiver}/emotrace", key, kinds, Metrics(), logger())
        webhook.start()
        for event in heard:
            webhook.offer(started.session, encode(event))
        await webhook.close(30)
        answer = await asyncio.to_thread(httpx.get, f"{receiver}/dialogues")
        state = answer.json()[started.session]
        finals = {e.speaker: e.utterance for e in heard if e.type == "emotion.final"}
        assert {one["speaker"]: one["utterance"] for one in state["speakers"]} == finals
        assert state["ended"] is True
        assert state["audio_ms"] == len(sound) // (2 * 2 * 16)

    async def test_it_forgets_a_session_that_was_deleted(self, receiver: str) -> None:
        totals = dict.fromkeys(Totals.model_fields, 0)
        told: tuple[Event, ...] = (
            Heartbeat(sequence=1, audio_ms=5),
            SessionEnded(sequence=2, reason="deleted", totals=Totals(**totals)),
        )
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        kinds = ("heartbeat", "session.ended")
        webhook = Webhook(f"{receiver}/emotrace", key, kinds, Metrics(), logger())
        webhook.start()
        webhook.offer("other", encode(told[0]))
        for event in told:
            webhook.offer("s", encode(event))
        await webhook.close(30)
        answer = await asyncio.to_thread(httpx.get, f"{receiver}/dialogues")
        assert set(answer.json()) == {"other"}

    def test_it_refuses_strangers_and_counts_nothing_twice(self, receiver: str) -> None:
        body = {"type": "session.ended", "data": {"session": "s", "sequence": 9}}
        ended = json.dumps(body).encode()
        beat = json.dumps(
            {"type": "heartbeat", "data": {"session": "s", "sequence": 1, "audio_ms": 5}}
        ).encode()

        def post(content: bytes, secret: str = SECRET) -> int:
            headers = headers_of(secret, stamp=int(time.time()), body=content)
            return httpx.post(f"{receiver}/emotrace", content=content, headers=headers).status_code

        assert post(beat, secret_of(3)) == 401
        assert httpx.post(f"{receiver}/emotrace", content=beat).status_code == 401
        assert post(ended) == 422  # it has no totals
        assert post(bytes(2_000_000)) == 413
        assert httpx.get(f"{receiver}/dialogues").json() == {}
        assert post(beat) == 204
        assert post(beat.replace(b"5", b"7")) == 204  # the same id again
        assert httpx.get(f"{receiver}/dialogues").json()["s"]["audio_ms"] == 5
