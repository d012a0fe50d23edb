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


def second_bytes(audio: AudioFormat) -> int:
    """Bytes of one second of audio, all channels."""
    return SAMPLE_BYTES[audio.encoding] * audio.channels * audio.sample_rate


class FlowWindow:
    """Positions are bytes of audio since the session began, so that they outlast a connection.

    piece_bytes: the most that one message should carry. processed: up to here the server is done.
    """

    def __init__(self, audio: AudioFormat, audio_queue_ms: int) -> None:
        window_ms = max(1_000, audio_queue_ms // _SHARE)
        self._window_bytes = window_ms * second_bytes(audio) // 1_000
        self.piece_bytes = self._window_bytes // _MARKERS
        self.processed = 0
        self._marked = 0
        self._waiting: dict[str, int] = {}

    def has_room(self, sent: int) -> bool:
        """Whether another piece may be sent after `sent` bytes."""
        return sent - self.processed + self.piece_bytes <= self._window_bytes

    def mark(self, said: int) -> str | None:
        """The marker that is to follow the byte `said`, if one is due."""
        if said - self._marked < self.piece_bytes:
            return None
        self._marked = said
        marker = f"{PREFIX}{said}"
        self._waiting[marker] = said
        return marker

    def reach(self, marker: str) -> bool:
        """A marker came back; False: it is none of this window's."""
        position = self._waiting.pop(marker, None)
        if position is None:
            return False
        self.processed = position
        return True

    def skip(self, position: int) -> None:
        """The server goes on from `position`, on another connection: what was before is done."""
        self.processed = max(self.processed, position)
