"""Which webhook the settings name: an address that only the operator chooses, and a secret."""

from __future__ import annotations

from base64 import b64decode
from urllib.parse import urlsplit

from emotrace_service.errors import StartRefused
from emotrace_service.logs import Logger
from emotrace_service.metrics import Metrics
from emotrace_service.origins import is_loopback
from emotrace_service.settings import Settings
from emotrace_service.webhook import Webhook

SECRET_PREFIX = "whsec_"
LEAST_SECRET_BYTES, MOST_SECRET_BYTES = 24, 64
MAKE_SECRET = (
    "Make one: python -c 'import base64, secrets; "
    'print("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())\''
)


def load_webhook(settings: Settings, metrics: Metrics, log: Logger) -> Webhook | None:
    """The webhook that the settings name, if any. Raises StartRefused, without the secret in it."""
    if settings.webhook_url is None and settings.webhook_secret is None:
        return None
    if settings.webhook_url is None or settings.webhook_secret is None:
        raise StartRefused(
            "A webhook needs both EMOTRACE_WEBHOOK_URL and EMOTRACE_WEBHOOK_SECRET, with which the "
            f"posts are signed. {MAKE_SECRET}"
        )
    _check_url(settings.webhook_url, insecure=settings.webhook_insecure)
    key = _read_secret(settings.webhook_secret.get_secret_value())
    return Webhook(settings.webhook_url, key, settings.webhook_events, metrics, log)


def _check_url(text: str, *, insecure: bool) -> None:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise StartRefused("EMOTRACE_WEBHOOK_URL is no address.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise StartRefused("EMOTRACE_WEBHOOK_URL does not begin with https:// and a host.")
    if parts.username is not None or parts.password is not None:
        raise StartRefused(
            "EMOTRACE_WEBHOOK_URL holds a name or password. Leave it out: posts are signed."
        )
    if parts.scheme == "http" and not insecure and not is_loopback(host):
        raise StartRefused(
            "EMOTRACE_WEBHOOK_URL is http and of another machine: anybody on the way could read "
            "the events. Use https, or set EMOTRACE_WEBHOOK_INSECURE=true within a network of "
            "your own."
        )


def _read_secret(text: str) -> bytes:
    try:
        key = b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        key = b""
    fits = LEAST_SECRET_BYTES <= len(key) <= MOST_SECRET_BYTES
    if not text.startswith(SECRET_PREFIX) or not fits:
        raise StartRefused(
            f"EMOTRACE_WEBHOOK_SECRET is not {SECRET_PREFIX} and {LEAST_SECRET_BYTES} to "
            f"{MOST_SECRET_BYTES} bytes in base64. {MAKE_SECRET}"
        )
    return key
