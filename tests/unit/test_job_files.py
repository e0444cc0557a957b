"""The job files in deploy/ parse, and use flags and variables that exist."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from pathlib import Path

import kubernetes_validate
import yaml

from tests.commands import command
from voc_cls.training.distribution import COORDINATOR_VARIABLE, RANK_VARIABLES

DEPLOY = Path(__file__).parents[2] / "deploy"
SLURM, KUBERNETES = DEPLOY / "slurm/voc-train.sbatch", DEPLOY / "kubernetes/voc-train.yaml"
RAY_JOB = DEPLOY / "kuberay/voc-predict.yaml"
JOB_FIELDS = {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"}
CLUSTER_FIELDS = {"rayVersion", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"}
GROUP_FIELDS = {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"}
"""Of KubeRay's API (ray-operator/apis/ray/v1) those that are used; its schema is in no package."""


def voc_train_flags(text: str) -> set[str]:
    """The flags of every voc-train command in a script, continued lines included."""
    commands = re.findall(r"voc-train (--.*)", text.replace("\\\n", " "))
    assert commands
    return {flag for line in commands for flag in re.findall(r"--[a-z][a-z-]*", line)}


def test_the_job_files_use_flags_that_voc_train_has():
    known = set(re.findall(r"--[a-z][a-z0-9-]*", command("voc-train", "--help").stdout))
    for file in (SLURM, KUBERNETES):
        flags = voc_train_flags(file.read_text())
        assert {"--root", "--weights", "--out", "--hosts"} <= flags
        assert flags <= known, file


def test_the_slurm_script_is_valid_shell_and_its_options_come_first():
    assert subprocess.run(["bash", "-n", str(SLURM)], check=False).returncode == 0
    lines = SLURM.read_text().splitlines()
    last_option = max(number for number, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert all(not line or line.startswith("#") for line in lines[:last_option])


def test_the_kubernetes_pods_find_rank_0_and_know_their_own():
    service, job = yaml.safe_load_all(KUBERNETES.read_text())
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    assert service["spec"]["clusterIP"] == "None"
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert spec["completionMode"] == "Indexed"  # which sets JOB_COMPLETION_INDEX
    assert "JOB_COMPLETION_INDEX" in RANK_VARIABLES
    assert pod["subdomain"] == service["metadata"]["name"]
    environment = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
    port = service["spec"]["ports"][0]["port"]
    name = job["metadata"]["name"]
    assert environment[COORDINATOR_VARIABLE] == f"{name}-0.{pod['subdomain']}:{port}"
    assert environment["KERAS_BACKEND"] == "jax"
    assert f"--hosts {spec['completions']}" in pod["containers"][0]["args"][0]
    assert spec["completions"] == spec["parallelism"]


def test_the_ray_job_runs_a_command_with_flags_that_there_are_in_pods_that_kubernetes_takes():
    job = yaml.safe_load(RAY_JOB.read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert spec.keys() <= JOB_FIELDS
    assert cluster.keys() <= CLUSTER_FIELDS
    assert cluster["rayVersion"] == importlib.metadata.version("ray")
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group.keys() <= GROUP_FIELDS
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **group["template"]}
        kubernetes_validate.validate(pod, "1.37", strict=True)
    known = set(re.findall(r"--[a-z][a-z0-9-]*", command("voc-predict", "--help").stdout))
    used = set(re.findall(r"--[a-z][a-z-]*", spec["entrypoint"]))
    assert {"--ray", "--out", "--model"} <= used <= known
