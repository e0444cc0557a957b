"""Dashboard, alerts, autoscaler and documents beside the /metrics of a real server."""

from __future__ import annotations

import re

from tests.deploy_files import expressions, metrics_and_labels, named_in_text
from tests.integration.serving.conftest import Server


def shown(page: str) -> set[str]:
    """The series that a page of /metrics has or announces, and the names of its histograms."""
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", page, re.MULTILINE):
        names |= {name, *(name + suffix for suffix in ("_bucket", "_sum", "_count") if kind == "histogram")}
    return names


def test_every_metric_of_the_deployment_files_and_documents_is_one_of_a_real_server(server: Server) -> None:
    known = shown(server.get("/metrics")[1])
    assert "voc_serve_batch_pictures_bucket" in known
    used = {where: metrics_and_labels(expression)[0] - {"up"} for where, expression in expressions().items()}
    assert any("voc_serve_pictures_in_server" in names for names in used.values())
    assert "voc_serve_pictures_in_server" in named_in_text()["deploy/kubernetes/voc-serve.yaml"]  # the autoscaler's
    for where, names in (used | named_in_text()).items():
        assert names <= known, where
