"""haproxy.cfg with a real HAProxy: what it passes, what it refuses and what it hides."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from haproxy_server import HAProxy, haproxy, haproxy_program
from live import LiveServer, Talk, demo_pcm, live_server, pieces
from ports import free_port
from websockets.asyncio.client import connect

from emotrace_protocol.messages import SessionEnd, SessionStart


async def fetch(url: str, verify: ssl.SSLContext | bool = True) -> httpx.Response:
    async with httpx.AsyncClient(verify=verify) as client:
        return await client.get(url)


@pytest.fixture(scope="module")
def server(toy: Path) -> Iterator[LiveServer]:
    with live_server(toy, workers="threads") as running:
        yield running


@pytest.fixture
def front(tmp_path: Path, server: LiveServer) -> Iterator[HAProxy]:
    with haproxy(tmp_path, [port_of(server)]) as running:
        running.ready(1)
        yield running


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """The port of a server of requests."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield running.server_port
        finally:
            running.shutdown()
            thread.join()


def port_of(server: LiveServer) -> int:
    return int(server.url.rpartition(":")[2])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file of a key and a certificate that signs itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    key, paper = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]  # noqa: RUF005
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
        + ["-keyout", key, "-out", paper],
        check=True,
        capture_output=True,
    )
    both = folder / "both.pem"
    both.write_text(key.read_text() + paper.read_text())
    return both


def test_the_configuration_is_valid(docker: Path, certificate: Path) -> None:
    for more in ({}, {"TLS_CERTIFICATE": str(certificate)}, {"RATE": "5", "CONNECTIONS": "9"}):
        checked = subprocess.run(
            [haproxy_program(), "-c", "-f", docker / "haproxy.cfg"],
            env={**os.environ, **more},
            capture_output=True,
            text=True,
        )
        assert checked.returncode == 0, checked.stderr
        assert "WARNING" not in checked.stderr


async def test_a_session_passes(front: HAProxy) -> None:
    audio, pcm = demo_pcm(4.0)
    async with connect(front.stream_url, compression=None) as websocket:
        client = Talk(websocket)
        await client.say(SessionStart(audio=audio, interim=False), *pieces(pcm), SessionEnd())
        await client.until("session.ended")
    assert client.of("emotion.final")
    assert not client.of("error")


async def test_metrics_are_for_the_inside(front: HAProxy, server: LiveServer) -> None:
    assert (await fetch(f"{server.url}/metrics")).status_code == 200
    for way in ("/metrics", "/metrics/", "/%6detrics", "/metrics?x=1", f"{front.url}/metrics"):
        line = HTTPConnection("127.0.0.1", front.port)
        line.request("GET", way)
        assert line.getresponse().status == 404, way
        line.close()
    assert (await fetch(f"{front.url}/readyz")).status_code == 200
    assert (await fetch(front.metrics_url.replace("metrics", "readyz"))).status_code == 404


