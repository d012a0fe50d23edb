"""How uvicorn is run: limits of the transport, and an end that sessions hear of."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from types import FrameType

import uvicorn
from fastapi import FastAPI

from emotrace_service.bundle_change import BundleChange
from emotrace_service.endings import broken_off
from emotrace_service.frames import BoundedFrames
from emotrace_service.serving import Serving
from emotrace_service.unread import BoundedRequests

MAX_FRAME_BYTES = 2 * 1024 * 1024  # twice the protocol's limit, so that most excess gets an `error`
PING_S = 10.0
SHUTDOWN_S = 5
SIGNAL_S = 0.1  # how often it is asked whether one came


def uvicorn_config(app: FastAPI) -> uvicorn.Config:
    """No logs of its own (they hold addresses and query strings), no compression."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        http=BoundedRequests,
        ws=BoundedFrames,
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        ws_per_message_deflate=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )


class GracefulServer(uvicorn.Server):
    """Lets sessions finish what they took in before uvicorn closes their sockets."""

    def __init__(self, config: uvicorn.Config, serving: Serving) -> None:
        super().__init__(config)
        self._serving = serving
        self._change = BundleChange(serving)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Until a signal comes. Those that come while the process ends are of no more use."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # uvicorn has its own until it is done
        super().run(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """SIGUSR1 has the bundles read again, where there is such a signal."""
        await super().startup(sockets)
        if hasattr(signal, "SIGUSR1") and threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGUSR1, self._change.begin)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal ends the server and is not raised again: to be stopped is no failure."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """A second signal ends it at once."""
        draining = asyncio.create_task(self._serving.drain())
        while not draining.done() and not self.force_exit:
            await asyncio.wait({draining}, timeout=SIGNAL_S)
        await broken_off({draining})
        await super().shutdown(sockets)
