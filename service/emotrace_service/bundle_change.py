"""Other bundles, while sessions are open: what the settings name is read again.

A bundle is put beside the one that is served, and a link (or a folder of that name) is changed to
it; a signal then has the server read and check it, let every compute thread take the new models
between two batches, and give them to new sessions. Open sessions keep theirs (shelf.py). Whatever
is wrong with the new files, the server goes on with what it has, and says so.
"""

from __future__ import annotations

import asyncio

from emotrace_service.engine import LocalBackend
from emotrace_service.errors import EngineError, StartRefused
from emotrace_service.loading import load_models, load_shelf
from emotrace_service.serving import Serving


class BundleChange:
    """Of one server, one after the other."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._running: asyncio.Task[None] | None = None
        self._again = False

    def begin(self) -> None:
        """Read the bundles again; once more, if that is being done already."""
        if self._running is not None and not self._running.done():
            self._again = True
            return
        self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            self._again = False
            self._serving.metrics.bundle_changes.labels(await self._change()).inc()
            if not self._again:
                return

    async def _change(self) -> str:
        serving = self._serving
        settings, log = serving.settings, serving.log
        backend = serving.backend
        if not isinstance(backend, LocalBackend):
            log.error("bundles cannot be changed", cause="they are on a cluster: restart instead")
            return "refused"
        log.info("reading the bundles again")
        try:
            new = await asyncio.to_thread(load_shelf, settings)
            if [one.key for one in new.held] == [one.key for one in serving.shelf.served]:
                log.info("the bundles have not changed")
                return "unchanged"
            shelf = serving.shelf.followed_by(new, serving.bundles_in_use)
            await backend.renew(*await asyncio.to_thread(load_models, settings, shelf.held))
        except (StartRefused, EngineError) as refused:
            log.error("the bundles stay as they are", cause=str(refused))
            return "refused"
        serving.shelf = shelf
        log.info(
            "bundles changed",
            served=[one.edition for one in shelf.served],
            kept=[one.edition for one in shelf.earlier],
        )
        return "changed"
