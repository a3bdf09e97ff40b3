"""The example rules and the dashboard: they parse, use what is exported, fire when they must."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.exposition import METRICS, SERIES
from tests.support.installation import REPOSITORY
from tests.support.promtool import promtool

RULES = REPOSITORY / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = REPOSITORY / "deploy" / "grafana" / "backups.json"
SERIES_NAME = re.compile(r"\b(?:backup|bot)_[a-z_]+")
ENDS = re.compile("_(bucket|sum|count)$")


def rules() -> list[dict[str, Any]]:
    """All alerting rules."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def panel_expressions() -> Iterator[str]:
    """What the panels ask for, with Grafana's variables filled in."""
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            expression: str = target["expr"]
            yield expression.replace("$__rate_interval", "5m").replace("$instance", ".*")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The rules and their tests side by side, as `promtool` wants them."""
    shutil.copy(RULES, tmp_path)
    shutil.copy(Path(__file__).with_name("alerts_test.yaml"), tmp_path)
    return tmp_path


def test_prometheus_accepts_the_rules(folder: Path) -> None:
    """`promtool` finds no fault in the rules, and reads as many as there are."""
    assert f"{len(rules())} rules found" in promtool(folder, "check", "rules", RULES.name)


def test_each_alert_fires_when_it_must_and_only_then(folder: Path) -> None:
    """`promtool` plays days of good and bad backups; every alert is among what it expects."""
    assert "SUCCESS" in promtool(folder, "test", "rules", "alerts_test.yaml")
    expected = set(re.findall(r'alertname="(\w+)"', (folder / "alerts_test.yaml").read_text()))
    assert {rule["alert"] for rule in rules()} == expected


def test_rules_use_what_is_exported() -> None:
    """Every series in a rule is one that `/metrics` has, and every rule says what to do."""
    for rule in rules():
        used = SERIES_NAME.findall(rule["expr"])
        assert used
        assert set(used) <= SERIES, rule["alert"]
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_the_dashboard_uses_what_is_exported() -> None:
    """Every series in the dashboard is one that `/metrics` has, and none of those is left out."""
    used = set(SERIES_NAME.findall(" ".join(panel_expressions())))
    variables = dashboard()["templating"]["list"]
    for variable in variables:
        used |= set(SERIES_NAME.findall(str(variable["query"])))
    assert used <= SERIES
    assert {ENDS.sub("", name) for name in used} == set(METRICS)


def test_the_dashboard_asks_in_prometheus_language(tmp_path: Path) -> None:
    """Every expression of the dashboard is one that Prometheus can read."""
    expressions = list(panel_expressions())
    recorded = [
        {"record": f"panel:{number}", "expr": one} for number, one in enumerate(expressions)
    ]
    document = {"groups": [{"name": "panels", "rules": recorded}]}
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump(document))
    told = promtool(tmp_path, "check", "rules", "panels.yaml")
    assert f"{len(expressions)} rules found" in told


def test_the_dashboard_is_one_that_grafana_can_lay_out() -> None:
    """Panels have ids of their own and do not overlap; each asks the chosen data source."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        for one in (panel, *panel["targets"]):
            assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
