"""The cluster: the server joins one, has the models run there, and leaves it.

Ray is imported here and in ray_replicas.py alone, where a server asks for it. No HTTP proxy is
started: clients' sockets stay in the server, which calls replicas by handle.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray starts: it would report to its makers

import ray
from ray import serve

from emotrace_models.predictor import Predictor
from emotrace_models.weights import WeightSet
from emotrace_service.engine import LocalBackend
from emotrace_service.errors import StartRefused
from emotrace_service.loading import Origin
from emotrace_service.logs import logger
from emotrace_service.ray_backend import RayBackend, Words
from emotrace_service.ray_replicas import ModelReplica, WordsReplica
from emotrace_service.settings import Settings

AUTO, LOCAL = "auto", "local"
CONNECTING_S = 5.0
QUIET = {"log_level": "WARNING", "enable_access_log": False}
TARGET = 1 / 4  # of what a replica may hold: more than that, and what comes has to wait
ATTEMPTS = 2  # at starting a replica before the start is refused
HEALTH_S = 5.0
END_S = 5.0  # for the calls that a replica has when it is to end
END_LOOP_S = 0.5  # how often it looks whether it has some
LANGUAGES_S = 60.0


def load_ray_backend(
    settings: Settings,
    predictors: Mapping[str, Predictor],
    origins: Sequence[Origin],
    weights: WeightSet | None,
    voices: LocalBackend,
) -> RayBackend:
    """Joins the cluster and waits until the models run there. Raises StartRefused.

    origins: of the bundles. weights: the transcriber's; None: there is none. voices: the voice
    detector's engine.
    """
    for name in ("ray", "ray.serve"):  # they tell each refused call, which the caller is told
        logging.getLogger(name).setLevel(logging.ERROR)
    own = _join(settings)
    started: list[str] = []

    def leave() -> None:
        for application in started:
            serve.delete(application)
        if own:
            ray.shutdown()

    def deploy(what: str, kind: type, *arguments: object) -> Any:
        started.append(f"{settings.ray_application}-{what}")
        return _deploy(settings, started[-1], kind, *arguments)

    try:
        serve.start(proxy_location="Disabled", logging_config=QUIET)
        models = deploy("models", ModelReplica, settings, origins)
        words = None
        if weights is not None:
            words = _words(deploy("words", WordsReplica, settings, weights))
    except Exception as error:  # Ray's errors share no base class
        reason = _reason(started, error)
        leave()
        raise StartRefused(
            f"The models do not run on the Ray cluster {settings.ray_address!r}: {reason} "
            "Or start with --backend local."
        ) from error
    return RayBackend(
        predictors,
        voices,
        models,
        words,
        timeout_s=settings.compute_timeout_ms / 1_000,
        leave=leave,
    )


def _join(settings: Settings) -> bool:
    """Whether the connection to the cluster is the server's own, and ends with it."""
    if ray.is_initialized():
        return False
    address = settings.ray_address
    try:
        if address not in (AUTO, LOCAL):  # Ray itself would try for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), CONNECTING_S).close()
        ray.init(
            address=address,
            log_to_driver=False,
            configure_logging=False,
            **({"include_dashboard": False} if address == LOCAL else {}),
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise StartRefused(
            f"There is no Ray cluster at {address!r} that this machine is a node of. "
            "Start one with `ray start --head --disable-usage-stats --include-dashboard=false`, or "
            "set EMOTRACE_RAY_ADDRESS=local for one of this machine alone."
        ) from error
    return True


def _deploy(settings: Settings, application: str, kind: type, *arguments: object) -> Any:
    """The handle of replicas that run. What ran under this name before is replaced."""
    cores = ray.cluster_resources().get("CPU", 0.0)
    if cores < settings.ray_replicas_min * settings.ray_cpus_a_replica:
        logger().warning("the cluster is too small yet; waiting for nodes", cores=cores)
    deployment = serve.deployment(kind).options(
        ray_actor_options={
            "num_cpus": settings.ray_cpus_a_replica,
            "num_gpus": settings.ray_gpus_a_replica,
        },
        autoscaling_config={
            "min_replicas": settings.ray_replicas_min,
            "max_replicas": max(settings.ray_replicas_min, settings.ray_replicas_max),
            "target_ongoing_requests": max(1.0, settings.ray_ongoing * TARGET),
        },
        max_ongoing_requests=settings.ray_ongoing,
        max_queued_requests=settings.ray_queue,
        max_constructor_retry_count=ATTEMPTS,
        health_check_period_s=HEALTH_S,
        graceful_shutdown_wait_loop_s=END_LOOP_S,
        graceful_shutdown_timeout_s=END_S,
        logging_config=QUIET,
    )
    handle = serve.run(deployment.bind(*arguments), name=application, route_prefix=None)
    # By value: Ray's object store costs ten milliseconds for an utterance, a message two.
    return handle.options(_by_reference=False)


def _words(handle: Any) -> Words:
    return Words(handle, handle.languages.remote().result(timeout_s=LANGUAGES_S))


def _reason(applications: Sequence[str], error: Exception) -> str:
    """What a replica said that did not start, or else the error."""
    told = [
        deployment.message
        for application in applications[-1:]
        for deployment in serve.status().applications[application].deployments.values()
    ]
    text = next(filter(None, told), str(error)).strip()
    last = text.splitlines()[-1] if text else type(error).__name__
    return last.rpartition("StartRefused: ")[2]
