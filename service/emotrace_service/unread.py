"""A limit of what a client may go on sending once its request was answered.

Who is refused before the request is over (too large a file, no key) does not know it yet, and could
lose the answer if the connection were closed at once. So the rest is read and dropped; uvicorn
alone would do that for ever.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

DROPPED_BYTES = 8 * 1024 * 1024
DROPPING_S = 5.0


class BoundedRequests(AutoHTTPProtocol):  # type: ignore[valid-type, misc]
    """uvicorn's HTTP, which closes a connection on which more comes than these limits allow."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._answered: Any = None
        self._dropped = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        request = self.cycle
        if request is None or not (request.response_complete and request.more_body):
            return
        if request is not self._answered:
            self._answered, self._dropped = request, 0
            self.loop.call_later(DROPPING_S, self._end, request)
        self._dropped += len(data)
        if self._dropped > DROPPED_BYTES:
            self._end(request)

    def _end(self, request: Any) -> None:
        """Unless another request has followed."""
        if self.cycle is request:
            self.transport.close()
