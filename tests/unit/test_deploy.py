"""The files that make clusters: they fit Ray's own schema, and are safe as they stand."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from trax_ray.cli import app as cli
from trax_ray.cli.submit import compose

ROOT = Path(__file__).parents[2]
RAY_UP = (ROOT / "cluster.yaml", ROOT / "deploy" / "cluster-onprem.yaml")
KUBERAY = (ROOT / "deploy" / "rayjob.yaml", ROOT / "deploy" / "raycronjob.yaml")
RAY_VERSION = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[0]


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def job_of(path: Path) -> Any:
    spec = loaded(path)["spec"]
    return spec.get("jobTemplate", spec)


def containers(path: Path) -> list[Any]:
    """The containers of head and workers, the head's first."""
    cluster = job_of(path)["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [each for group in groups for each in group["template"]["spec"]["containers"]]


@pytest.mark.parametrize("path", RAY_UP, ids=lambda path: path.name)
def test_rays_schema(path: Path) -> None:
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    schema = json.loads((Path(spec.submodule_search_locations[0]) / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(loaded(path), schema)


@pytest.mark.parametrize("path", RAY_UP, ids=lambda path: path.name)
def test_nobody_else_gets_in(path: Path) -> None:
    """Whoever reaches a dashboard runs commands on the cluster, and Ray's default on AWS is 0.0.0.0."""
    given = loaded(path)
    (start,) = [line for line in given["head_start_ray_commands"] if "ray start" in line]
    assert "--dashboard-host=127.0.0.1" in start
    everything = [*given.get("docker", {}).get("run_options", ()), *given["worker_start_ray_commands"], start]
    assert any("RAY_AUTH_MODE=token" in line for line in everything)
    assert "/home/ray/secrets/auth_token" in given["file_mounts"]


@pytest.mark.parametrize("path", RAY_UP, ids=lambda path: path.name)
def test_nothing_of_rays_defaults_is_installed(path: Path) -> None:
    given = loaded(path)
    for name in ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"):
        assert given[name] == [], "or Ray's own, with a nightly build, take its place"


def test_machines_on_aws_come_and_go() -> None:
    given = loaded(ROOT / "cluster.yaml")
    assert given["provider"]["cache_stopped_nodes"] is False
    kinds = given["available_node_types"]
    assert kinds["head"]["resources"] == {"CPU": 0}, "the head runs no tasks"
    for name in ("worker", "gpu_worker"):
        assert kinds[name]["min_workers"] == 0
        assert kinds[name]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert sum(kinds[name]["max_workers"] for name in ("worker", "gpu_worker")) >= given["max_workers"]


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.name)
def test_a_job_of_kuberay(path: Path) -> None:
    job = job_of(path)
    cluster = job["rayClusterSpec"]
    assert (job["submissionMode"], job["shutdownAfterJobFinishes"]) == ("SidecarMode", True)
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert all({"name": "data", "mountPath": "/data"} in each["volumeMounts"] for each in containers(path))
    keys = ["keys" in {mount["name"] for mount in each["volumeMounts"]} for each in containers(path)]
    assert keys == [True] + [False] * (len(keys) - 1), "the key is on the head, which gives it to nobody's disk"


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.name)
def test_the_jobs_command_is_one_of_ours(path: Path) -> None:
    program, name, *arguments = shlex.split(job_of(path)["entrypoint"])
    assert (program, name) == ("trax-ray", "batch")
    group: Any = typer.main.get_command(cli.app)
    given = group.commands["batch"].make_context("batch", arguments, resilient_parsing=False).params
    assert compose(given).output_dir.startswith("/data/"), "where every node sees it"


def test_one_version_of_ray() -> None:
    """A head and workers of different versions don't work together."""
    assert f"rayproject/ray:{RAY_VERSION}-" in (ROOT / "deploy" / "Dockerfile").read_text()
    assert {job_of(path)["rayClusterSpec"]["rayVersion"] for path in KUBERAY} == {RAY_VERSION}


@pytest.mark.parametrize("path", [*RAY_UP, *KUBERAY], ids=lambda path: path.name)
def test_no_secret_stands_in_an_environment(path: Path) -> None:
    for name, value in re.findall(r"\b([A-Z_]*(?:KEY|TOKEN|SECRET)[A-Z_]*)(?:=|\n *value: )(\S+)", path.read_text()):
        assert name.endswith(("_FILE", "_PATH")), name
        assert value.startswith("/home/ray/secrets/"), value
