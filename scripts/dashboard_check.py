"""Sends every query of the dashboard to a Prometheus that reads a server under load, and prints the answers.

    python scripts/dashboard_check.py http://127.0.0.1:9090

The exit code is 1 if a query fails or finds no number. Only the standard library is needed.
"""

from __future__ import annotations

import json
import math
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parents[1] / "deploy/grafana/voc-serve.json"
VARIABLES = {"$__rate_interval": "1m", "$model": ".*", "$instance": ".*"}
"""As Grafana fills them in: four times the scrape interval, and All."""


def query(prometheus: str, expression: str) -> list[dict[str, Any]]:
    """The series that an expression has now."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    address = f"{prometheus.rstrip('/')}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(address, timeout=20) as response:
        series: list[dict[str, Any]] = json.load(response)["data"]["result"]
    return series


def main(prometheus: str) -> int:
    without = 0
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            series = query(prometheus, target["expr"])
            numbers = [float(one["value"][1]) for one in series]
            numbers = [number for number in numbers if not math.isnan(number)]
            without += not numbers
            values = f"{min(numbers):.6g} to {max(numbers):.6g}" if numbers else "NO DATA"
            unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "")
            print(f"{panel['title']:28} {target['refId']}  {len(series):3} series  {values:24} {unit}")
    print(f"{without} queries without data")
    return int(without > 0)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
