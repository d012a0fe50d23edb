"""Rows 18 to 32 of docs/faults.md: frames that break RFC 6455, or come without end.

Where a row says that the session can be taken up again, it is.
"""

from __future__ import annotations

import socket
import struct
import zlib
from pathlib import Path

import pytest
from cluster import Replica
from faults.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Wire,
    all_gone,
    closing,
    frame,
    go_on,
    session,
    wire,
)

from emotrace_protocol import encode
from emotrace_protocol.messages import Marker, SessionEnd, SessionStart

KIB, MIB = 1_024, 1_024 * 1_024
MESSAGE_BYTES = 2 * MIB  # where the websocket layer itself closes
SOUND = frame(BINARY, bytes(3_200))


async def broken_by(server: Replica, *data: bytes) -> tuple[int | None, Wire]:
    """The close code that these bytes get in an open session, which can be taken up again."""
    async with session(server) as client:
        await client.send(SOUND, *data)
        code = await client.rest()
    await go_on(server, client)
    return code, client


def memory_kib(server: Replica) -> int:
    """What the server's process holds now."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


@pytest.mark.parametrize(
    "data",
    [
        frame(BINARY, b"sound", masked=False),
        frame(BINARY, b"sound", reserved=1),
        frame(BINARY, b"sound", reserved=4),
        frame(3, b"?"),
        frame(11, b"?"),
        frame(PING, b"?", final=False),
        frame(PING, bytes(126)),
        frame(CONTINUATION, b"of nothing"),
        frame(BINARY, b"one", final=False) + frame(BINARY, b"another"),
    ],
    ids=[
        "unmasked",
        "rsv3",
        "rsv1",
        "opcode3",
        "opcode11",
        "fragmented-ping",
        "long-ping",
        "continuation",
        "interleaved",
    ],
)
async def test_row_018_a_frame_that_is_none(server: Replica, data: bytes) -> None:
    code, _ = await broken_by(server, data)
    assert code == 1002


@pytest.mark.parametrize("text", [b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"ok \xf0\x9f"])
async def test_row_019_text_that_is_not_utf8(server: Replica, text: bytes) -> None:
    code, _ = await broken_by(server, frame(TEXT, text))
    assert code == 1007


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_row_020_a_message_over_a_mebibyte_is_left_out(server: Replica, opcode: int) -> None:
    async with session(server) as client:
        await client.send(SOUND, frame(opcode, b" " * (MIB + 1)), SOUND)
        await client.say(SessionEnd())
        assert await client.rest() == 1000
    assert client.errors() == ["message_too_large"]
    assert client.heard[-1]["totals"]["audio_ms"] == 200


@pytest.mark.parametrize("length", [2**40, 2**63 + 5, 2**64 - 1, MESSAGE_BYTES + 1])
async def test_row_021_a_header_that_announces_too_much(server: Replica, length: int) -> None:
    before = memory_kib(server)
    code, _ = await broken_by(server, frame(BINARY, length=length))
    # The highest bit of a length must be 0: such a frame may be called broken as well.
    assert code == 1009 or (length >= 2**63 and code == 1002)
    assert memory_kib(server) - before < 16 * KIB, "nothing of that size was allocated"


async def test_row_022_fragments_without_end(server: Replica) -> None:
    fragment = frame(CONTINUATION, bytes(60_000), final=False)
    async with session(server) as client:
        await client.send(frame(BINARY, b"", final=False))
        # Just beyond the limit: what comes after it would reset the connection, code and all.
        await client.send(*[fragment] * (MESSAGE_BYTES // 60_000 + 1))
        assert await client.rest() == 1009
    await go_on(server, client)


async def test_row_023_empty_fragments_without_end(server: Replica) -> None:
    empty = frame(CONTINUATION, final=False)
    async with session(server) as client:
        await client.send(frame(BINARY, bytes(3_200), final=False), empty * 1_024)
        await client.send(frame(CONTINUATION))  # the last of one too many
        assert await client.rest() == 1008
    await go_on(server, client)

    before = memory_kib(server)
    async with session(server) as client:
        await client.send(frame(BINARY, final=False), *[empty * 4_000] * 100)
        assert await client.rest() in (1008, None)
    await go_on(server, client)
    assert memory_kib(server) - before < 16 * KIB


async def test_row_023_a_message_in_many_fragments_is_taken(server: Replica) -> None:
    async with session(server) as client:
        for _ in range(3):  # each has a count of its own
            await client.send(frame(BINARY, bytes(100), final=False))
            await client.send(frame(CONTINUATION, b"\0", final=False) * 1_000)
            await client.send(frame(CONTINUATION, bytes(100)))
        await client.say(SessionEnd())
        assert await client.rest() == 1000
    assert client.heard[-1]["totals"]["audio_bytes"] == 3 * 1_200


async def test_row_024_compression_is_declined(server: Replica) -> None:
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    async with wire(server, offer) as client:
        assert client.head.startswith("HTTP/1.1 101 ")
        assert "extensions" not in client.head.lower()
        await client.say(SessionStart())
        await client.until("session.started")


async def test_row_025_a_bomb_is_not_unpacked(server: Replica) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(bytes(64 * MIB)) + packer.flush()
    before = memory_kib(server)
    code, _ = await broken_by(server, frame(BINARY, bomb, reserved=4))
    assert code == 1002
    assert memory_kib(server) - before < 8 * KIB


@pytest.mark.parametrize("opcode", [PING, PONG])
async def test_row_026_pings_without_end(server: Replica, opcode: int) -> None:
    one = frame(opcode, b"?")
    async with session(server) as client:
        await client.send(one * 100, SOUND)
        await client.say(Marker(id="still here"))
        await client.until("marker.reached")
        await client.send(*[one * 1_000] * 50)
        assert await client.rest() in (1008, None)
    await go_on(server, client)


async def test_row_027_messages_of_one_byte_without_end(server: Replica) -> None:
    async with session(server) as client, session(server) as other:
        await client.send(*[frame(BINARY, b"\0") * 1_000] * 20)
        assert await client.rest() == 4429
        await other.send(SOUND)
        await other.say(Marker(id="not my fault"))
        await other.until("marker.reached")
    assert client.errors() == ["rate_limited"]
    totals = client.heard[-1]["totals"]
    assert 4_096 <= totals["audio_bytes"] < 20_000, "what was taken in is counted"


async def test_row_028_an_empty_message(server: Replica) -> None:
    async with session(server) as client:
        await client.send(frame(BINARY), SOUND, frame(BINARY))
        await client.say(SessionEnd())
        assert await client.rest() == 1000
    assert client.errors() == []
    totals = client.heard[-1]["totals"]
    assert (totals["messages"], totals["audio_ms"]) == (5, 100)


async def test_row_029_text_between_sound(server: Replica) -> None:
    async with session(server) as client:
        half = SOUND[: len(SOUND) // 2]
        await client.send(half)  # the rest of the frame comes later
        await client.send(SOUND[len(half) :])
        await client.say(Marker(id="in between"))
        await client.send(SOUND)
        marker = await client.until("marker.reached")
        await client.say(SessionEnd())
        assert await client.rest() == 1000
    assert marker["audio_ms"] == 96, "whole frames of 32 ms that lay before it"
    assert client.heard[-1]["totals"]["audio_ms"] == 200


@pytest.mark.parametrize(
    "data",
    [
        *map(closing, (0, 999, 1004, 1005, 1006, 1015, 2_999, 5_000, 65_535)),
        frame(CLOSE, b"x"),
        frame(CLOSE, struct.pack("!H", 1000) + b"\xff"),
    ],
)
async def test_row_030_a_close_that_says_nonsense(server: Replica, data: bytes) -> None:
    code, _ = await broken_by(server, data)
    assert code in (1002, 1007)


async def test_row_031_a_close_inside_a_message(server: Replica) -> None:
    half = frame(BINARY, bytes(100), final=False)
    code, _ = await broken_by(server, half + closing(1001))
    assert code == 1001
    async with session(server) as client:
        await client.send(SOUND, half, closing(1000))
        assert await client.rest() == 1000


@pytest.mark.parametrize("way", ["reset", "end"])
async def test_row_032_a_connection_that_breaks(server: Replica, way: str) -> None:
    async with session(server) as client:
        await client.send(SOUND)
        await client.say(Marker(id="heard"))
        await client.until("marker.reached")
        plain = client.writer.get_extra_info("socket")
        if way == "reset":
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.writer.transport.abort()
        else:
            client.writer.write_eof()
            assert await client.rest() is None
    await go_on(server, client)


async def test_row_032_nothing_is_left_of_who_is_gone(server: Replica) -> None:
    """After all that is above no session is open."""
    await all_gone(server)


def test_a_frame_is_what_the_library_reads() -> None:
    """The raw client itself: what it sends by default is no fault."""
    from websockets.frames import Frame
    from websockets.streams import StreamReader

    text = encode(Marker(id="x")).encode()
    for data in (b"", text, bytes(200), bytes(70_000)):
        reader = StreamReader()
        reader.feed_data(frame(BINARY, data))
        parsing = Frame.parse(reader.read_exact, mask=True)
        with pytest.raises(StopIteration) as done:
            next(parsing)
        assert done.value.value.data == data
