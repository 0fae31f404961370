"""The files that bring clusters up, held against the schemas of those who read them.

Kubernetes', compose's and `ray up`'s come in packages. KubeRay's does not: `kuberay_schema.py` states its reference.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from .kuberay_schema import RAY_CLUSTER, RAY_JOB

CLUSTER = Path(__file__).parents[3] / "cluster"
KUBERNETES = "1.37"


@cache
def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def kuberay() -> Iterator[dict[str, Any]]:
    for path in sorted((CLUSTER / "kuberay").glob("*.yaml")):
        yield from documents(path)


def check(resource: dict[str, Any]) -> None:
    kubernetes_validate.validate(resource, KUBERNETES, strict=True)


def of_kubernetes() -> list[dict[str, Any]]:
    return [each for each in kuberay() if not each["apiVersion"].startswith(("ray.io/", "kustomize."))]


@pytest.mark.parametrize("resource", of_kubernetes(), ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_kubernetes_accepts(resource: dict[str, Any]) -> None:
    check(resource)


def test_kubernetes_refuses_a_field_that_it_does_not_have() -> None:
    (deployment,) = [copy.deepcopy(each) for each in of_kubernetes() if each["kind"] == "Deployment"]
    deployment["spec"]["template"]["spec"]["securityContext"]["runAsNonroot"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="runAsNonroot"):
        check(deployment)


def spec_of(kind: str) -> dict[str, Any]:
    (found,) = [each["spec"] for each in kuberay() if each["kind"] == kind]
    return dict(found)


@pytest.mark.parametrize(("kind", "schema"), [("RayCluster", RAY_CLUSTER), ("RayJob", RAY_JOB)])
def test_kuberay_accepts(kind: str, schema: dict[str, Any]) -> None:
    jsonschema.validate(spec_of(kind), schema)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"authOption": {"mode": "token"}}, "authOption"),
        ({"authOptions": {"mode": "tokens"}}, "tokens"),
        ({"headGroupSpec": {"template": {"spec": {}}, "rayStartParams": {"num-cpus": 0}}}, "0 is not of type 'string'"),
        ({"rayVersion": 2.6}, "2.6 is not of type 'string'"),
    ],
)
def test_what_kuberay_would_refuse_is_noticed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=message):
        jsonschema.validate(spec_of("RayCluster") | change, RAY_CLUSTER)


def test_kubernetes_accepts_the_pods_of_ray() -> None:
    job, clusters = spec_of("RayJob"), [spec_of("RayCluster"), spec_of("RayJob")["rayClusterSpec"]]
    groups = [group for each in clusters for group in (each["headGroupSpec"], *each["workerGroupSpecs"])]
    for template in [job["submitterPodTemplate"], *(group["template"] for group in groups)]:
        check({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template})


def test_compose_accepts_its_file() -> None:
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    (content,) = documents(CLUSTER / "compose.yaml")
    jsonschema.validate(content, schema)
    with pytest.raises(jsonschema.ValidationError, match="comand"):
        jsonschema.validate({"services": {"head": {"comand": "ray start"}}}, schema)


@pytest.mark.parametrize("path", sorted((CLUSTER / "ray-up").glob("*.yaml")), ids=lambda path: path.stem)
def test_ray_accepts_its_launchers_files(path: Path) -> None:
    schema = json.loads((files("ray.autoscaler") / "ray-schema.json").read_text())
    (content,) = documents(path)
    jsonschema.validate(content, schema)
