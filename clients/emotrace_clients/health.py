"""Is a server ready? Its /readyz says so before a session is tried."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from emotrace_clients.connecting import LOOPBACK, not_running
from emotrace_clients.errors import ServerNotReady, ServerUnreachable

TIMEOUT_S = 5.0


def check_ready(url: str) -> dict[str, Any]:
    """What /readyz of the server of a stream's address says.

    Raises ServerUnreachable where nothing answers, ServerNotReady where the server does and says
    that it cannot take a session.
    """
    parts = urlsplit(url)
    address = f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}/readyz"
    proxies = ProxyHandler({}) if parts.hostname in LOOPBACK else ProxyHandler()
    try:
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
