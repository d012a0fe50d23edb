"""Sessions kept in Redis: any replica of the server may go on with one.

Of one session there are two keys, in one slot of a cluster: a hash with the fencing number, digests
of the tokens and the snapshot, and a stream of the events that the client has not acknowledged.
Each script is one atomic step, so that state and events always belong together, and whoever lost
the session can write nothing more. Nothing is kept longer than the window after the last commit.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_service.session_store import (
    ROOM_S,
    TOKEN_BYTES,
    Resumed,
    Snapshot,
    StoreLost,
    TakenOver,
    Told,
    Unacknowledged,
    expired,
    unknown,
)
from emotrace_service.values import Encoder, ValueInvalid, decode

T = TypeVar("T")

OPERATION_S = 0.5
OUTAGE_S = 60.0  # without Redis; then sessions go on that cannot be taken up again
ERASE_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
CONNECTIONS = 64

# A stream's first identifier is 1-0, so event n has identifier n+1.
# Of an attempt that was given up and made again, both may arrive, the first one late.
_COMMIT = """
local found = redis.call('HMGET', KEYS[1], 'fence', 'sent')
if found[1] ~= ARGV[1] then return 0 end
local sent = tonumber(found[2]) or 0
if tonumber(ARGV[3]) < sent then return 1 end
for i = 7, #ARGV, 2 do
  if tonumber(ARGV[i]) > sent then
    redis.call('XADD', KEYS[2], ARGV[i] .. '-0', 't', ARGV[i + 1])
  end
