"""Settings, and a server that does not start: what it says and with which code it exits."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path

import pytest

from emotrace_service.__main__ import main
from emotrace_service.errors import StartRefused
from emotrace_service.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EMOTRACE_PORT", "EMOTRACE_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["emotrace-serve", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_by_default_only_this_machine_can_connect() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.bundle) == ("127.0.0.1", 8080, "default")
    assert settings.on_loopback
    assert settings.threads >= 1


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("::1", True), ("127.0.0.2", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_what_loopback_is(host: str, loopback: bool) -> None:
    assert Settings(host=host).on_loopback is loopback


def test_an_option_wins_over_the_environment_and_that_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EMOTRACE_PORT", "9000")
    monkeypatch.setenv("EMOTRACE_ORIGINS", '["https://a.example"]')
    assert load_settings(port=None).port == 9000
    assert load_settings(port=9001).port == 9001
    assert load_settings().origins == ("https://a.example",)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("EMOTRACE_PROT", "1", "EMOTRACE_PROT, which is no setting"),
        ("EMOTRACE_PORT", "99999", "EMOTRACE_PORT"),
        ("EMOTRACE_PORT", "http", "'http'"),
        ("EMOTRACE_LOG_FORMAT", "xml", "--log-format"),
        ("EMOTRACE_ORIGINS", "https://a.example", "JSON"),
    ],
)
def test_what_is_unknown_or_wrong_in_the_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartRefused, match=said):
        load_settings()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--port", "99999"), "EMOTRACE_PORT"),
        (("--threads", "0"), "--threads"),
        (("--prot", "1"), "--prot"),
        (("--port", "http"), "--port"),
        (("serve-me",), "serve-me"),
    ],
)
def test_wrong_options_exit_with_78(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    assert run(monkeypatch, *arguments) == 78
    assert said in capsys.readouterr().err


def test_a_missing_bundle_is_told_with_where_it_was_looked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = tmp_path / "nowhere"
    assert run(monkeypatch, "--port", "0", "--bundle", str(missing)) == 78
    told = capsys.readouterr().err
    assert str(missing) in told
    assert "--bundle" in told


@pytest.mark.parametrize("file", ["model.safetensors", "card.md", "config.json"])
def test_a_corrupted_bundle_is_told_with_the_file(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    toy: Path,
    file: str,
) -> None:
    bundle = shutil.copytree(toy, tmp_path / "broken")
    data = bytearray((bundle / file).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / file).write_bytes(data)
    assert run(monkeypatch, "--port", "0", "--bundle", str(bundle)) == 78
    told = capsys.readouterr().err
    assert file in told
    assert "Traceback" not in told


def test_weights_that_are_not_there_are_told_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    toy: Path,
) -> None:
    options = ("--port", "0", "--bundle", str(toy), "--weights", str(tmp_path))
    assert run(monkeypatch, *options, "--whisper", "whisper-base") == 78
    assert "emotrace-serve models pull whisper-base" in capsys.readouterr().err
    assert run(monkeypatch, *options, "--whisper", "whisper-gigantic") == 78
    assert "whisper-tiny" in capsys.readouterr().err


def test_a_port_that_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert run(monkeypatch, "--port", str(port)) == 78
    told = capsys.readouterr().err
    assert f"port {port}" in told
    assert "--port" in told


def test_an_address_that_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--host", "256.1.1.1") == 78
    assert "256.1.1.1" in capsys.readouterr().err


def test_help_teaches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--help") == 0
    told = capsys.readouterr().out
    for word in ("/v1/stream", "models pull", "emotrace demo", "EMOTRACE_MAX_SESSIONS", "--bundle"):
        assert word in told


def test_every_setting_can_be_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EMOTRACE_MAX_BATCH", "3")
    assert run(monkeypatch, "settings") == 0
    told = capsys.readouterr().out
    assert "EMOTRACE_MAX_BATCH=3" in told
    for name, field in Settings.model_fields.items():
        assert f"EMOTRACE_{name.upper()}=" in told
        assert field.description, name
