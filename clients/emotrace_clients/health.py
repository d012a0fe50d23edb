"""What a server says of itself over HTTP: is it ready, and what do its metrics tell?"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from emotrace_clients.connecting import LOOPBACK, not_running
from emotrace_clients.errors import ServerNotReady, ServerUnreachable
from emotrace_clients.exposition import Scrape

TIMEOUT_S = 5.0
PATIENCE_S = 30.0  # models warm up in less
PAUSE_S = 0.5
SCHEMES = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
OK = 200


def await_ready(url: str, sleep: Callable[[float], object]) -> None:
    """Waits while a server warms up. Raises as `check_ready` once the patience is at its end."""
    for _ in range(int(PATIENCE_S / PAUSE_S)):
        try:
            check_ready(url)
        except ServerNotReady:
            sleep(PAUSE_S)
        else:
            return
    check_ready(url)


def check_ready(url: str) -> dict[str, Any]:
    """What /readyz of the server of a stream's address says.

    Raises ServerUnreachable where nothing answers, ServerNotReady where the server does and says
    that it cannot take a session.
    """
    status, said = read_ready(url)
    if status != OK:
        raise ServerNotReady(
            f"The server at {urlsplit(url).netloc} is not ready "
            f"({said.get('reason') or f'HTTP {status}'}). "
            "Wait until it has started; its log says more."
        )
    return said


def read_ready(url: str) -> tuple[int, dict[str, Any]]:
    """The HTTP status of /readyz, and what it says: ready or not, and why.

    Raises ServerUnreachable where nothing answers.
    """
    status, body = _get(url, "/readyz")
    try:
        said = json.loads(body)
    except ValueError:
        said = {}
    return status, said if isinstance(said, dict) else {}


def read_metrics(url: str) -> Scrape:
    """What /metrics says. Raises ServerUnreachable where nothing answers, or something else."""
    status, body = _get(url, "/metrics")
    try:
        if status != OK:
            raise ValueError(f"HTTP {status}")
        return Scrape(body.decode())
    except ValueError as error:
        raise ServerUnreachable(
            f"What answers at {urlsplit(url).netloc} gives no metrics ({error}). "
            "Is it an Emotrace server, and may this address read its /metrics?"
        ) from None


def _get(url: str, path: str) -> tuple[int, bytes]:
    try:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ValueError("that is no address; it looks like ws://127.0.0.1:8080/v1/stream")
        address = f"{SCHEMES[parts.scheme]}://{parts.netloc}{path}"
        proxies = ProxyHandler({}) if parts.hostname in LOOPBACK else ProxyHandler()
        with build_opener(proxies).open(address, timeout=TIMEOUT_S) as response:
            return response.status, response.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ServerUnreachable(not_running(url, reason)) from None