end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'sent', ARGV[3], 'tokens', ARGV[5])
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[4] .. '-0')
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[6])
return 1
"""

# A replica that stood still may read an attempt that its client has long given up.
_RESUME = """
local found = redis.call('HMGET', KEYS[1], 'tokens', 'state', 'sent', 'attempt')
if not found[1] or not found[2] or not string.find(found[1], ARGV[1], 1, true) then return 0 end
if tonumber(ARGV[4]) < (tonumber(found[4]) or 0) then return 0 end
local asked, sent = tonumber(ARGV[3]), tonumber(found[3])
local first = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
local kept = first and tonumber(string.match(first[1], '%d+')) - 1 or sent
if asked < kept or asked > sent then return {kept, sent} end
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'tokens', ARGV[1] .. ' ' .. ARGV[2], 'attempt', ARGV[4])
local missed = redis.call('XRANGE', KEYS[2], asked + 1 .. '-0', '+')
return {fence, found[2], sent, missed}
"""

_LEAVE = """
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
"""


_ERASE = """
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
"""

# Who has room says so for a while with a key of its own; the set has their names.
_ROOM = """
local own = KEYS[1] .. ':' .. ARGV[1]
if ARGV[2] == '1' then
  redis.call('SADD', KEYS[1], ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  redis.call('SET', own, 1, 'PX', ARGV[3])
else
  redis.call('DEL', own)
end
local elsewhere = 0
for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('EXISTS', KEYS[1] .. ':' .. name) == 0 then
    redis.call('SREM', KEYS[1], name)
  elseif name ~= ARGV[1] then
    elsewhere = 1
  end
end
return elsewhere
"""
SERVERS = "emotrace:{servers}"


class RedisStore:
    """url: redis://, rediss:// (TLS) or unix://, with password and database if need be."""

    durable = True

    def __init__(self, url: str, window_ms: int) -> None:
        self.window_ms = window_ms
        self._redis = Redis.from_url(
            url,
            socket_timeout=OPERATION_S,
            socket_connect_timeout=OPERATION_S,
            max_connections=CONNECTIONS,
        )
        self.commit_script = self._redis.register_script(_COMMIT)
        self._resume_script = self._redis.register_script(_RESUME)
        self.leave_script = self._redis.register_script(_LEAVE)
        self.erase_script = self._redis.register_script(_ERASE)
        self._room_script = self._redis.register_script(_ROOM)
        self._server = secrets.token_hex(8)

    async def open(self, name: str) -> _RedisLease:
        """Raises StoreLost."""
        lease = _RedisLease(self, name, 1, secrets.token_urlsafe(TOKEN_BYTES), None, ())

        async def put() -> None:
            await self._redis.hset(keys(name)[0], mapping={"fence": 1})
            await self._redis.pexpire(keys(name)[0], self.window_ms)

        await patiently(put)
        return lease

    async def resume(self, name: str, token: str, sequence: int, attempt: int = 0) -> Resumed:
        """Raises ProtocolError, StoreLost."""
        fresh = secrets.token_urlsafe(TOKEN_BYTES)
        given = _digest(token)

        async def claim() -> Any:
            return await self._resume_script(keys(name), [given, _digest(fresh), sequence, attempt])

        found = await patiently(claim)
        if not found:
            raise unknown(self.window_ms)
        if len(found) == 2:
            raise expired(sequence, *found)
        fence, state, sent, missed = found
        try:
            snapshot = decode(state)
        except ValueInvalid:
            raise ProtocolError(
                ErrorCode.RESUME_EXPIRED,
                "Another version of the server kept the session, which ends here: lost are its "
                f"events from {sequence} to before {sent}, and what came after them.",
            ) from None
        if not isinstance(snapshot, Snapshot):
            raise ProtocolError(ErrorCode.INTERNAL, "What was kept is no session.")
        events = tuple(Told(_number(one), dict(_pairs(row))[b"t"].decode()) for one, row in missed)
        lease = _RedisLease(self, name, int(fence), fresh, given, events)
        return Resumed(lease, snapshot, events)

    async def first(self, ticket: str, life_s: float) -> bool:
        async def put() -> Any:
            return await self._redis.set(
                f"emotrace:ticket:{ticket}", 1, nx=True, px=max(1, round(life_s * 1_000))
            )

        return bool(await patiently(put))

    async def room_elsewhere(self, here: bool) -> bool:
        async def tell() -> Any:
            return await self._room_script(
                [SERVERS], [self._server, int(here), round(ROOM_S * 1_000)]
            )

        return bool(await patiently(tell, ROOM_S))

    async def close(self) -> None:
        await self._redis.aclose()


class _RedisLease:
    keeps = True

    def __init__(
        self,
        store: RedisStore,
        name: str,
        fence: int,
        token: str,
        former: str | None,
        events: Sequence[Told],
    ) -> None:
        self.token = token
        self._store = store
        self._keys = keys(name)
        self._fence = fence
        self._window_ms = store.window_ms
        self._encoder = Encoder()
        self._unacknowledged = Unacknowledged(events)
        self._former = former  # digest of the token before, while it serves

    async def commit(self, snapshot: Snapshot, events: Sequence[Told], acknowledged: int) -> None:
        state = self._encoder.encode(snapshot)
        digest = _digest(self.token)
        tokens = digest if self._former is None else f"{self._former} {digest}"
        told = [part for event in events for part in (event.sequence + 1, event.kept)]
        self._unacknowledged.add(events)
        first = self._unacknowledged.first(acknowledged) + 1
        arguments = [
            self._fence, state, snapshot.sent, first, tokens, self._store.window_ms, *told,
        ]  # fmt: skip

        async def put() -> Any:
            return await self._store.commit_script(self._keys, arguments)

        if not await patiently(put):
            raise TakenOver

    def confirm(self) -> None:
        self._former = None  # said with the next commit

    async def taken(self) -> None:
        await asyncio.Event().wait()  # met at the next commit

    async def forget(self) -> None:
        self._window_ms = 1

    async def erase(self) -> None:
        async def remove() -> Any:
            return await self._store.erase_script(self._keys, [self._fence])

        # A commit that was broken off may come after this, finds no fence and writes nothing.
        if not await patiently(remove, ERASE_S):
            raise TakenOver

    async def leave(self) -> None:
        with suppress(RedisError, OSError):  # then the window began with the last commit
            await self._store.leave_script(self._keys, [self._fence, self._window_ms])


async def patiently(operation: Callable[[], Awaitable[T]], outage_s: float | None = None) -> T:
    """Again and again, while Redis is away or full. Raises StoreLost after that (a minute)."""
    pause_s = FIRST_PAUSE_S
    try:
        async with asyncio.timeout(outage_s or OUTAGE_S):
            while True:
                try:
                    return await operation()
                except (RedisError, OSError):
                    await asyncio.sleep(random.uniform(0, pause_s))
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    except TimeoutError:
        raise StoreLost from None


def keys(name: str) -> list[str]:
    """Of one session: its hash and its stream."""
    return [f"emotrace:{{{name}}}:session", f"emotrace:{{{name}}}:events"]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _number(identifier: bytes) -> int:
    return int(identifier.partition(b"-")[0]) - 1


def _pairs(row: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(row[::2], row[1::2], strict=True))
