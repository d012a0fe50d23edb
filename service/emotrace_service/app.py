"""create_app: wires the server's parts together, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

import numpy as np
from fastapi import FastAPI

from emotrace_models.types import SAMPLE_RATE, Frame, Modality, Transcript, Utterance
from emotrace_protocol.errors import ProtocolError
from emotrace_service.audio import FRAME_SAMPLES
from emotrace_service.errors import EngineError, place
from emotrace_service.loading import load_backend, load_bundles
from emotrace_service.logs import logger
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
    serving = Serving(settings, bundles, backend, metrics, logger())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(_warm(serving, on_ready))
        yield
        await serving.drain()
        warming.cancel()
        await asyncio.wait({warming})
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


async def _warm(serving: Serving, on_ready: Told | None) -> None:
    """Run every model once, so that the first utterance is as quick as the others."""
    backend = serving.backend
    noise = np.random.default_rng(0).normal(0.0, 0.01, SAMPLE_RATE).astype(np.float32)
    words = Transcript("warm up", "server")
    grey = Frame(0, np.full((224, 224, 3), 128, np.uint8))
    try:
        await backend.detect([noise[np.newaxis, :FRAME_SAMPLES]], (backend.start_voice(),))
        for name, bundle in serving.bundles.items():
            utterance = Utterance(
                0,
                "A",
                0,
                SAMPLE_RATE,
                noise,
                words if Modality.LEXICAL in bundle.fusion.modalities else None,
                (grey,) if Modality.FACIAL in bundle.fusion.modalities else (),
            )
            await backend.predict(backend.start(name), utterance)
        if backend.transcribes(None):
            await backend.transcribe(utterance, None)
    except EngineError as error:
        cause = error.__cause__ or error
        serving.fault = f"The models cannot be run: {type(cause).__name__}."
        serving.log.error("warming failed", error=type(cause).__name__, place=place(cause))
    else:
        serving.ready = True
    if on_ready is not None:
        on_ready(serving)
