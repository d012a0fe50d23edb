"""create_app: wires the server's parts together, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from emotrace_protocol.errors import ProtocolError
from emotrace_service.loading import load_backend, load_bundles
from emotrace_service.logs import logger
from emotrace_service.memory_store import MemoryStore
from emotrace_service.metrics import Metrics
from emotrace_service.pages import add_pages, browser_folder
from emotrace_service.routes import (
    OriginForbidden,
    answer_forbidden,
    answer_protocol_error,
    router,
)
from emotrace_service.serving import Serving
from emotrace_service.settings import Settings
from emotrace_service.warming import warm
from emotrace_service.watching import Watch

Told = Callable[[Serving], None]


def create_app(
    settings: Settings,
    *,
    on_ready: Told | None = None,
) -> FastAPI:
    """The application. Raises StartRefused where it cannot serve.

    on_ready: called once the models are warm, or could not be warmed.
    """
    metrics = Metrics()
    bundles = load_bundles(settings)
    backend = load_backend(settings, bundles, metrics)
    window_ms = settings.resume_window_ms
    store = MemoryStore(window_ms, settings.max_sessions) if window_ms else None
    serving = Serving(settings, bundles, backend, metrics, logger(), store)

    async def begin() -> None:
        await warm(serving)
        if on_ready is not None:
            on_ready(serving)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = {asyncio.create_task(begin()), asyncio.create_task(Watch(serving).run())}
        yield
        await serving.drain()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await backend.close()

    app = FastAPI(
        title="Emotrace",
        version=version("emotrace"),
        lifespan=lifespan,
        docs_url=None,  # these pages fetch scripts from elsewhere
        redoc_url=None,
    )
    app.state.serving = serving
    app.include_router(router)
    app.add_exception_handler(ProtocolError, answer_protocol_error)
    app.add_exception_handler(OriginForbidden, answer_forbidden)
    add_pages(app, browser_folder())
    return app
