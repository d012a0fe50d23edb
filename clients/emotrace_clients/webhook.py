"""For receivers of the server's webhook: whether a delivery is genuine, and what is in it.

Deliveries are signed as Standard Webhooks says (standardwebhooks.com): the headers `webhook-id`,
`webhook-timestamp` (seconds) and `webhook-signature`, a list of `v1,<base64>` with spaces between,
each the HMAC-SHA256 of `id.timestamp.body`. A secret is `whsec_` and 24 to 64 bytes as base64.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from emotrace_clients.errors import EmotraceError
from emotrace_protocol import Event, ProtocolError, decode_event

SECRET_PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)
VERSION = "v1"
TOLERANCE_S = 300.0
MAX_SIGNATURES = 16


class WebhookFault(StrEnum):
    """Why a delivery is refused."""

    SECRET_INVALID = "secret_invalid"
    HEADER_MISSING = "header_missing"
    TIMESTAMP_INVALID = "timestamp_invalid"
    TOO_OLD = "too_old"
    TOO_NEW = "too_new"
    SIGNATURE_INVALID = "signature_invalid"
    SIGNATURE_WRONG = "signature_wrong"
    BODY_INVALID = "body_invalid"


class WebhookRefused(EmotraceError):
    """A delivery is not what it says, or cannot be checked. fault: which of the causes."""

    def __init__(self, fault: WebhookFault, sentence: str) -> None:
        super().__init__(f"{sentence} ({fault.value})")
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery whose signature is right. id: the same where it comes again."""

    id: str
    sent_s: int


def verify(
    secret: str | Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    tolerance_s: float = TOLERANCE_S,
    now: float | None = None,
) -> Delivery:
    """Checks one delivery. Use nothing of the body before, and parse the very bytes that came.

    secret: one, or several while one takes another's place: any of them may have signed.
    headers: names in any case.
    now: seconds since 1970; default: this machine's clock. `tolerance_s` holds in both directions.

    Raises WebhookRefused. How long the comparison takes says nothing about the signature.
    """
    keys = [_key(one) for one in ([secret] if isinstance(secret, str) else secret)]
    if not keys:
        raise WebhookRefused(
            WebhookFault.SECRET_INVALID, "There is no secret to check the delivery with."
        )
    found = {name.lower(): value for name, value in headers.items()}
    identity, stamp, signatures = (
        _header(found, name) for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
    )
    sent_s = _sent(stamp, tolerance_s, time.time() if now is None else now)
    signed = f"{identity}.{stamp}.".encode(errors="replace") + body
    expected = [hmac.digest(key, signed, "sha256") for key in keys]
    given = _signatures(signatures)
    # Every pair is compared, so that time does not tell which one is right.
    if not sum(hmac.compare_digest(one, other) for one in expected for other in given):
        raise WebhookRefused(
            WebhookFault.SIGNATURE_WRONG,
            "No signature of the delivery fits: it was signed with another secret, or changed on "
            "the way. Check the secret, and that the body's bytes are checked as they came.",
        )
    return Delivery(identity, sent_s)


def read_event(body: bytes) -> tuple[str, Event]:
    """The session of a delivery, and its event as the session's own client gets it.

    The events of a session come in their order, and not all of them (the server's setting
    `webhook_events`). One of a newer server is an UnknownEvent. Raises WebhookRefused.
    """
    try:
        payload = json.loads(body)
        session = payload["data"]["session"]
        event = decode_event(json.dumps({**payload["data"], "type": payload["type"]}))
    except (ValueError, TypeError, KeyError, ProtocolError) as error:
        raise WebhookRefused(
            WebhookFault.BODY_INVALID,
            f"The delivery is no event of Emotrace ({type(error).__name__}): is it for another "
            "receiver, or is the server much newer?",
        ) from None
    if not isinstance(session, str):
        raise WebhookRefused(WebhookFault.BODY_INVALID, "The delivery names no session.")
    return session, event


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or len(key) not in SECRET_BYTES:
        raise WebhookRefused(
            WebhookFault.SECRET_INVALID,
            f"A secret is {SECRET_PREFIX} and {SECRET_BYTES.start} to {SECRET_BYTES.stop - 1} "
            "bytes as base64: copy it whole from the server's settings.",
        )
    return key


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise WebhookRefused(
            WebhookFault.HEADER_MISSING,
            f"The delivery has no header {name}: it is no signed webhook, or a proxy took it out.",
        )
    return value


def _sent(stamp: str, tolerance_s: float, now: float) -> int:
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise WebhookRefused(
            WebhookFault.TIMESTAMP_INVALID, "webhook-timestamp is not a number of seconds."
        )
    sent_s = int(stamp)
    if sent_s < now - tolerance_s:
        raise WebhookRefused(
            WebhookFault.TOO_OLD,
            f"The delivery is {now - sent_s:.0f} s old, and {tolerance_s:.0f} s are allowed: it is "
            "sent again by a stranger, or a clock is wrong.",
        )
    if sent_s > now + tolerance_s:
        raise WebhookRefused(
            WebhookFault.TOO_NEW,
            f"The delivery says it is from {sent_s - now:.0f} s ahead, and {tolerance_s:.0f} s are "
            "allowed: a clock is wrong.",
        )
    return sent_s


def _signatures(header: str) -> list[bytes]:
    """The signatures of the version that this can check; those of others are passed over."""
    found = []
    for one in header.split()[:MAX_SIGNATURES]:
        version, _, value = one.partition(",")
        if version != VERSION:
            continue
        try:
            found.append(base64.b64decode(value, validate=True))
        except (binascii.Error, ValueError):
            continue
    if not found:
        raise WebhookRefused(
            WebhookFault.SIGNATURE_INVALID,
            f"webhook-signature holds no signature of version {VERSION}.",
        )
    return found
