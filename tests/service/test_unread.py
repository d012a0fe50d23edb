"""Who goes on sending after the answer is read for a while, and no longer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import LiveServer, live_server

from emotrace_service import unread

MEBIBYTE = 1024 * 1024
KERNEL_BYTES = 16 * MEBIBYTE  # what may be on its way, at most
FORM = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'


@pytest.fixture(scope="module")
def server(toy: Path) -> Iterator[LiveServer]:
    with live_server(toy, workers="threads", threads=1, max_upload_bytes=MEBIBYTE) as running:
        yield running


def connected(server: LiveServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)), 30)
    client.settimeout(30)
    return client


def begin(client: socket.socket, path: str) -> None:
    """A request whose body comes in chunks, and need not end."""
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: {FORM}\r\n"
    client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk(PART))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def until_closed(client: socket.socket, data: bytes, most: int) -> int:
    """Bytes that the server let it send. It gives up after `most`."""
    sent = 0
    while sent < most:
        try:
            client.sendall(data)
        except ConnectionError:
            return sent
        sent += len(data)
    pytest.fail(f"the server takes more than {most} bytes")


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/audio/analyze", b"413"), ("/v1/tickets", b"422"), ("/healthz", b"405")],
)
def test_a_body_without_end_is_not_read_for_ever(
    server: LiveServer, path: str, status: bytes
) -> None:
    most = MEBIBYTE + unread.DROPPED_BYTES + KERNEL_BYTES
    with connected(server) as client:
        begin(client, path)
        until_closed(client, chunk(bytes(MEBIBYTE)), most)
        assert client.recv(65_536).startswith(b"HTTP/1.1 " + status)


def test_a_body_that_trickles_has_its_time(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "DROPPING_S", 0.2)
    with connected(server) as client:
        begin(client, "/healthz")
        assert client.recv(65_536).startswith(b"HTTP/1.1 405")
        client.sendall(chunk(b"x"))
        assert client.recv(65_536) == b"", "the server closes"


def test_who_ends_soon_is_answered_and_may_go_on(server: LiveServer) -> None:
    with connected(server) as client:
        begin(client, "/v1/audio/analyze")
        client.sendall(chunk(bytes(4 * MEBIBYTE)) + chunk(b""))
        assert client.recv(65_536).startswith(b"HTTP/1.1 413")
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 200")
