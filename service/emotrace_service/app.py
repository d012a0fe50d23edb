"""create_app: wires the server's parts together, and nothing else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.types import Lifespan

from emotrace_protocol.errors import ProtocolError
from emotrace_protocol.events import NOTICE
from emotrace_service.auditing import open_audit
from emotrace_service.client_secrets import ClientSecrets
from emotrace_service.confined_pictures import PICTURES
from emotrace_service.endings import broken_off
from emotrace_service.loading import load_backend, load_door, load_shelf, load_store
from emotrace_service.logs import logger
from emotrace_service.making_room import MakingRoom
from emotrace_service.metrics import Metrics
from emotrace_service.pages import add_pages, browser_folder
from emotrace_service.privacy_routes import router as privacy_router
from emotrace_service.realtime_routes import router as realtime_router
from emotrace_service.recording_choice import load_recordings
from emotrace_service.routes import (
    OriginForbidden,
    answer_forbidden,
    answer_protocol_error,
    router,
)
from emotrace_service.serving import Serving
from emotrace_service.settings import Settings
from emotrace_service.tracing import load_tracing
from emotrace_service.warming import warm
from emotrace_service.watching import Watch
from emotrace_service.webhook_choice import load_webhook
from emotrace_service.witness import Observers

ABOUT = f"""{NOTICE}

Live dialogues use the websockets `/v1/stream` (docs/protocol/asyncapi.json) and `/v1/realtime`
(docs/compatibility.md), which OpenAPI has no words for.
"""

Told = Callable[[Serving], None]


def interface(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """The endpoints, with nothing behind them yet."""
    app = FastAPI(
        title="Emotrace",
        summary="Which emotion is expressed in a live dialogue, how surely, and why",
        description=ABOUT,
        version=version("emotrace"),
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        docs_url=None,  # these pages fetch scripts from elsewhere
        redoc_url=None,
        # Its own would send addresses with their queries, and the texts of exceptions.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.include_router(router)
    app.include_router(realtime_router)
    app.include_router(privacy_router)
    app.add_exception_handler(ProtocolError, answer_protocol_error)
    app.add_exception_handler(OriginForbidden, answer_forbidden)
    return app


def create_app(
    settings: Settings,
    *,
    on_ready: Told | None = None,
) -> FastAPI:
    """The application. Raises StartRefused where it cannot serve.

    on_ready: called once the models are warm, or could not be warmed.
    """
    metrics = Metrics()
    webhook = load_webhook(settings, metrics, logger())
    shelf = load_shelf(settings)
    backend = load_backend(settings, shelf, metrics)
    store = load_store(settings)
    door = load_door(settings, store)
    audit = open_audit(settings.audit_log, metrics.registry, logger())
    recordings = load_recordings(settings, audit, metrics.registry, logger())
    observers = Observers(audit, load_tracing(os.environ), recordings, webhook)
    serving = Serving(settings, shelf, backend, metrics, logger(), store, door, observers)

    async def begin() -> None:
        await asyncio.gather(asyncio.to_thread(serving.decoders.prepare), warm(serving))
        if on_ready is not None:
            on_ready(serving)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        running = (begin(), Watch(serving).run(), MakingRoom(serving).run())
        tasks = {asyncio.create_task(one) for one in running}
        if webhook is not None:
            webhook.start()
        yield
        await serving.drain()
        if webhook is not None:
            await webhook.close(settings.drain_timeout_ms / 1_000)
        await broken_off(tasks)
        await asyncio.to_thread(serving.decoders.close)
        await backend.close()
        await asyncio.to_thread(PICTURES.close)
        if serving.store is not None:
            await serving.store.close()
        await asyncio.to_thread(observers.close)

    app = interface(lifespan)
    app.state.serving = serving
    app.state.client_secrets = ClientSecrets()
    add_pages(app, browser_folder())
    return app
