"""The job files in deploy/ parse, and use flags and variables that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from tests.commands import command
from voc_cls.training.distribution import COORDINATOR_VARIABLE, RANK_VARIABLES

DEPLOY = Path(__file__).parents[2] / "deploy"
SLURM, KUBERNETES = DEPLOY / "slurm/voc-train.sbatch", DEPLOY / "kubernetes/voc-train.yaml"


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
