"""Prometheus's own tool, and what `increase` comes to, counted by hand.

hold(folder, rules, {"interval": "1m", "input_series": [...], "alert_rule_test": [...]}, every="1m")
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import yaml


def linted(file: Path) -> str:
    """What `promtool check rules --lint-fatal` has to say; it must be content."""
    checked = subprocess.run(
        ["promtool", "check", "rules", "--lint-fatal", file], capture_output=True, text=True, timeout=30
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return checked.stdout


def hold(folder: Path, rules: dict[str, Any], test: dict[str, Any], *, every: str) -> None:
    """Let `promtool test rules` hold rules against what a test expects of them."""
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    (folder / "test.yml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": every, "tests": [test]})
    )
    ran = subprocess.run(
        ["promtool", "test", "rules", "test.yml"], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]


@dataclass(frozen=True)
class Counter:
    """A counter that grows by `steps`, one a sample; the first sample is 0."""

    steps: Sequence[int]

    def notation(self) -> str:
        """As promtool has it: runs of equal steps."""
        at, said = 0, ["0"]
        for step, run in groupby(self.steps):
            n = len(list(run))
            said.append(f"{at + step}+{step}x{n - 1}")
            at += step * n
        return " ".join(said)

    def increases(self, window: int) -> list[int | None]:
        """By sample: how much it grew in the window of so many samples before it; None before it is that old."""
        values = [0, *accumulate(self.steps)]
        return [None if at < window else values[at] - values[at - window] for at in range(len(values))]


def without_annotations(rules: dict[str, Any], windows: Sequence[str]) -> dict[str, Any]:
    """The recording rules, and the alerts of these windows without their texts."""
    (group,) = rules["groups"]
    kept = [
        {key: value for key, value in rule.items() if key != "annotations"}
        for rule in group["rules"]
        if "record" in rule or rule["labels"]["window"] in windows
    ]
    return {"groups": [group | {"rules": kept}]}
