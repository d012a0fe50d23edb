"""Is a server ready? Its /readyz says so before a session is tried."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from emotrace_clients.connecting import LOOPBACK, not_running
from emotrace_clients.errors import ServerNotReady, ServerUnreachable

TIMEOUT_S = 5.0
PATIENCE_S = 30.0  # models warm up in less
PAUSE_S = 0.5


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
    try:
        parts = urlsplit(url)
        address = f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}/readyz"
        proxies = ProxyHandler({}) if parts.hostname in LOOPBACK else ProxyHandler()
        with build_opener(proxies).open(address, timeout=TIMEOUT_S) as response:
            return _said(response.read())
    except HTTPError as error:
        with error:
            said = _said(error.read())
        reason = said.get("reason") or f"HTTP {error.code}"
        raise ServerNotReady(
            f"The server at {parts.netloc} is not ready ({reason}). "
            "Wait until it has started; its log says more."
        ) from None
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ServerUnreachable(not_running(url, reason)) from None


def _said(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
