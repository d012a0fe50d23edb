"""Dashboard, alerts and autoscaling name only metrics that the server has, and the alerts fire."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

SERIES = re.compile(r"\b((?:emotrace|process)_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!=|=)"([^"]*)"')
OUTSIDE = {"instance", "job", "namespace", "pod"}  # labels that Prometheus puts on
UNWATCHED = {
    "process_virtual_memory_bytes": "addresses, most of them unused; the resident part is shown",
}


@pytest.fixture(scope="module")
def expressions(docker: Path) -> dict[str, str]:
    """Every PromQL expression, by where it stands."""
    found = {}
    dashboard = json.loads((docker / "monitoring/dashboards/emotrace.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            found[f"panel {panel['id']} {target['refId']}"] = target["expr"]
    for group in yaml.safe_load((docker / "monitoring/alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            found[rule["alert"]] = rule["expr"]
    adapter = yaml.safe_load((docker / "kubernetes/prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    found["adapter series"] = rule["seriesQuery"]
    found["adapter"] = rule["metricsQuery"].replace("<<.LabelMatchers>>", 'namespace="n"')
    return found


def test_every_metric_and_label_exists(
    expressions: dict[str, str], registry: CollectorRegistry
) -> None:
    samples = [one for family in registry.collect() for one in family.samples]
    named = set()
    for where, expression in expressions.items():
        for name, matchers in SERIES.findall(expression):
            here = [one.labels for one in samples if one.name == name]
            assert here, f"{where}: {name} is no metric of the server"
            named.add(name)
            for label, sign, wanted in MATCHER.findall(matchers):
                if label not in OUTSIDE:
                    for value in wanted.split("|") if sign == "=~" else [wanted]:
                        assert any(one.get(label) == value for one in here), f"{where}: {value}"
        for labels in re.findall(r"by \(([^)]*)\)", expression):
            known = {label for one in samples for label in one.labels} | OUTSIDE
            assert set(re.split(r",\s*", labels)) <= known | {"le", "<<.GroupBy>>"}, where
    assert len(named) > 20
    assert len(expressions) > 40


def test_every_metric_is_watched_or_there_is_a_reason(
    expressions: dict[str, str], registry: CollectorRegistry
) -> None:
    """On the dashboard, or by an alert."""
    watched = {
        name
        for where, expression in expressions.items()
        if not where.startswith("adapter")
        for name, _ in SERIES.findall(expression)
    }
    families = {one.name: {sample.name for sample in one.samples} for one in registry.collect()}
    assert len(families) > 30
    assert {name for name, series in families.items() if not series & watched} == set(UNWATCHED)


def test_every_metric_is_described(registry: CollectorRegistry, root: Path) -> None:
    """By its name at /metrics, with its labels."""
    manual = (root / "docs/operations.md").read_text()
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        written = f"`{name}{{{', '.join(labels)}}}`" if labels else f"`{name}`"
        assert re.search(rf"^\| .*{re.escape(written)}.* \|", manual, re.MULTILINE), written


def test_expressions_are_promql(
    expressions: dict[str, str], program: Callable[[str], str], tmp_path: Path
) -> None:
    rules = [
        {
            "record": f"test:{number}",
            "expr": expression.replace("$__rate_interval", "1m")
            .replace("$instance", ".*")
            .replace("<<.GroupBy>>", "pod"),
        }
        for number, expression in enumerate(expressions.values())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "test", "rules": rules}]}))
    run([program("promtool"), "check", "rules", str(file)])


def test_prometheus_takes_its_configuration(
    docker: Path, program: Callable[[str], str], tmp_path: Path
) -> None:
    promtool = program("promtool")
    text = (docker / "monitoring/prometheus.yml").read_text()
    alerts = docker / "monitoring/alerts.yml"
    file = tmp_path / "prometheus.yml"
    file.write_text(text.replace("/etc/prometheus/alerts.yml", str(alerts)))
    assert str(alerts) in file.read_text()
    run([promtool, "check", "config", str(file)])


def test_alerts_fire_when_they_should(program: Callable[[str], str]) -> None:
    run([program("promtool"), "test", "rules", str(Path(__file__).with_name("alerts_test.yml"))])


def test_each_alert_has_a_case_and_says_what_to_do(docker: Path, root: Path) -> None:
    (group,) = yaml.safe_load((docker / "monitoring/alerts.yml").read_text())["groups"]
    manual = (root / "docs/operations.md").read_text()
    cases = Path(__file__).with_name("alerts_test.yml").read_text()
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "action"}
        assert f"alertname: {rule['alert']}" in cases, rule["alert"]
        assert f"`{rule['alert']}`" in manual, rule["alert"]


def test_the_dashboard_is_whole(docker: Path) -> None:
    dashboard = json.loads((docker / "monitoring/dashboards/emotrace.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another"
        taken |= cells
    source = yaml.safe_load(
        (docker / "monitoring/provisioning/datasources/prometheus.yaml").read_text()
    )
    assert [one["type"] for one in source["datasources"]] == ["prometheus"]


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
