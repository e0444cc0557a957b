"""What is in deploy/: it is valid, and names only metrics, labels, files, ports and flags that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import kubernetes_validate
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from serving.config.config import ServeConfig
from serving.core import ServerCollector
from serving.models.model import Version, VersionState
from serving.telemetry.metrics import Metrics
from tests.commands import command
from tests.deploy_files import (
    ALERTS,
    COMPOSE,
    DASHBOARD,
    DEPLOY,
    MANIFESTS,
    expressions,
    metrics_and_labels,
    panels,
    rules,
)

SCRAPED = frozenset({"job", "instance"})
"""Labels that Prometheus gives to everything it reads."""
PROMETHEUS_OWN = {"up": SCRAPED}

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def exposed() -> dict[str, frozenset[str]]:
    """Every sample that a server shows which has done everything once → its labels."""
    metrics = Metrics(["voc"])
    servable: Any = SimpleNamespace(engine=SimpleNamespace(pid=1, description=""))
    models: Any = SimpleNamespace(ready=True, names=("voc",), versions=lambda _: {
        7: Version(7, Path(), VersionState.AVAILABLE, servable=servable)})
    capacity: Any = SimpleNamespace(taken=1, number=128)
    logs: Any = SimpleNamespace(lost=0)
    metrics.watch(ServerCollector(models, capacity, logs))
    metrics.request("voc", "/tensorflow.serving.PredictionService/Predict", "GRPC", grpc.StatusCode.OK, 0.1, 0.1)
    metrics.batch("voc", 7, 4, 0.1)
    metrics.stage("voc", "queue", 0.1)
    metrics.warm_up("/models/voc/7", 1)
    families = list(text_string_to_metric_families(metrics.page()[0].decode()))
    found: dict[str, frozenset[str]] = dict(PROMETHEUS_OWN)
    for sample in (sample for family in families for sample in family.samples):
        found[sample.name] = found.get(sample.name, frozenset()) | SCRAPED | sample.labels.keys()
    return found


def test_the_reader_of_promql_finds_what_an_expression_names():
    names, selected, grouped = metrics_and_labels(
        'histogram_quantile(0.9, sum by (le, API) (rate(:a:b_bucket{x=~"c(d)|e", y!="f{g}"}[5m]))) / 1e6 > 2 '
        "and h_total offset 6h unless on () vector(1)")
    assert names == {":a:b_bucket", "h_total"}
    assert selected == {":a:b_bucket": {"x", "y"}}
    assert grouped == {"le", "API"}


def test_every_metric_and_label_that_is_asked_for_is_shown_by_the_server():
    known, used = exposed(), expressions()
    assert len(used) > 50
    for where, expression in used.items():
        names, selected, grouped = metrics_and_labels(expression)
        assert names, where
        assert names <= known.keys(), where
        for name, labels in selected.items():
            assert labels <= known[name], (where, name)
        assert grouped <= frozenset().union(*(known[name] for name in names)), where


def test_legends_and_messages_show_labels_that_their_expressions_have():
    known = exposed()
    for panel in panels():
        for target in panel["targets"]:
            names, _, grouped = metrics_and_labels(target["expr"].replace("$__rate_interval", "5m"))
            left = grouped or frozenset().union(*(known[name] for name in names))
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left, panel["title"]
    for rule in rules():
        names, _, grouped = metrics_and_labels(rule["expr"])
        left = grouped or frozenset().union(*(known[name] for name in names))
        assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= left, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_every_metric_of_the_server_itself_is_on_the_dashboard():
    shown = " ".join(target["expr"] for panel in panels() for target in panel["targets"])
    ours = {re.sub("_(bucket|sum|count)$", "", name) for name in exposed() if name.startswith("voc_serve_")}
    missing = {name for name in ours if name not in shown}
    assert missing == {"voc_serve_build_info"}


def test_the_panels_have_numbers_of_their_own_and_do_not_overlap():
    everything = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_compose_starts_the_server_with_flags_it_has_and_mounts_files_that_exist():
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert set(services) == {"voc-serve", "prometheus", "grafana"}
    known = set(re.findall(r"--[a-z][a-z0-9-]*", command("voc-serve", "--help").stdout))
    assert {flag for flag in services["voc-serve"]["command"] if flag.startswith("--")} <= known
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        for volume in service["volumes"]:
            if volume.startswith("./"):
                assert (DEPLOY / volume.split(":")[0]).exists(), volume
    mounted = {volume.rsplit(":", 2)[1] for volume in services["grafana"]["volumes"] if volume.startswith("./")}
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/voc-serve.yaml").read_text())["providers"][0]
    assert f"{provider['options']['path']}/{DASHBOARD.name}" in mounted


def test_in_containers_the_server_listens_on_all_addresses_which_is_not_its_default():
    assert ServeConfig().ports.host == "127.0.0.1"
    assert re.search(r"^ENV .*VOC_SERVE_HOST=0\.0\.0\.0$", (DEPLOY.parent / "Dockerfile").read_text(), re.MULTILINE)
    flags = yaml.safe_load(COMPOSE.read_text())["services"]["voc-serve"]["command"]
    assert flags[flags.index("--host") + 1] == "0.0.0.0"
    container = voc_serve_on_kubernetes()["Deployment"]["template"]["spec"]["containers"][0]
    assert "--host=0.0.0.0" in container["args"]


def voc_serve_on_kubernetes(text: str | None = None) -> dict[str, Any]:
    """The `spec` of each resource of voc-serve.yaml, by its kind."""
    resources = yaml.safe_load_all(text or (DEPLOY / "kubernetes/voc-serve.yaml").read_text())
    return {resource["kind"]: resource["spec"] for resource in resources}


@pytest.mark.parametrize("version", ["1.29", "1.37"])
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_the_manifests_are_valid_in_old_and_new_versions_of_kubernetes(manifest: Path, version: str):
    """Strict: a field that the schema does not have is an error. The schemas come with the package."""
    for resource in yaml.safe_load_all(manifest.read_text()):
        assert kubernetes_validate.validate(resource, version, strict=True) == version
        resource["spec"]["selektor"] = {}
        with pytest.raises(kubernetes_validate.ValidationError, match="selektor"):
            kubernetes_validate.validate(resource, version, strict=True)


def test_what_scales_protects_and_isolates_the_pods_names_the_pods_and_ports_of_the_deployment():
    specs = voc_serve_on_kubernetes()
    deployment = specs["Deployment"]
    labels = {"matchLabels": deployment["template"]["metadata"]["labels"]}
    assert deployment["selector"] == specs["PodDisruptionBudget"]["selector"] == labels
    assert specs["NetworkPolicy"]["podSelector"] == labels
    assert specs["Service"]["selector"] == labels["matchLabels"]
    assert "replicas" not in deployment  # they belong to the autoscaler
    assert specs["HorizontalPodAutoscaler"]["minReplicas"] > specs["PodDisruptionBudget"]["maxUnavailable"]
    container = deployment["template"]["spec"]["containers"][0]
    assert "cpu" in container["resources"]["requests"]  # what the autoscaler's per cent are of
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert [port["port"] for port in specs["NetworkPolicy"]["ingress"][0]["ports"]] == list(ports)
    assert {port["name"]: port["port"] for port in specs["Service"]["ports"]} == ports
    age = next(flag for flag in container["args"] if flag.startswith("--max-connection-age="))
    down = specs["HorizontalPodAutoscaler"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"]
    assert down > int(age.partition("=")[2])


def test_the_autoscaler_can_go_by_the_metric_that_its_comment_has():
    text = (DEPLOY / "kubernetes/voc-serve.yaml").read_text()
    block = re.search(r"(?:^    # (?:-|  ).*\n)+", text, re.MULTILINE)
    assert block
    other = text.replace(block[0], block[0].replace("    # ", "    "))
    for resource in yaml.safe_load_all(other):
        kubernetes_validate.validate(resource, "1.37", strict=True)
    pods = voc_serve_on_kubernetes(other)["HorizontalPodAutoscaler"]["metrics"][1]["pods"]
    assert exposed()[pods["metric"]["name"]] == SCRAPED  # one number per pod
    assert int(pods["target"]["averageValue"]) < ServeConfig().batching.queue_size


def test_prometheus_reads_the_server_of_the_compose_file():
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
    (job,) = config["scrape_configs"]
    serve = yaml.safe_load(COMPOSE.read_text())["services"]["voc-serve"]["command"]
    assert job["static_configs"][0]["targets"] == [f"voc-serve:{serve[serve.index('--http-port') + 1]}"]
    assert f'up{{job="{job["job_name"]}"}}' in expressions()["VocServeDown"]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"][0]
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_every_alert_is_tested():
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts.test.yaml").read_text())["tests"]
    for test in tests:
        assert {entry["alertname"] for entry in test["alert_rule_test"]} == {rule["alert"] for rule in rules()}


def promtool(*arguments: str, **options: Any) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=120, **options)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_accepts_the_files_and_each_alert_fires_when_it_should():
    promtool("check", "config", "prometheus.yaml", cwd=ALERTS.parent)
    promtool("test", "rules", "alerts.test.yaml", cwd=ALERTS.parent)


@needs_promtool
def test_promtool_accepts_every_expression_of_the_dashboard(tmp_path: Path):
    recorded = [{"record": f"panel_{number}", "expr": text} for number, text in enumerate(expressions().values())]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    promtool("check", "rules", str(tmp_path / "rules.yaml"))


@needs_promtool
def test_promtool_can_read_the_page():
    own = subprocess.run(["promtool", "check", "metrics"], input=Metrics(["voc"]).page()[0], capture_output=True,
                         check=False, timeout=60)
    complaints = [line for line in own.stderr.decode().splitlines() if not line.startswith(":tensorflow:")]
    assert complaints == []
