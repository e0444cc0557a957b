"""What is in deploy/: the files, their PromQL expressions and the metrics that these name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
DASHBOARD = DEPLOY / "grafana/voc-serve.json"
ALERTS = DEPLOY / "prometheus/alerts.yaml"
COMPOSE = DEPLOY / "compose.yaml"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))

WORDS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right", "offset", "and", "or", "unless",
                   "bool"})


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row")


def expressions() -> dict[str, str]:
    """Every PromQL expression of the dashboard and the rules, by where it is; Grafana's variables are filled in."""
    found = {f"panel {panel['title']}, {target['refId']}": target["expr"]
             for panel in panels() for target in panel["targets"]}
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            found[f"variable {variable['name']}"] = re.sub(r"label_values\((.*), \w+\)", r"\1", variable["definition"])
    found |= {rule["alert"]: rule["expr"] for rule in rules()}
    return {where: text.replace("$__rate_interval", "5m").replace("$model", "voc").replace("$instance", "a")
            for where, text in found.items()}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def metrics_and_labels(expression: str) -> tuple[set[str], dict[str, set[str]], set[str]]:
    """What a PromQL expression names: metrics, the labels each is selected by, and the labels it groups by."""
    plain = re.sub(r'"[^"]*"', '""', expression)
    selected: dict[str, set[str]] = {}
    for name, inside in re.findall(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}", plain):
        selected.setdefault(name, set()).update(re.findall(r"(\w+)\s*[=!]", inside))
    grouped = {label.strip() for inside in re.findall(r"\bby\s*\(([^)]*)\)", plain) for label in inside.split(",")}
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\bby\s*\([^)]*\)|\boffset\s+\w+", " ", plain)
    names = {name for name, call in re.findall(r"(?<![\w.:])([a-zA-Z_:][\w:]*)\s*(\()?", bare)
             if not call and name not in WORDS}
    return names, selected, grouped


def named_in_text() -> dict[str, set[str]]:
    """Metrics of the server that the YAML files and the documents name, comments included, by file."""
    files = [*DEPLOY.rglob("*.yaml"), *DEPLOY.parent.glob("docs/*.md")]
    name = r"(?<!\w)(?:voc_serve_|:tensorflow:serving:)[a-z:_]*[a-z](?!\w)"
    return {str(file.relative_to(DEPLOY.parent)): set(re.findall(name, file.read_text())) for file in files}
