"""Waiting for a state that nobody announces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def eventually(holds: Callable[[], object]) -> None:
    """Returns once it holds. Raises TimeoutError where it never does, on a busy machine too."""
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110 - it looks at a state, there is no event
            await asyncio.sleep(0.001)
