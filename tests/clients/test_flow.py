"""The flow window: never more under way than allowed, and never stuck."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emotrace_clients.flow import SAMPLE_BYTES, FlowWindow
from emotrace_protocol.messages import AudioEncoding, AudioFormat


@given(
    encoding=st.sampled_from(list(AudioEncoding)),
    queue_ms=st.integers(1_000, 60_000),
    wishes=st.lists(st.integers(1, 10**6), min_size=1, max_size=60),
)
def test_the_limit_holds_and_every_wait_ends(
    encoding: AudioEncoding, queue_ms: int, wishes: list[int]
) -> None:
    audio = AudioFormat(encoding=encoding, channels=2)
    flow = FlowWindow(audio, queue_ms)
    limit = max(1_000, queue_ms // 3) * 32 * SAMPLE_BYTES[encoding]
    markers: list[tuple[str, int]] = []
    sent = processed = 0
    for wish in wishes:
        while not flow.has_room(sent):
            marker, processed = markers.pop(0)  # fails if it waits for nothing
            assert flow.reach(marker)
        size = min(wish, flow.piece_bytes)
        sent += size
        assert sent - processed <= limit
        if (marker := flow.mark(sent)) is not None:
            markers.append((marker, sent))


def test_markers_of_others_are_left_alone() -> None:
    flow = FlowWindow(AudioFormat(), 10_000)
    assert not flow.reach("half-way")
    marker = flow.mark(flow.piece_bytes)
    assert marker is not None
    assert flow.reach(marker)
    assert not flow.reach(marker)


def test_every_encoding_has_a_size() -> None:
    assert set(SAMPLE_BYTES) == set(AudioEncoding)