async def test_what_a_client_says_of_its_origin_is_not_believed(tmp_path: Path) -> None:
    seen: list[list[tuple[str, str]]] = []

    class Mirror(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/who":
                seen.append(self.headers.items())
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    claims = {"X-Forwarded-For": "1.2.3.4", "X-Real-IP": "1.2.3.4", "X-Forwarded-Proto": "https"}
    with serving(Mirror) as port, haproxy(tmp_path, [port]) as front:
        front.ready(1)
        async with httpx.AsyncClient() as client:
            await client.get(f"{front.url}/who", headers={**claims, "Forwarded": "for=x"})
    (headers,) = seen
    about = sorted((name.lower(), value) for name, value in headers if "orward" in name.lower())
    assert about == [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", front.url.removeprefix("http://")),
        ("x-forwarded-proto", "http"),
    ]
    assert "x-real-ip" not in {name.lower() for name, _ in headers}


async def test_one_address_may_not_ask_without_end(tmp_path: Path, server: LiveServer) -> None:
    with haproxy(tmp_path, [port_of(server)], RATE="20") as front:
        front.ready(1)
        answers = [await fetch(f"{front.url}/healthz") for _ in range(30)]
    codes = [answer.status_code for answer in answers]
    assert codes == [200] * 20 + [429] * 10
    assert answers[-1].headers["Retry-After"] == "10"
    assert answers[-1].json()["error"] == {
        "code": "rate_limited",
        "message": "Too many requests from this address.",
        "retryable": True,
        "retry_after_ms": 10_000,
    }


async def test_without_replicas_it_says_when_to_come_again(tmp_path: Path) -> None:
    with haproxy(tmp_path, [free_port()]) as front:
        front.ready(0)
        answer = await fetch(f"{front.url}/healthz")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json()["error"]["code"] == "capacity"


async def test_what_a_replica_leaves_unanswered_another_answers(
    tmp_path: Path, server: LiveServer
) -> None:
    asked: list[str] = []

    class Ending(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/readyz":  # as if the process ended
                asked.append(self.command)
                return
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with serving(Ending) as port:
        with haproxy(tmp_path, [port, port_of(server)]) as front:
            front.ready(2)
            answers = [await fetch(f"{front.url}/healthz") for _ in range(10)]
        assert {answer.status_code for answer in answers} == {200}
        assert "GET" in asked
        asked.clear()
        with haproxy(tmp_path, [port]) as front:
            front.ready(1)
            async with httpx.AsyncClient() as client:
                answer = await client.post(f"{front.url}/v1/audio/analyze")
        assert (answer.status_code, asked) == (502, ["POST"])


async def test_a_session_that_a_replica_does_not_open_another_opens(
    tmp_path: Path, server: LiveServer
) -> None:
    asked: list[str] = []
    over = threading.Event()

    class StandingStill(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/readyz":
                asked.append(self.path)
                over.wait(60)
                return
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    async def talk(front: HAProxy) -> None:
        async with connect(front.stream_url, compression=None) as websocket:
            client = Talk(websocket)
            await client.say(SessionStart())
            await client.until("session.started")
            await asyncio.sleep(1.2)  # may be silent for longer than it took to open
            await client.say(SessionEnd())
            await client.until("session.ended")

    with serving(StandingStill) as port, haproxy(tmp_path, [port, port_of(server)]) as front:
        front.ready(2)
        try:
            await asyncio.gather(*[talk(front) for _ in range(6)])
            assert "/v1/stream" in asked
        finally:
            over.set()


async def test_headers_come_soon_and_are_short(front: HAProxy) -> None:
    host, port = front.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as slow:
        slow.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\n")
        assert slow.recv(100).startswith(b"HTTP/1.1 408")  # once the proxy's patience is over
    with socket.create_connection((host, int(port)), timeout=30) as long:
        with suppress(ConnectionError):
            long.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000)
        assert long.recv(100).startswith(b"HTTP/1.1 400")


async def test_with_a_certificate_clear_text_is_sent_to_tls(
    tmp_path: Path, server: LiveServer, certificate: Path
) -> None:
    trust = ssl.create_default_context(cafile=certificate)
    with haproxy(tmp_path, [port_of(server)], TLS_CERTIFICATE=str(certificate)) as front:
        front.ready(1)
        sent = await fetch(f"{front.url}/healthz?x=1")
        assert sent.status_code == 308
        assert sent.headers["Location"].startswith("https://")
        answer = await fetch(f"https://127.0.0.1:{front.tls_port}/healthz", verify=trust)
        assert answer.status_code == 200
        assert "max-age" in answer.headers["Strict-Transport-Security"]
        url = f"wss://127.0.0.1:{front.tls_port}/v1/stream"
        async with connect(url, ssl=trust, compression=None) as websocket:
            client = Talk(websocket)
            await client.say(SessionStart(), SessionEnd())
            await client.until("session.ended")
