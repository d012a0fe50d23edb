"""compose.yaml: valid for each profile, and every container as confined as it can be."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from emotrace_service.server import SHUTDOWN_S

PROFILES = {
    "single": {"single"},
    "gpu": {"gpu"},
    "scaled": {"replica", "redis", "proxy", "prometheus", "grafana"},
}
Compose = dict[str, Any]


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_each_profile_is_valid(
    profile: str, composer: list[str], docker: Path, prepared: Path
) -> None:
    folder = prepared if profile == "scaled" else docker  # the others need no passwords
    command = [*composer, "--file", str(folder / "compose.yaml"), "--profile", profile]
    done = subprocess.run([*command, "config", "--format", "json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made: Compose = json.loads(done.stdout)
    assert set(made["services"]) == PROFILES[profile]
    for service in made["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service.get("environment", {}).get("EMOTRACE_OPEN", "false") == "false"
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", "published to the world without being asked"
    if profile == "scaled":
        replica = made["services"]["replica"]
        assert replica["deploy"]["replicas"] == 3
        assert replica["environment"]["EMOTRACE_SESSION_STORE"].startswith("redis://emotrace:")
        assert made["networks"]["inside"]["internal"] is made["networks"]["store"]["internal"]


def test_every_container_is_confined(compose: Compose) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"] <= 512, name
        assert "mem_limit" in service, name
        assert "privileged" not in service, name
        assert service["profiles"] in [[profile] for profile in PROFILES], name


def test_images_are_pinned(compose: Compose) -> None:
    for name, service in compose["services"].items():
        default = re.fullmatch(r"\$\{\w+:-(.+):(.+)\}", service["image"])
        assert default, f"{name}: {service['image']} has no variable to pin another"
        assert default[2] != "latest"


def test_variables_of_servers_are_settings(compose: Compose, variables: set[str]) -> None:
    given = set(compose["x-server-environment"])
    assert given
    assert given <= variables


def test_there_is_time_to_drain(compose: Compose) -> None:
    drain_s = int(compose["x-server-environment"]["EMOTRACE_DRAIN_TIMEOUT_MS"]) / 1_000
    for name in ("single", "gpu", "replica"):
        grace = compose["services"][name]["stop_grace_period"]
        assert int(grace.removesuffix("s")) >= drain_s + SHUTDOWN_S


def test_what_is_mounted_exists(compose: Compose, prepared: Path) -> None:
    mounted = [
        re.sub(r"\$\{\w+:-(.*)\}", r"\1", volume).split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
    ]
    assert mounted
    for source in mounted:
        assert source in compose["volumes"] or (prepared / source).exists()
    for secret in compose["secrets"].values():
        assert (prepared / secret["file"]).is_file()


def test_redis_has_a_user_and_only_the_replicas_reach_it(compose: Compose) -> None:
    on_its_network = {
        name for name, service in compose["services"].items() if "store" in service["networks"]
    }
    assert on_its_network == {"redis", "replica"}
    assert compose["services"]["redis"]["networks"] == ["store"]


def test_passwords_are_made_once_and_differ(prepared: Path, docker: Path) -> None:
    again = subprocess.run(["sh", prepared / "prepare.sh"], capture_output=True, text=True)
    assert again.returncode == 1
    assert "already" in again.stderr
    users = (prepared / "secrets/redis.acl").read_text()
    url = (prepared / "secrets/session-store.env").read_text()
    grafana = (prepared / "secrets/grafana-password").read_text()
    password = re.search(r">(\w{48}) ", users)
    assert password
    assert f"redis://emotrace:{password[1]}@redis:6379/0" in url
    assert re.fullmatch(r"\w{48}", grafana)
    assert grafana != password[1]
    assert (prepared / "secrets").stat().st_mode & 0o777 == 0o700
    ignored = (docker / ".gitignore").read_text().split()
    assert "secrets/" in ignored
