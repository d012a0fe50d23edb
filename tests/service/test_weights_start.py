"""The server and weights: what it refuses to start with, and that it needs no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile_bundles import HOSTILE, MARK

from emotrace_models import weights as weights_module
from emotrace_models.bundle import CONFIG, Bundle, bundle_path
from emotrace_models.bundle_config import SEAL
from emotrace_models.weights import WeightFile, WeightSet
from emotrace_service import licence_policy, loading, weights_choice
from emotrace_service.__main__ import OFFLINE, main
from emotrace_service.errors import EXIT_CONFIG, StartRefused
from emotrace_service.licence_policy import check_bundle, check_weights
from emotrace_service.settings import Settings

SERVE = [sys.executable, "-m", "emotrace_service"]
# A process without any network but its own loopback, which is down; its children end with it.
ALONE = ["unshare", "--net", "--pid", "--fork", "--kill-child"]


@pytest.fixture
def folder(toy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy, tmp_path / "bundle"))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)  # so that it is taken away again
    monkeypatch.setattr(sys, "argv", ["emotrace-serve", "--port", "0", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


# Hostile bundles ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_ends_the_start_with_78_a_name_and_a_cure(
    name: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    HOSTILE[name][0](folder)
    assert run(monkeypatch, "--bundle", str(folder)) == EXIT_CONFIG
    told = capsys.readouterr().err
    assert told.startswith("emotrace-serve: ")
    assert str(folder) in told
    assert any(cure in told for cure in ("again", "take it away", "models seal", "--bundle"))
    assert "Traceback" not in told
    assert "\x1b" not in told
    assert told.count("\n") == 1
    assert not (folder.parent / MARK).exists(), "code of the bundle was run"


def test_the_process_itself_exits_with_78(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    ended = subprocess.run(
        [*SERVE, "--port", "0", "--bundle", str(folder)], capture_output=True, text=True
    )
    assert ended.returncode == 78
    assert "model.safetensors is not the file that was published" in ended.stderr


def test_a_bundle_changed_by_hand_is_sealed_by_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "version": "8"}))
    assert run(monkeypatch, "--bundle", str(folder)) == EXIT_CONFIG
    command = capsys.readouterr().err.strip().split("`")[1].split()
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert (folder / SEAL).read_text().split()[0] in capsys.readouterr().out
    assert Bundle.load(folder).version == "8"


def test_what_is_no_bundle_is_not_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["emotrace-serve", "models", "seal", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "config.json is missing" in capsys.readouterr().err


# Licences ----------------------------------------------------------------------------------------


def with_licence(toy: Path, licence: str) -> Bundle:
    return replace(Bundle.load(toy), licence=licence)


def test_the_shipped_default_is_not_for_commercial_use_and_the_refusal_names_what_is() -> None:
    bundle = Bundle.load(bundle_path("default"))
    check_bundle(bundle, "any")
    with pytest.raises(StartRefused) as refused:
        check_bundle(bundle, "commercial")
    told = str(refused.value)
    assert "'default' is under CC-BY-NC-SA-4.0" in told
    assert "CC-BY-NC-SA-4.0 forbids commercial use" in told
    assert "Use --bundle free (Apache-2.0) or EMOTRACE_LICENSE_POLICY=any." in told
    check_bundle(Bundle.load(bundle_path("free")), "commercial")


@pytest.mark.parametrize("licence", ["LicenseRef-unknown", "MIT AND CC-BY-NC-4.0", "free"])
def test_what_is_not_known_to_be_allowed_is_refused(toy: Path, licence: str) -> None:
    with pytest.raises(StartRefused, match="--bundle free"):
        check_bundle(with_licence(toy, licence), "commercial")
    check_bundle(with_licence(toy, licence), "any")


def commercial(**settings: Any) -> Settings:
    return Settings(license_policy="commercial", **settings)


def test_the_policy_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EMOTRACE_LICENSE_POLICY", "commercial")
    assert run(monkeypatch) == EXIT_CONFIG
    assert "Use --bundle free (Apache-2.0)" in capsys.readouterr().err
    monkeypatch.setenv("EMOTRACE_LICENSE_POLICY", "none")
    assert run(monkeypatch) == EXIT_CONFIG
    assert "EMOTRACE_LICENSE_POLICY" in capsys.readouterr().err


def test_all_bundles_are_asked(toy: Path) -> None:
    assert list(loading.load_bundles(commercial(bundle=str(toy)))) == ["toy"]
    with pytest.raises(StartRefused, match="'default' is under"):
        loading.load_bundles(commercial(bundle=str(toy), also=("default",)))
    assert list(loading.load_bundles(Settings(bundle=str(toy), also=("default",)))) == [
        "toy",
        "default",
    ]


@pytest.fixture
def unfree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a transcriber and a face detector that forbid commercial use; in the lock beside
    them is one of each kind that does not, and is not here."""
    lock = {}
    for name, licence, kind in (
        ("words", "CC-BY-NC-4.0", "transcriber"),
        ("free-words", "MIT", "transcriber"),
        ("eyes", "CC-BY-NC-ND-4.0", "face detector"),
        ("free-eyes", "Apache-2.0", "face detector"),
    ):
        file = WeightFile("model.bin", "https://example.org/model.bin", 1, "0" * 64)
        lock[name] = WeightSet(name, "", licence, "", "", (file,), kind)
        if "free" not in name:
            (tmp_path / name).mkdir()
            (tmp_path / name / "model.bin").write_bytes(b"x")
    for module in (weights_module, weights_choice, licence_policy):
        monkeypatch.setattr(module, "load_lock", lambda: lock)
    return tmp_path


