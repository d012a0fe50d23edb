"""A server that says how many tasks its event loop has, when it is sent SIGUSR1.

python counted_server.py [EMOTRACE_... in the environment]
"""

from __future__ import annotations

import asyncio
import gc
import signal

from emotrace_service import logs
from emotrace_service.__main__ import bound
from emotrace_service.app import create_app
from emotrace_service.server import GracefulServer, uvicorn_config
from emotrace_service.serving import Serving
from emotrace_service.settings import load_settings


def tell() -> None:
    gc.collect()  # what only a search for garbage frees is no leak
    print(f"tasks {len(asyncio.all_tasks())}", flush=True)


def main() -> None:
    settings = load_settings()
    logs.configure("json")
    with bound(settings) as listener:
        listener.listen()

        def ready(_: Serving) -> None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
            print(f"ready {listener.getsockname()[1]}", flush=True)

        app = create_app(settings, on_ready=ready)
        GracefulServer(uvicorn_config(app), app.state.serving).run(sockets=[listener])


if __name__ == "__main__":
    main()
