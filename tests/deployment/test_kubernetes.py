"""Manifests: valid by the schemas of Kubernetes, and saying what compose.yaml says."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from emotrace_service.server import SHUTDOWN_S

VERSIONS = ("1.30", "1.37")
Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def manifests(docker: Path) -> list[Manifest]:
    kustomization = yaml.safe_load((docker / "kustomization.yaml").read_text())
    return [
        manifest
        for name in kustomization["resources"]
        for manifest in yaml.safe_load_all((docker / name).read_text())
    ]


@pytest.fixture(scope="module")
def by_name(manifests: list[Manifest]) -> dict[str, Manifest]:
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in manifests}


@pytest.mark.parametrize("version", VERSIONS)
def test_schemas_hold(version: str, manifests: list[Manifest]) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)
    assert len(manifests) == 9


def test_kustomize_puts_it_together(prepared: Path, program: Callable[[str], str]) -> None:
    done = subprocess.run(
        [program("kubectl"), "kustomize", prepared], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    made = {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}
    assert {"ConfigMap", "Secret", "HorizontalPodAutoscaler"} <= set(made)
    for one in made.values():
        if one["kind"] != "Namespace":
            assert one["metadata"]["namespace"] == "emotrace"
    (conf,) = made["ConfigMap"]["data"].values()
    assert conf == (prepared / "redis.conf").read_text()


def test_pods_are_confined(by_name: dict[str, Manifest]) -> None:
    for name in ("Deployment/emotrace", "Deployment/redis"):
        pod = by_name[name]["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        # A service called emotrace would set EMOTRACE_PORT, which is a setting.
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]


def test_servers_have_settings_and_time_to_drain(
    by_name: dict[str, Manifest], variables: set[str]
) -> None:
    pod = by_name["Deployment/emotrace"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    values = {one["name"]: one.get("value") for one in container["env"]}
    assert set(values) <= variables
    before_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    drain_s = int(values["EMOTRACE_DRAIN_TIMEOUT_MS"] or 0) / 1_000
    assert drain_s
    assert pod["terminationGracePeriodSeconds"] >= before_s + drain_s + SHUTDOWN_S


def test_selectors_find_the_pods(by_name: dict[str, Manifest]) -> None:
    for name in ("emotrace", "redis"):
        deployment = by_name[f"Deployment/{name}"]["spec"]
        labels = deployment["template"]["metadata"]["labels"]
        assert deployment["selector"]["matchLabels"] == labels
        assert by_name[f"Service/{name}"]["spec"]["selector"] == labels
        assert by_name[f"NetworkPolicy/{name}"]["spec"]["podSelector"]["matchLabels"] == labels
    servers = by_name["Deployment/emotrace"]["spec"]["template"]["metadata"]["labels"]
    budget = by_name["PodDisruptionBudget/emotrace"]["spec"]
    assert budget["selector"]["matchLabels"] == servers
    scaler = by_name["HorizontalPodAutoscaler/emotrace"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == "emotrace"
    assert scaler["minReplicas"] > budget["maxUnavailable"]


def test_the_autoscaler_asks_for_what_the_adapter_makes(
    by_name: dict[str, Manifest], docker: Path
) -> None:
    (metric,) = by_name["HorizontalPodAutoscaler/emotrace"]["spec"]["metrics"]
    adapter = yaml.safe_load((docker / "kubernetes/prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]


def test_images_are_those_of_compose(by_name: dict[str, Manifest], compose: Manifest) -> None:
    for name, service in (("emotrace", "replica"), ("redis", "redis")):
        (container,) = by_name[f"Deployment/{name}"]["spec"]["template"]["spec"]["containers"]
        assert f":-{container['image']}}}" in compose["services"][service]["image"]