@pytest.mark.parametrize("whisper", ["auto", "words"])
def test_a_transcriber_is_asked_too(unfree: Path, whisper: str) -> None:
    found = loading.choose_transcriber(Settings(weights=unfree, whisper=whisper))
    assert found is not None
    with pytest.raises(StartRefused) as refused:
        loading.choose_transcriber(commercial(weights=unfree, whisper=whisper))
    assert "'words' is under CC-BY-NC-4.0" in str(refused.value)
    assert "Use --whisper free-words (MIT) or --whisper none or" in str(refused.value)
    assert loading.choose_transcriber(commercial(weights=unfree, whisper="none")) is None


def test_a_face_detector_is_asked_too(unfree: Path) -> None:
    (eyes,) = weights_choice.meant_weights("auto", "face detector", unfree)
    check_weights(eyes, "any")
    with pytest.raises(StartRefused, match=r"--face-detector free-eyes \(Apache-2\.0\)"):
        check_weights(eyes, "commercial")
    assert weights_choice.meant_weights("none", "face detector", unfree) == []


# No network --------------------------------------------------------------------------------------

# Brings up loopback of the network that the process is alone in, starts the server there, asks it
# whether it is ready, and ends it.
START_ALONE = """
import fcntl, http.client, signal, socket, struct, subprocess, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
    fcntl.ioctl(asked, 0x8914, struct.pack("16sH22x", b"lo", 0x1 | 0x40))
try:
    socket.create_connection(("192.0.2.1", 80), 1)
    sys.exit("there is a network")
except OSError:
    pass
serve = [sys.executable, "-m", "emotrace_service", "--port", "0", "--whisper", "none"]
server = subprocess.Popen([*serve, "--threads", "1"], stdout=subprocess.PIPE, text=True)
for line in server.stdout:
    if "cannot estimate" in line:
        sys.exit(line)
    if "is ready at" in line:
        asked = http.client.HTTPConnection(line.split("//")[1].strip().strip("/"))
        asked.request("GET", "/readyz")
        print(asked.getresponse().status, flush=True)
        server.send_signal(signal.SIGTERM)
sys.exit(server.wait())
"""


def may_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*ALONE, "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not may_unshare(), reason="a process may not leave the network here")
def test_the_server_starts_without_a_network_and_keeps_nothing(tmp_path: Path) -> None:
    # Libraries that report to their makers keep quiet where they take it for a test.
    hushed = {"CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_RUNNING_UNIT_TESTS", "XDG_CACHE_HOME"}
    environment = {
        **{key: value for key, value in os.environ.items() if key not in {*OFFLINE, *hushed}},
        "HOME": str(tmp_path),
        "EMOTRACE_COMPUTE_TIMEOUT_MS": "200000",  # of the first run, on a machine with other work
    }
    ended = subprocess.run(
        [*ALONE, sys.executable, "-c", START_ALONE],
        capture_output=True,
        text=True,
        env=environment,
        timeout=250,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "200"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_libraries_are_told_that_there_is_no_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / SEAL).unlink()
    for name in OFFLINE:
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(sys, "argv", ["emotrace-serve", "--port", "0", "--bundle", str(folder)])
    with pytest.raises(SystemExit):
        main()
    assert {name: os.environ[name] for name in OFFLINE} == OFFLINE
    assert {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"} <= set(OFFLINE)
