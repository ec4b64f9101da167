"""`retrospan dashboard`: what Grafana is given, held against what the metrics are declared to be."""

import json
import re
import subprocess
import sys

import pytest

from retrospan.prometheus.names import METRICS
from retrospan.slo.definitions import DEFAULTS

from .commands import retrospan

VARIABLES = {"job", "run", "host"}
GRAFANAS_OWN = {"__range", "__rate_interval"}


@pytest.fixture(scope="module")
def board():
    finished = retrospan("dashboard")
    assert (finished.returncode, finished.stderr) == (0, "")
    return json.loads(finished.stdout)


@pytest.fixture(scope="module")
def panels(board):
    return {panel["title"]: panel for panel in board["panels"] if panel["type"] != "row"}


def queries(panels):
    return [target["expr"] for panel in panels.values() for target in panel["targets"]]


def test_every_panel_says_what_it_shows_has_a_place_of_its_own_and_the_chosen_data_source(board, panels):
    cells = [
        (x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert {x for x, _ in cells} == set(range(24))
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels.values():
        assert panel["description"]
        names = [target["refId"] for target in panel["targets"]]
        assert len(set(names)) == len(names) > 0
        assert all(target["datasource"]["uid"] == "${datasource}" for target in [panel, *panel["targets"]])


def test_what_was_asked_for_is_there(panels):
    wanted = {
        "Verdicts",
        "Error budget left",
        "429 by host",
        "Limiter wait",
        "Breakers",
        "Attempts",
        "Time to first PDF",
    }
    assert wanted <= panels.keys()
    assert [target["legendFormat"] for target in panels["Verdicts"]["targets"]] == list(DEFAULTS)
    with_budget = [name for name, slo in DEFAULTS.items() if slo.target is not None]
    assert [target["legendFormat"] for target in panels["Error budget left"]["targets"]] == with_budget


def test_every_query_asks_for_metrics_and_labels_that_there_are(board, panels):
    chosen = {variable["name"]: variable.get("query", "") for variable in board["templating"]["list"]}
    assert chosen.keys() == VARIABLES | {"datasource"}
    for expression in [*queries(panels), *(chosen[name] for name in sorted(VARIABLES))]:
        asked = re.findall(r"\b(retrospan_\w+)(?:\{([^}]*)\})?", expression)
        assert asked, expression
        for name, selector in asked:
            labels = set(re.findall(r"(\w+)(?:=~|=)", selector))
            assert labels <= {*METRICS[name].labels, "job"}, expression
        assert set(re.findall(r"\$(\w+)", expression)) <= VARIABLES | GRAFANAS_OWN
        # Runs come and go: what is counted over time is never taken by run.
        for name in re.findall(r"(?:rate|increase)\((\w+)", expression):
            assert METRICS[name].kind == "counter"


def test_every_metric_of_the_sidecar_is_shown(panels):
    shown = set(re.findall(r"\b(retrospan_\w+)", " ".join(queries(panels))))
    assert shown == set(METRICS)


def test_objectives_of_a_file_are_shown_with_their_targets(tmp_path):
    file = tmp_path / "slo.toml"
    file.write_text('[slo.http_429]\nmax = "5%"\n[slo.yield]\nenabled = false\n[slo.breaker_opens]\nmax = 3\n')
    shown = {panel["title"]: panel for panel in json.loads(retrospan("dashboard", "--config", file).stdout)["panels"]}
    verdicts = {target["legendFormat"]: target["expr"] for target in shown["Verdicts"]["targets"]}
    assert verdicts.keys() == DEFAULTS.keys() - {"yield"}
    assert ">= bool 0.95 * " in verdicts["http_429"]
    assert " <= bool 3.5) and " in verdicts["breaker_opens"]
    left = {target["legendFormat"]: target["expr"] for target in shown["Error budget left"]["targets"]}
    assert left["http_429"].endswith("/ 0.05")


def test_without_the_extra_it_says_what_to_install():
    without = "import sys; sys.modules['grafana_foundation_sdk'] = None; from retrospan.cli import main; main()"
    finished = subprocess.run(
        [sys.executable, "-c", without, "dashboard"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (finished.returncode, finished.stdout) == (2, "")
    assert "Error: grafana-foundation-sdk is not installed: pip install 'retrospan[dashboard]'" in finished.stderr
    assert "Traceback" not in finished.stderr
