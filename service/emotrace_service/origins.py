"""Which web pages may connect. Pure.

A browser sends the page's origin with every websocket; other programs send none. Without this check
any page that somebody visits could reach a server on their own machine. While the server listens on
this machine only, "same origin" is not enough: a name of somebody else's may point here.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from emotrace_service.settings import Settings


def is_allowed(origin: str | None, host: str | None, settings: Settings) -> bool:
    """origin, host: the request's headers, or None."""
    if origin is None:
        return True
    if origin in settings.origins:
        return True
    try:
        parts = urlsplit(origin)
        name = parts.hostname
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not name:
        return False
    if is_loopback(name):
        return True
    return not settings.on_loopback and host is not None and parts.netloc == host


def is_loopback(name: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
