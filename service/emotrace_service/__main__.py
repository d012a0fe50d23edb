"""`emotrace-serve`: start the server, or fetch weights for it (`emotrace-serve models`)."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotrace_protocol.events import NOTICE
from emotrace_service import logs
from emotrace_service.audit_cli import app as audit_app
from emotrace_service.core_dumps import forbid_core_dumps
from emotrace_service.errors import EXIT_CONFIG, StartRefused
from emotrace_service.keys_cli import cli as keys_app
from emotrace_service.replay_cli import replay
from emotrace_service.settings import PREFIX, Settings, load_settings
from emotrace_service.weights_cli import app as models_app

if TYPE_CHECKING:
    from emotrace_service.serving import Serving

USAGE_ERROR = 2  # what the command-line parser exits with
BACKLOG = 2_048
SEND_BUFFER_BYTES = 256 * 1024
USER_TIMEOUT_MS = 8_000  # then the kernel gives up a peer that acknowledges nothing

# \b keeps the lines that follow it as they are.
HELP = """Serve live emotion recognition in dialogue.

Without a command, starts the server with the shipped bundle on http://127.0.0.1:8080/
(this machine only) and prints what is live.

\b
emotrace-serve                start: browser page at /, stream at /v1/stream
emotrace-serve --port 9000    start on another port
emotrace-serve models pull    fetch a transcriber, so that words count too
emotrace-serve settings       every setting, its value now and what it means
emotrace demo                 (in another terminal) stream a demo dialogue

Every option is also an environment variable (--max-sessions is EMOTRACE_MAX_SESSIONS); limits
that are rarely changed are environment variables only.

Exit code 78: it cannot start, and said why; the same settings and files will not do better.
"""

GARBAGE = 20_000  # objects made and kept before young garbage is looked for; Python's is 700
# Libraries that would fetch models need not: what is served lies here, checked. And onnxruntime
# tells its makers which models it runs on what machine, unless it is told not to.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}
SWITCH_S = 0.0003  # how long a thread may hold the interpreter where another waits for it

cli = typer.Typer(
    name="emotrace-serve",
    help=HELP,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
cli.add_typer(models_app, name="models")
cli.add_typer(keys_app, name="keys")
cli.add_typer(audit_app, name="audit")
cli.command("replay")(replay)


def _about(name: str) -> str | None:
    return Settings.model_fields[name].description


@cli.callback()
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help=_about("host"))] = None,
    port: Annotated[int | None, typer.Option(help=_about("port"))] = None,
    bundle: Annotated[str | None, typer.Option(help=_about("bundle"))] = None,
    also: Annotated[list[str] | None, typer.Option(help=_about("also"))] = None,
    profile: Annotated[str | None, typer.Option(help=_about("profile"))] = None,
    weights: Annotated[Path | None, typer.Option(help=_about("weights"))] = None,
    whisper: Annotated[str | None, typer.Option(help=_about("whisper"))] = None,
    face_detector: Annotated[str | None, typer.Option(help=_about("face_detector"))] = None,
    threads: Annotated[int | None, typer.Option(help=_about("threads"))] = None,
    backend: Annotated[str | None, typer.Option(help="where models run: local or ray")] = None,
    max_sessions: Annotated[int | None, typer.Option(help="sessions at once")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, console or json")] = None,
) -> None:
    if context.invoked_subcommand is not None:
        return
    run(
        load_settings(
            host=host,
            port=port,
            bundle=bundle,
            also=tuple(also) if also else None,
            profile=profile,
            weights=weights,
            whisper=whisper,
            face_detector=face_detector,
            threads=threads,
            backend=backend,
            max_sessions=max_sessions,
            log_format=log_format,
        )
    )


@cli.command("settings")
def show_settings() -> None:
    """Every setting: its environment variable, its value now, and what it means."""
    values = load_settings()
    for name, field in Settings.model_fields.items():
        variable = f"{PREFIX}{name.upper()}={getattr(values, name)}"
        print(f"{variable}\n    {field.description}" if field.description else variable)


def run(settings: Settings) -> None:
    """Serve until a signal comes. Raises StartRefused."""
    logs.configure(settings.log_format)
    logs.catch_stray_exceptions()
    forbid_core_dumps()
    with bound(settings) as listener:
        address = listener.getsockname()
        print(f"Emotrace is loading bundle {settings.bundle!r} ...", flush=True)
        # Imported here: torch takes seconds, and `--help` or a wrong option should not.
        from emotrace_service.app import create_app
        from emotrace_service.server import GracefulServer, uvicorn_config

        url = f"http://{_url_host(settings.host)}:{address[1]}/"

        def on_ready(serving: Serving) -> None:
            # A full search for garbage stops every thread for 0.1 s, most of it in libraries that
            # stay for good: leave those out of it.
            gc.collect()
            gc.freeze()
            gc.set_threshold(GARBAGE)
            tell(serving, url)

        # A compute thread in Python code would hold up the event loop for five milliseconds.
        sys.setswitchinterval(SWITCH_S)
        app = create_app(settings, on_ready=on_ready)
        with _refused(settings):
            # Not before: a balancer would wait for one that accepts and says nothing.
            listener.listen(BACKLOG)
        GracefulServer(uvicorn_config(app), app.state.serving).run(sockets=[listener])


def bound(settings: Settings) -> socket.socket:
    """The socket, with its address. Raises StartRefused where it cannot have that."""
    host, port = settings.host, settings.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        raise StartRefused(
            f"{host!r} is no address. Use 127.0.0.1 for this machine only, or 0.0.0.0 for all."
        ) from None
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        with _refused(settings):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # The kernel would hold megabytes for a client that does not read.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # connections inherit it from this socket
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
            listener.bind(address)
    except StartRefused:
        listener.close()
        raise
    return listener


@contextmanager
def _refused(settings: Settings) -> Iterator[None]:
    """Raises StartRefused where the address is not to be had."""
    try:
        yield
    except OSError as error:
        raise StartRefused(
            f"Cannot listen on {settings.host} port {settings.port}: {error.strerror}. Stop what "
            "uses it, or choose another: --port 8081, or --port 0 for any."
        ) from error


def tell(serving: Serving, url: str) -> None:
    """What a person who started the server wants to know."""
    if serving.fault is not None:
        print(f"Emotrace cannot estimate anything: {serving.fault}", flush=True)
    if not serving.ready:
        return
    lines = [f"Emotrace is ready at {url}"]
    lines += [
        f"  bundle    {bundle.name} {bundle.version} ({', '.join(bundle.labels.names)})"
        for bundle in serving.bundles.values()
    ]
    lines += [
        f"  {status.modality:<9} {'live' if status.live else f'off: {status.reason}'}"
        for status in serving.modalities()
    ]
    if serving.settings.backend == "ray":
        lines.append(f"  models    run on the Ray cluster {serving.settings.ray_address!r}")
    if serving.door.open and not serving.settings.on_loopback:
        lines.append("  Anybody who can reach this address can use it: it asks for no key.")
    lines.append(f"  {NOTICE}")
    print("\n".join(lines), flush=True)


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def main() -> None:
    """The console script. A server that cannot start exits with 78 and says why."""
    # Numpy's own threads would spin beside the compute threads. It must know before it is loaded.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.update(OFFLINE)
    try:
        cli()
    except StartRefused as refused:
        print(f"emotrace-serve: {refused}", file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    except SystemExit as ended:
        sys.exit(EXIT_CONFIG if ended.code == USAGE_ERROR else ended.code)


if __name__ == "__main__":
    main()
