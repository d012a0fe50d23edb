"""The profile `scaled` of compose.yaml, brought up for real: a dialogue outlives its replica.

Images of HAProxy, Redis and Prometheus need a registry of images; here they are made of Debian's
packages, under the same names. Grafana is not in Debian, and is left out.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from deployment.containers import Engine
from ports import free_port

pytestmark = [pytest.mark.long, pytest.mark.timeout(3_600)]

PACKAGES = {"proxy": "haproxy", "redis": "redis-server", "prometheus": "prometheus"}
REPLICAS = ("replica-1", "replica-2", "replica-3")
NEW = ("replica-4", "replica-5", "replica-6")  # of an update
FETCH = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"


@dataclass(frozen=True)
class Stack:
    """port: of the proxy, on loopback. compose: runs a command of the composer."""

    engine: Engine
    port: int
    compose: Callable[..., None]

    def fetch(self, url: str, *replicas: str) -> str:
        """What a replica that runs gets; it reaches what is on its networks."""
        for replica in replicas or REPLICAS + NEW:
            done = self.engine.try_("exec", f"emotrace-{replica}", "python3", "-c", FETCH, url)
            if done.returncode == 0:
                return done.stdout
        return ""

    def query(self, expression: str) -> list[Any]:
        answer = self.fetch(f"http://prometheus:9090/api/v1/query?query={quote(expression)}")
        result: list[Any] = json.loads(answer)["data"]["result"]
        return result

    def ready(self, replicas: int = len(REPLICAS)) -> None:
        """Returns once the proxy finds so many ready."""
        name = f'haproxy_backend_active_servers{{proxy="replicas"}} {replicas}'
        self.until(lambda: name in self.fetch("http://proxy:8405/metrics"))

    def until(self, holds: Callable[[], bool]) -> None:
        for _ in range(600):
            if holds():
                return
        raise AssertionError("it never came")


@contextmanager
def healthy(engine: Engine, container: str) -> Iterator[None]:
    """Runs a container's health check again and again, as systemd does for Podman elsewhere."""
    over = threading.Event()

    def check() -> None:
        while not over.wait(1.0):
            engine.try_("healthcheck", "run", container)

    thread = threading.Thread(target=check)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def stack(
    engine: Engine,
    image: Callable[[str], str],
    composer: list[str],
    compose: dict[str, Any],
    prepared: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    image("cpu")
    folder = tmp_path_factory.mktemp("standins")
    base = compose["x-cpu-image"]["build"]["args"]["DEBIAN_IMAGE"].partition(":-")[2].rstrip("}")
    for service, package in PACKAGES.items():
        name = compose["services"][service]["image"].partition(":-")[2].rstrip("}")
        entrypoint = 'ENTRYPOINT ["prometheus"]\nUSER nobody' if service == "prometheus" else ""
        file = folder / service
        file.write_text(
            f"FROM docker.io/library/{base}\n"
            f"RUN apt-get update && apt-get install --yes --no-install-recommends {package}\n"
            f"RUN install --directory --mode=777 /prometheus /data\n{entrypoint}\n"
        )
        path = name if "/" in name else f"library/{name}"
        engine.build(file, None, f"docker.io/{path}", folder)
    port = free_port()
    command = [*composer, "--file", str(prepared / "compose.yaml"), "--profile", "scaled"]
    with engine.serving() as socket:
        environment = {
            **os.environ,
            "DOCKER_HOST": socket,
            "PUBLISH": f"127.0.0.1:{port}",
            "OPEN": "true",
        }

        def act(*words: str) -> None:
            done = subprocess.run(
                [*command, *words], env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr[-4_000:]

        try:
            with healthy(engine, "emotrace-redis-1"):
                act("up", "--detach", "--no-build", "--pull", "never", "replica", *PACKAGES)
            made = Stack(engine, port, act)
            made.ready()
            yield made
        finally:
            act("down", "--volumes", "--timeout", "45")


@contextmanager
def demo(stack: Stack) -> Iterator[list[dict[str, Any]]]:
    """The demo dialogue through the proxy, which is under way within the block. Its events, all of
    them after the block."""
    emotrace = Path(sys.executable).with_name("emotrace")
    url = f"ws://127.0.0.1:{stack.port}/v1/stream"
    running = subprocess.Popen(
        [emotrace, "demo", "--json", "--url", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert running.stdout is not None
    events: list[dict[str, Any]] = []
    lines = []
    try:
        for line in running.stdout:
            lines.append(line)
            if len([one for one in lines if "emotion.final" in one]) == 3:
                break
        yield events
        lines += running.stdout
        assert running.wait() == 0, lines
    finally:
        running.kill()
        running.wait()
        running.stdout.close()
    events += [json.loads(line) for line in lines if line.startswith("{")]
    assert events[-1]["type"] == "session.ended"
    assert events[-1]["totals"]["failed"] == 0
    finals = [event for event in events if event["type"] == "emotion.final"]
    assert len(finals) == events[-1]["totals"]["finals"]


@pytest.mark.parametrize("how", [("kill", "--signal", "KILL"), ("stop", "--time", "45")])
def test_a_dialogue_outlives_its_replica(stack: Stack, how: tuple[str, ...]) -> None:
    stack.ready()
    with demo(stack) as events:
        container = having(stack)
        stack.engine(*how, f"emotrace-{container}")
    assert [event["type"] for event in events].count("session.resumed") == 1
    if how[0] == "stop":
        state = stack.engine("inspect", f"emotrace-{container}", "--format", "{{.State.ExitCode}}")
        assert state == "0"
    stack.engine("start", f"emotrace-{container}")


def having(stack: Stack) -> str:
    """The replica with the one session that is open."""
    found = [
        replica
        for replica in REPLICAS
        if "\nemotrace_sessions 1.0\n" in stack.fetch("http://127.0.0.1:8080/metrics", replica)
    ]
    assert len(found) == 1
    return found[0]


def test_the_dashboard_has_something_to_show(stack: Stack, docker: Path) -> None:
    stack.ready()
    stack.until(lambda: bool(stack.query("rate(emotrace_loop_lag_seconds_count[1m]) > 0")))
    dashboard = json.loads((docker / "monitoring/dashboards/emotrace.json").read_text())
    empty = [
        panel["title"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
        if not stack.query(
            target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
        )
    ]
    kept = {"Audit log", "Audit log cannot be written", "Recordings"}  # which are off
    assert set(empty) <= {"Refusals a second", *kept}
    rules = json.loads(stack.fetch("http://prometheus:9090/api/v1/rules"))["data"]["groups"]
    assert {rule["health"] for group in rules for rule in group["rules"]} == {"ok"}


def test_nothing_leaves_and_only_the_user_gets_into_redis(stack: Stack) -> None:
    out = "import socket; socket.create_connection(('198.51.100.1', 80), 5)"
    refused = stack.engine.try_("exec", f"emotrace-{REPLICAS[0]}", "python3", "-c", out)
    assert "Network is unreachable" in refused.stderr
    url = stack.engine("exec", f"emotrace-{REPLICAS[0]}", "printenv", "EMOTRACE_SESSION_STORE")
    say = "from sys import argv; from redis import Redis; r = Redis.from_url(argv[1]); "
    say += "print(r.execute_command(*argv[2:]))"
    python = ("exec", f"emotrace-{REPLICAS[0]}", "python3", "-c", say)
    assert stack.engine(*python, url, "PING") == "True"
    for store, command in (
        (url, ("FLUSHALL",)),
        (url, ("GET", "somebody-else")),
        (re.sub("//.*@", "//", url), ("PING",)),
    ):
        answer = stack.engine.try_(*python, store, *command)
        assert re.search("NoPermission|Authentication", answer.stderr), command


def test_an_update_for_which_nobody_waits(stack: Stack) -> None:
    """As docs/deployment.md has it; the last of all, since other replicas are there afterwards."""
    stack.ready()
    new = ("--detach", "--no-build", "--no-recreate", "--scale", f"replica={len(REPLICAS + NEW)}")
    stack.compose("up", *new, "replica")
    stack.ready(len(REPLICAS + NEW))
    with demo(stack):
        for replica in REPLICAS:
            stack.engine("stop", "--time", "45", f"emotrace-{replica}")
            stack.engine("rm", f"emotrace-{replica}")
            assert httpx.get(f"http://127.0.0.1:{stack.port}/readyz").status_code == 200
    stack.ready(len(NEW))
