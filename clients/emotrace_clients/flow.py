"""FlowWindow: how much audio may be under way to a server that ends sessions which run ahead.

A server holds `limits.audio_queue_ms` of unprocessed audio and then refuses (`rate_limited`). So
the session sends markers of its own between the audio, and sends no more than a part of that limit
beyond the last one that came back. At the pace of time this never waits.
"""

from __future__ import annotations

from emotrace_protocol.messages import AudioEncoding, AudioFormat

SAMPLE_BYTES = {
    AudioEncoding.S16LE: 2,
    AudioEncoding.F32LE: 4,
    AudioEncoding.MULAW: 1,
    AudioEncoding.ALAW: 1,
}
PREFIX = "flow-"
_SHARE = 3  # a third of the server's limit: it warns from a half on
_MARKERS = 4  # a window


class FlowWindow:
    """Counts bytes sent and processed. piece_bytes: the most that one message should carry."""

    def __init__(self, audio: AudioFormat, audio_queue_ms: int) -> None:
        second_bytes = SAMPLE_BYTES[audio.encoding] * audio.channels * audio.sample_rate
        self._window_bytes = max(1_000, audio_queue_ms // _SHARE) * second_bytes // 1_000
        self.piece_bytes = self._window_bytes // _MARKERS
        self._sent = 0
        self._processed = 0
        self._marked = 0
        self._waiting: dict[str, int] = {}

    def has_room(self) -> bool:
        """Whether another piece may be sent."""
        return self._sent - self._processed + self.piece_bytes <= self._window_bytes

    def send(self, size: int) -> str | None:
        """A piece of `size` bytes was sent; gives the marker to send now, if one is due."""
        self._sent += size
        if self._sent - self._marked < self.piece_bytes:
            return None
        self._marked = self._sent
        marker = f"{PREFIX}{self._sent}"
        self._waiting[marker] = self._sent
        return marker

    def reach(self, marker: str) -> bool:
        """A marker came back; False: it is none of this window's."""
        sent = self._waiting.pop(marker, None)
        if sent is None:
            return False
        self._processed = sent
        return True
