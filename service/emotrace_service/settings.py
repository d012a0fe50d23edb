"""Settings: every choice that whoever runs the server has. The only reader of the environment.

A command-line option wins over its environment variable (`--port`, `EMOTRACE_PORT`), and that over
the default. Whatever is unknown or invalid is refused: a server that ignores a misspelt limit would
run without it.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from emotrace_models.licences import Policy
from emotrace_service.errors import StartRefused

PREFIX = "EMOTRACE_"
CLIENTS = "EMOTRACE_API_KEY"  # which is theirs, and may be set on the same machine
MEMORY = "memory"
AUTO, NONE = "auto", "none"  # what a setting that names weights may say instead

WebhookEvent = Literal[
    "session.started", "emotion.final", "emotion.revised", "speech.rejected", "session.ended"
]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """Times in milliseconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    host: str = Field(
        default="127.0.0.1", description="address to listen on; the default is this machine only"
    )
    port: int = Field(default=8080, ge=0, le=65_535, description="0 takes any free port")
    bundle: str = Field(
        default="default", description="a shipped bundle's name, or a folder that export wrote"
    )
    also: tuple[str, ...] = Field(
        default=(), description="more bundles, which a session may ask for by name"
    )
    profile: Literal["exact", "fast"] = Field(
        default="exact",
        description="arithmetic: `exact` as trained, or `fast` with less precision, of which the "
        "bundle's drift report says what it changes (docs/decisions/0016)",
    )
    device: str = Field(
        default="cpu",
        pattern=r"^(cpu|cuda(:\d+)?)$",
        description="where large networks compute: cpu, cuda, cuda:1; the compact encoders of the "
        "shipped bundles are quicker on the processor and stay there",
    )
    weights: Path = Field(
        default_factory=lambda: Path.home() / ".cache" / "emotrace" / "weights",
        description="folder of weights that `emotrace-serve models pull` fetched",
    )
    whisper: str = Field(
        default="auto",
        description="transcriber: name of pulled weights, `auto` (any that are there) or `none`",
    )
    whisper_window: Literal["full", "speech"] = Field(
        default="full",
        description="`full`: Whisper encodes 30 s for each utterance, as it was trained; `speech`: "
        "only what was said, ten times as fast, and the words may suffer (docs/decisions/0017)",
    )
    face_detector: str = Field(
        default="auto",
        description="finder of faces: name of pulled weights, `auto` (any that are there, else "
        "OpenCV's) or `none` (OpenCV's)",
    )
    threads: int = Field(
        default_factory=cores, ge=1, le=256, description="compute threads; default: one a core"
    )
    workers: Literal["processes", "threads"] = Field(
        default="processes",
        description="where a compute thread's models are: in a process of its own, or in the "
        "server's, which needs less memory and serves a few live dialogues only",
    )
    origins: tuple[str, ...] = Field(
        default=(), description="web origins whose pages may connect, besides this machine's own"
    )
    shadow: str | None = Field(
        default=None,
        description="bundle that understands live sessions beside the default one, unseen: "
        "/metrics tells how often it says something else, before it takes the other's place",
    )
    shadow_share: float = Field(
        default=1.0, ge=0, le=1, description="of the sessions that the shadow understands"
    )
    license_policy: Policy = Field(
        default="any",
        description="`commercial` refuses weights that may not be used commercially; the bundle "
        "`free` may be",
    )
    keys: Path | None = Field(
        default=None,
        description="file of those who may use the server (`emotrace-serve keys new NAME`); "
        "without it, whoever reaches the server may",
    )
    open: bool = Field(
        default=False,
        description="let in whoever reaches the server, although others than this machine can",
    )
    contact: str | None = Field(
        default=None,
        max_length=256,
        description="whom people may ask about what is done with their voices: an address or a "
        "page, which GET /v1/notice names",
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`auto`: console on a terminal, JSON lines elsewhere"
    )

    audit_log: Path | None = Field(
        default=None,
        description="file for a line about each session and file: whose key, for what purpose, how "
        "it ended; never what was said (docs/privacy.md)",
    )

    recordings: Path | None = Field(
        default=None,
        description="folder for encrypted recordings of sessions whose clients ask for it, with "
        "consent (docs/privacy.md); without it, none is recorded",
    )
    recordings_key: Path | None = Field(
        default=None, description="public key (X25519, PEM) that recordings are sealed to"
    )
    recordings_days: int = Field(
        default=30, ge=1, le=3_650, description="after which recordings are deleted"
    )

    max_sessions: int = Field(default=1_000, ge=1, le=10_000, description="connections at once")
    compute_budget: float = Field(
        default=0.7,
        gt=0,
        le=100,
        description="share of the machine that sessions may take, by what they are measured to "
        "cost; then new ones are refused",
    )
    memory_limit_bytes: int | None = Field(
        default=None,
        ge=1,
        description="memory that the server and its processes may hold; over 85 % of it new "
        "sessions are refused; default: what the machine has. The limit of a container counts "
        "besides",
    )
    max_batch: int = Field(default=16, ge=1, le=256, description="utterances computed together")
    batch_wait_ms: int = Field(
        default=5, ge=0, le=100, description="how long an utterance waits for companions"
    )
    max_upload_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1_024, description="size of one uploaded file"
    )
    max_file_minutes: int = Field(default=60, ge=1, description="audio of one uploaded file")
    audio_queue_ms: int = Field(
        default=10_000, ge=1_000, le=60_000, description="audio that may wait, a session"
    )
    start_timeout_ms: int = Field(
        default=3_000, ge=1, description="for session.start, once connected"
    )
    send_timeout_ms: int = Field(
        default=5_000, ge=1, description="for one event; then the client reads too slowly"
    )
    heartbeat_ms: int = Field(
        default=10_000, ge=1, description="a sign of life where nothing else is sent for so long"
    )
    idle_no_audio_ms: int = Field(
        default=60_000, ge=1, description="without audio for so long, a session ends"
    )
    max_session_ms: int = Field(
        default=4 * 3_600_000, ge=1, description="a session that has lasted so long ends"
    )
    new_sessions_a_second: float = Field(
        default=100.0, gt=0, description="and what else comes is told when to come again"
    )
    idle_no_speech_ms: int = Field(
        default=15 * 60_000, ge=1, description="of audio without speech, and a session ends"
    )
    session_store: str = Field(
        default=MEMORY,
        pattern=r"^(memory|(rediss?|unix)://.+)$",
        description="where sessions are kept for clients that come back: `memory` of this process, "
        "or redis://host:6379/0, from which another replica goes on too; keep a password in the "
        "environment, not on the command line",
    )
    resume_window_ms: int = Field(
        default=120_000,
        ge=0,
        le=600_000,
        description="how long a session whose connection broke waits for its client; 0: it ends",
    )
    text_wait_ms: int = Field(
        default=1_500,
        ge=0,
        le=10_000,
        description="how long an utterance waits for the client's words (transcription=client)",
    )
    early_estimate_ms: int = Field(
        default=300,
        ge=0,
        le=10_000,
        description="where words take longer, an interim estimate is made without them",
    )
    compute_timeout_ms: int = Field(
        default=30_000, ge=1, description="for one batch; then its thread is given up as hung"
    )
    drain_notice_ms: int = Field(
        default=500,
        ge=0,
        le=10_000,
        description="how long before its sessions move elsewhere a server that stops is not ready",
    )
    drain_timeout_ms: int = Field(
        default=5_000, ge=0, description="for open sessions, when the server stops"
    )

    webhook_url: str | None = Field(
        default=None,
        description="where events of all sessions are posted (docs/operations.md)",
    )
    webhook_secret: SecretStr | None = Field(
        default=None, description="signs the posts: whsec_ and 24 to 64 bytes in base64"
    )
    webhook_events: tuple[WebhookEvent, ...] = Field(
        default=get_args(WebhookEvent), description="types of the events that are posted"
    )
    webhook_insecure: bool = Field(
        default=False, description="lets webhook_url be http to another machine"
    )

    backend: Literal["local", "ray"] = Field(
        default="local",
        description="where models run: `local`, on threads of this process; `ray`, on the nodes of "
        "a Ray cluster (docs/operations.md)",
    )
    ray_address: str = Field(
        default="auto",
        description="cluster: `auto`, the one that this machine is a node of; `local`, one of this "
        "machine alone, which begins and ends with the server; or host:port of its head",
    )
    ray_application: str = Field(
        default="emotrace",
        pattern="^[a-z0-9][a-z0-9_-]{0,63}$",
        description="what the replicas are called on the cluster; each server there needs its own",
    )
    ray_replicas_min: int = Field(
        default=1, ge=1, le=1_000, description="copies of the models that always run"
    )
    ray_replicas_max: int = Field(
        default=1,
        ge=1,
        le=1_000,
        description="copies that may run while there is much to do, if it is more than that",
    )
    ray_cpus_a_replica: float = Field(
        default=1.0, gt=0, le=256, description="cores of a copy, which computes on as many threads"
    )
    ray_gpus_a_replica: float = Field(
        default=0.0,
        ge=0,
        le=16,
        description="GPUs that are reserved for a copy; 0.5 is half of one",
    )
    ray_ongoing: int = Field(
        default=32,
        ge=1,
        le=4_096,
        description="utterances that a copy holds at once; where copies hold more than a quarter "
        "of that, another is started",
    )
    ray_queue: int = Field(
        default=256,
        ge=1,
        le=65_536,
        description="utterances that wait for a copy; what comes then is refused",
    )

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def load_settings(**options: Any) -> Settings:
    """Settings from options (None: not given), environment and defaults. Raises StartRefused."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    strangers = [
        name
        for name in os.environ
        if name.upper().startswith(PREFIX) and name.upper() not in {*known, CLIENTS}
    ]
    if strangers:
        raise StartRefused(
            f"The environment sets {', '.join(sorted(strangers))}, which is no setting. "
            f"Unset it, or use one of {', '.join(sorted(known))}."
        )
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = str(fault["loc"][0]) if fault["loc"] else "settings"
        raise StartRefused(
            f"--{name.replace('_', '-')} ({PREFIX}{name.upper()}): "
            f"{fault['msg']}, and it is {fault['input']!r}."
        ) from None
    except ValueError as error:  # pydantic-settings: a variable that should hold JSON does not
        raise StartRefused(f"The environment: {error}. Write lists as JSON.") from None
