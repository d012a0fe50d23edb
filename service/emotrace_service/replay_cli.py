"""`emotrace-serve replay`: the events of a recorded session, by the same bundle or another."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotrace_service import logs
from emotrace_service.errors import StartRefused
from emotrace_service.settings import Settings, load_settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from emotrace_service.replaying import RecordedSession


def replay(
    files: Annotated[list[Path], typer.Argument(help="All parts of one session.")],
    key: Annotated[Path, typer.Option(help="The private key (PEM) that they are sealed to.")],
    bundle: Annotated[
        str | None, typer.Option(help="Another bundle than the session ran with.")
    ] = None,
) -> None:
    """Print the events of a recorded session, one JSON object a line.

    They are those that the client got, but for what depends on how busy the server was: interim
    estimates, heartbeats, acknowledgements; and for answers to what had no effect. Exits with 1
    where the recording is not whole: then the words of its last utterance may be missing.
    """
    try:
        from emotrace_service.replaying import RecordedSession
        from emotrace_service.sealing import Unsealable
    except ImportError:
        raise StartRefused(
            "A replay takes the package cryptography: pip install 'emotrace[recording]'."
        ) from None
    settings = load_settings(bundle=bundle, workers="threads")
    logs.configure(settings.log_format)
    try:
        session = RecordedSession(files, _private_key(key))
        whole = asyncio.run(_replay(session, settings, elsewhere=bundle is not None))
    except OSError as error:
        raise StartRefused(f"{error.filename}: {error.strerror}.") from None
    except Unsealable as error:
        raise StartRefused(str(error)) from None
    raise typer.Exit(0 if whole else 1)


def _private_key(path: Path) -> X25519PrivateKey:
    """Raises Unsealable, OSError."""
    from emotrace_service.sealing import load_private_key

    try:
        return load_private_key(path)
    except TypeError:
        return load_private_key(
            path, typer.prompt(f"Password of {path}", hide_input=True, err=True)
        )


async def _replay(session: RecordedSession, settings: Settings, *, elsewhere: bool) -> bool:
    """Whether all was there to be replayed. Raises StartRefused, Unsealable."""
    # Imported here: torch takes seconds, and a wrong key should not.
    from emotrace_protocol.codec import encode
    from emotrace_protocol.errors import ProtocolError
    from emotrace_service.loading import load_backend, load_shelf
    from emotrace_service.metrics import Metrics
    from emotrace_service.replaying import Replay
    from emotrace_service.serving import Serving

    metrics = Metrics()
    shelf = load_shelf(settings)
    backend = load_backend(settings, shelf, metrics)
    serving = Serving(settings, shelf, backend, metrics, logs.logger())
    try:
        run = Replay(serving, session, elsewhere=elsewhere)
        about = session.about
        was = f"{about.bundle} {about.version} ({about.profile})"
        now = f"{run.bundle.name} {run.bundle.version} ({settings.profile})"
        if was != now:
            print(f"recorded with {was}, replayed with {now}", file=sys.stderr)
        await run.run(lambda event: print(encode(event), flush=True))
    except ProtocolError as error:
        raise StartRefused(error.message) from None
    finally:
        await backend.close()
    if session.missing is not None:
        first, last = session.missing[0], session.missing[-1]
        print(
            f"messages {first} to {last} were not recorded; what came after is left out",
            file=sys.stderr,
        )
    elif session.end is None:
        print(
            "the recording has no end: its server died, or its last part is missing",
            file=sys.stderr,
        )
    return session.missing is None and session.end is not None
