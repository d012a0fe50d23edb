"""The command line: options reach the session, faults are sentences on standard error."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from emotrace_clients import __main__ as command
from emotrace_clients.demo import shipped
from emotrace_clients.playing import Choices

REFUSED = "ws://127.0.0.1:9/v1/stream"


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "two.wav"
    soundfile.write(path, np.zeros((1_600, 2), dtype=np.int16), 16_000)
    return path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(command.app, [str(argument) for argument in arguments])


def test_help_names_every_command() -> None:
    told = run("--help").output
    for name in ("stream", "listen", "report", "watch", "demo"):
        assert name in told


@pytest.mark.parametrize("name", ["stream", "listen", "report", "watch", "demo"])
def test_the_help_of_each_command_has_examples_that_parse(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    examples = re.findall(rf"emotrace ({name}[^\n(>]*)", result.output.split("Examples:")[1])
    assert examples
    for example in examples:
        options = [word for word in example.split()[1:] if word.startswith("-")]
        for option in options:
            assert option in result.output.split("Examples:")[0], option


@pytest.mark.parametrize(
    "arguments", [("stream",), ("fly",), ("stream", "a", "--transcription", "x")]
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("stream", "{sound}", "--url", REFUSED), "connection refused"),
        (("stream", "none.wav", "--url", REFUSED), "no such file"),
        (("stream", "{sound}", "--speakers", "A,B,C"), "3 speakers are named"),
        (("stream", "{sound}", "--speakers", "A,A"), "same speaker name"),
        (("stream", "{sound}", "--language", "?"), "language"),
        (("stream", "{sound}", "--transcript", "none.json"), "no such file"),
        (("demo", "--url", REFUSED), "emotrace-serve"),
        (("listen", "--speakers", "1,2,3,4,5,6,7,8,9"), "at most 8"),
        (("watch", REFUSED, "--once"), "connection refused"),
        (("watch", "nonsense", "--once"), "no address"),
    ],
)
def test_a_fault_is_one_sentence_and_exit_code_1(
    sound: Path, arguments: tuple[str, ...], told: str
) -> None:
    result = run(*(argument.format(sound=sound) for argument in arguments))
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.output


def test_options_reach_the_session(monkeypatch: pytest.MonkeyPatch, sound: Path) -> None:
    calls: list[tuple[Any, ...]] = []

    async def play(choices: Choices, paths: list[Path], **options: Any) -> None:
        calls.append((choices, paths, options))

    monkeypatch.setattr(command, "play", play)
    arguments = ["stream", sound, sound, "--fast", "--json", "--no-interim", "--url", "ws://x/"]
    result = run(
        *arguments,
        *("--speakers", "Ann, Ben,", "--language", "pl", "--bundle", "mine"),
        *("--labels", "anger, neutral"),
    )
    assert result.exit_code == 0
    ((choices, paths, options),) = calls
    assert choices == Choices(
        "ws://x/",
        ("Ann", "Ben"),
        "auto",
        language="pl",
        interim=False,
        bundle="mine",
        labels=("anger", "neutral"),
        json=True,
    )
    assert paths == [sound, sound]
    assert options == {"fast": True, "turns": None}
    assert run("stream", sound, "--mono").exit_code == 0
    assert calls[1][0].mono


@pytest.mark.parametrize(
    ("device", "meant"), [((), None), (("--device", "3"), 3), (("--device", "USB"), "USB")]
)
def test_a_device_is_a_number_or_a_name(
    monkeypatch: pytest.MonkeyPatch, device: tuple[str, ...], meant: int | str | None
) -> None:
    calls: list[int | str | None] = []

    async def listen(choices: Choices, device: int | str | None) -> None:
        calls.append(device)

    monkeypatch.setattr(command, "listen", listen)
    assert run("listen", *device).exit_code == 0
    assert calls == [meant]


def test_the_demo_sends_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    async def play(choices: Choices, paths: list[Path], **options: Any) -> None:
        calls.append((choices, paths, options))

    monkeypatch.setattr(command, "play", play)
    monkeypatch.setattr(command, "await_ready", lambda url, sleep: None)
    assert run("demo", "--bundle", "mine", "--labels", "common4").exit_code == 0
    ((choices, paths, options),) = calls
    assert choices.speakers == shipped.speakers()
    assert (choices.bundle, choices.labels) == ("mine", "common4")
    assert paths == [shipped.AUDIO]
    assert len(options["turns"]) == 10


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "emotrace_clients", "stream", "none.wav", "--url", REFUSED],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: none.wav cannot be read")
    assert done.stdout == ""


def test_the_client_runs_without_torch_or_the_server() -> None:
    code = (
        "import sys, emotrace_clients.__main__, emotrace_clients.sync\n"
        "heavy = {'torch', 'fastapi', 'onnxruntime', 'emotrace_models', 'emotrace_service'}\n"
        "heavy |= {'sounddevice', 'av', 'matplotlib', 'pandas'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
