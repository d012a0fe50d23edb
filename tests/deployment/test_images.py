"""The images, built by their Dockerfile in a clean Debian root, and run as they are meant to be.

Half an hour and some ten gigabytes of disk, most of it for pip. Without an index of CPU builds of
torch in PIP_FLAGS (or a wheel in PIP_FIND_LINKS) it is gigabytes of CUDA more.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deployment.containers import CONFINED, Engine

from emotrace_service.confined_process import NOT_FILTERED

pytestmark = [pytest.mark.long, pytest.mark.timeout(3_600)]

OFFLINE = ("--network", "none")  # loopback alone
OPEN = ("--env", "EMOTRACE_OPEN=true", "--env", "EMOTRACE_DRAIN_TIMEOUT_MS=30000")
# What libraries leave in the only place that can be written to: sockets of the compute processes,
# and a folder of torch's.
TEMPORARY = ("pymp-", "torchinductor_")
INSTALLED = (
    "import importlib.metadata as m; print([(one.name, one.version) for one in m.distributions()])"
)


ANALYSIS = """
import io, json
import httpx, soundfile
from emotrace_clients.demo import shipped
samples, rate = soundfile.read(shipped.AUDIO, dtype="int16")
file = io.BytesIO()
soundfile.write(file, samples, rate, format="WAV")
answer = httpx.post(
    "http://127.0.0.1:8080/v1/audio/analyze",
    files={"file": file.getvalue()},
    data={"start": json.dumps({"speakers": shipped.speakers()})},
    timeout=300,
)
print(json.dumps([answer.status_code, answer.json()]))
"""


@pytest.fixture
def server(engine: Engine, image: Callable[[str], str]) -> Iterator[str]:
    """A confined container that serves, offline."""
    with engine.container(image("cpu"), *OFFLINE, *OPEN) as running:
        engine.healthy(running)
        yield running


def test_it_serves_the_demo_offline_and_writes_nothing(engine: Engine, server: str) -> None:
    said = engine("exec", server, "emotrace", "demo", "--fast", "--json")
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    finals = [event for event in events if event["type"] == "emotion.final"]
    assert len(finals) >= 8
    assert events[-1]["type"] == "session.ended"
    assert events[-1]["totals"]["failed"] == 0

    assert written(engine, server) == []
    lists = engine("exec", server, "sh", "-c", "cat /proc/net/tcp /proc/net/udp").splitlines()
    others = [line.split()[2] for line in lists if ":" in line and "address" not in line]
    assert {address.split(":")[0] for address in others} <= {"0100007F", "00000000"}

    engine("stop", "--time", "45", server)
    assert engine("inspect", server, "--format", "{{.State.ExitCode}}") == "0"


def test_it_decodes_a_file_that_was_sent_confined(engine: Engine, server: str) -> None:
    said = engine("exec", server, "python3", "-c", ANALYSIS)
    status, analysis = json.loads(said.splitlines()[-1])
    assert status == 200, analysis
    assert len(analysis["utterances"]) >= 8
    assert {one["speaker"] for one in analysis["utterances"]} == {"Ann", "Ben"}
    assert all(one["label"] is not None for one in analysis["utterances"])
    assert analysis["events"][-1]["totals"]["failed"] == 0
    assert written(engine, server) == []
    logs = engine.logs(server)
    assert NOT_FILTERED not in logs
    assert "no file can be decoded" not in logs


def test_a_session_hears_that_the_container_stops(engine: Engine, server: str) -> None:
    demo = subprocess.Popen(
        engine.command("exec", server, "emotrace", "demo", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if "emotion.final" in line:
            break
    engine("stop", "--time", "45", server)
    demo.kill()
    demo.wait()
    demo.stdout.close()
    assert engine("inspect", server, "--format", "{{.State.ExitCode}}") == "0"
    assert '"end": "going_away", "code": 1012' in engine.logs(server)


def test_it_runs_as_nobody_special(engine: Engine, server: str) -> None:
    status = engine("exec", server, "cat", "/proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert fields["Uid"].split() == ["10001"] * 4
    assert int(fields["CapEff"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    find = "grep -l '^Name:.*emotrace-serve' /proc/[0-9]*/status"
    serving = Path(engine("exec", server, "sh", "-c", find)).parent
    limits = engine("exec", server, "cat", serving / "limits").splitlines()
    (core,) = [line for line in limits if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["1", "1"]  # a byte: what a program is given dumps for leaves too
    for place in ("/", "/opt/emotrace", "/weights", "/home"):
        refused = engine.try_("exec", server, "touch", f"{place}/x")
        assert refused.returncode != 0
    for tool in ("pip", "gcc", "curl"):
        assert engine.try_("exec", server, "sh", "-c", f"command -v {tool}").returncode != 0


def test_a_wrong_setting_ends_it_with_a_sentence(
    engine: Engine, image: Callable[[str], str]
) -> None:
    done = engine.try_("run", "--rm", *CONFINED, "--env", "EMOTRACE_PORT=x", image("cpu"))
    assert done.returncode == 78
    assert "EMOTRACE_PORT" in done.stderr


def test_it_is_not_open_by_accident(engine: Engine, image: Callable[[str], str]) -> None:
    done = engine.try_("run", "--rm", *CONFINED, *OFFLINE, image("cpu"))
    assert done.returncode == 78
    assert "--keys" in done.stderr
    keys = engine("run", "--rm", *CONFINED, *OFFLINE, image("cpu"), "keys", "new", "bot")
    assert keys.startswith('[[keys]]\nname = "bot"\nsha256 = ')


def test_it_can_be_stopped_while_the_models_load(
    engine: Engine, image: Callable[[str], str]
) -> None:
    with engine.container(image("cpu"), *OFFLINE, *OPEN) as loading:
        engine("stop", "--time", "40", loading)
        assert engine("inspect", loading, "--format", "{{.State.ExitCode}}") in {"0", "143"}


def written(engine: Engine, container: str) -> list[str]:
    """What lies in a container that was not there when it began, beside what libraries need."""
    changed = engine("diff", container).splitlines()
    left = engine("exec", container, "ls", "-A", "/tmp").splitlines()
    return [line for line in changed if not line.endswith((" /etc", "/run"))] + [
        f"/tmp/{name}" for name in left if not name.startswith(TEMPORARY)
    ]


@pytest.mark.parametrize("target", ["cpu", "gpu", "training"])
def test_what_is_installed_was_tested_together(
    target: str, engine: Engine, image: Callable[[str], str], root: Path
) -> None:
    said = engine("run", "--rm", "--entrypoint", "python3", image(target), "-c", INSTALLED)
    installed = {same(name): version for name, version in re.findall(r"'([^']+)', '([^']+)'", said)}
    assert installed.pop("emotrace")
    assert len(installed) > 40
    pins = re.findall(r"^([\w.-]+)==(\S+)$", (root / "constraints.txt").read_text(), re.MULTILINE)
    pinned = {same(name): version for name, version in pins}
    # Of torch's builds those for one processor say so in the version (2.13.0+cpu).
    found = {name: version.partition("+")[0] for name, version in installed.items()}
    assert {name: version for name, version in found.items() if pinned.get(name) != version} == {}


def same(name: str) -> str:
    """A package's name in the one spelling that all have in common."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_gpu_image_has_the_right_runtime(engine: Engine, image: Callable[[str], str]) -> None:
    code = "import onnxruntime, torch; print(onnxruntime.get_available_providers())"
    run = ("run", "--rm", *CONFINED, *OFFLINE, "--entrypoint", "python3", image("gpu"))
    assert "CUDAExecutionProvider" in engine(*run, "-c", code)


def test_the_gpu_image_serves_on_the_processor_too(
    engine: Engine, image: Callable[[str], str]
) -> None:
    on_cpu = ("--env", "EMOTRACE_DEVICE=cpu")
    with engine.container(image("gpu"), *OFFLINE, *OPEN, *on_cpu) as running:
        engine.healthy(running)
        assert "emotion.final" in engine("exec", running, "emotrace", "demo", "--fast", "--json")


def test_the_training_image_has_its_commands(engine: Engine, image: Callable[[str], str]) -> None:
    run = ("run", "--rm", *CONFINED, *OFFLINE, "--tmpfs", "/work:mode=1777", image("training"))
    assert "Train the models" in engine(*run)
    assert "gated_xlstm" in engine(*run, "recipes")
