"""Waiting for a state that nobody announces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def eventually(holds: Callable[[], object]) -> None:
    """Returns once it holds. Raises TimeoutError after half a minute."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - it looks at a state, there is no event
            await asyncio.sleep(0.001)
