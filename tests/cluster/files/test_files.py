"""The files that bring clusters up: no root, no open dashboard, real commands. Schemas: test_schemas.py."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "cluster"
RAY_UP = sorted((CLUSTER / "ray-up").glob("*.yaml"))
KUBERAY = sorted((CLUSTER / "kuberay").glob("*.yaml"))


@cache
def load(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def resources() -> list[dict[str, Any]]:
    return [document for path in KUBERAY for document in load(path)]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [resource for resource in resources() if resource["kind"] == kind]


def pod_specs(node: Any) -> Iterator[dict[str, Any]]:
    """Everything below a node that has containers."""
    if isinstance(node, dict):
        if "containers" in node:
            yield node
        for child in node.values():
            yield from pod_specs(child)
    elif isinstance(node, list):
        for child in node:
            yield from pod_specs(child)


def ray_commands() -> list[list[str]]:
    """The words of every command of Ray that a file runs."""
    texts = [
        command for path in RAY_UP for key, value in load(path)[0].items() if "commands" in key for command in value
    ]
    services = load(CLUSTER / "compose.yaml")[0]["services"]
    texts += [services[name]["command"] for name in ("head", "worker")]
    containers = [container for spec in pod_specs(resources()) for container in spec["containers"]]
    hooks = [each["lifecycle"]["preStop"]["exec"]["command"][-1] for each in containers if "lifecycle" in each]
    script = (CLUSTER / "ray-up" / "spot_notice.sh").read_text().replace("\\\n", " ").replace("exec ", "")
    parts = [part.strip() for text in [*texts, *hooks, *script.splitlines()] for part in text.split(";")]
    return [shlex.split(part) for part in parts if re.match(r"(\S*/)?ray ", part)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rays_commands_and_their_options_exist() -> None:
    from ray.scripts.scripts import cli  # seconds, and warnings of its own

    commands = ray_commands()
    assert {words[1] for words in commands} == {"start", "stop", "drain-node"}
    for _, name, *options in commands:
        known = {option for parameter in cli.commands[name].params for option in parameter.opts}
        assert {word.partition("=")[0] for word in options if word.startswith("--")} <= known


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_kuberay_starts_ray_with_options_that_it_has() -> None:
    from ray.scripts.scripts import cli

    known = {option for parameter in cli.commands["start"].params for option in parameter.opts}
    clusters = [of_kind("RayCluster")[0]["spec"], of_kind("RayJob")[0]["spec"]["rayClusterSpec"]]
    groups = [group for each in clusters for group in (each["headGroupSpec"], *each["workerGroupSpecs"])]
    assert len(groups) == 4
    assert {f"--{name}" for group in groups for name in group["rayStartParams"]} <= known


def test_mlflows_server_is_started_with_options_that_it_has() -> None:
    from mlflow.cli import cli

    compose = load(CLUSTER / "compose.yaml")[0]["services"]["mlflow"]["command"]
    pods = [container for spec in pod_specs(resources()) for container in spec["containers"]]
    texts = [" ".join([*each.get("command", []), *each.get("args", [])]) for each in pods] + [" ".join(compose)]
    started = [text.partition("mlflow server")[2] for text in texts if "mlflow server" in text]
    assert len(started) == 2
    known = {option for parameter in cli.commands["server"].params for option in parameter.opts}
    used = {word.partition("=")[0] for text in started for word in re.findall(r"--[\w-]+", text)}
    assert used and used <= known


@pytest.mark.parametrize("path", RAY_UP, ids=lambda path: path.stem)
def test_launchers_start_ray_with_a_token_and_its_dashboard_on_loopback(path: Path) -> None:
    content = load(path)[0]
    starts = [text for key in ("head_start_ray_commands", "worker_start_ray_commands") for text in content[key]
              if "ray start" in text]  # fmt: skip
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in text for text in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "~/.ray/auth_token" in content["file_mounts"]


def test_compose_publishes_only_what_asks_for_a_token_or_an_account_and_on_loopback() -> None:
    services = load(CLUSTER / "compose.yaml")[0]["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published.keys() == {"head", "mlflow"}
    assert all(port.startswith("${MRQM_BIND:-127.0.0.1}:") for ports in published.values() for port in ports)
    assert (
        services["head"]["environment"]["RAY_AUTH_MODE"]
        == services["worker"]["environment"]["RAY_AUTH_MODE"]
        == "token"
    )
    assert "--app-name=basic-auth" in services["mlflow"]["command"][-1]
    assert "*" not in services["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"]


def test_compose_runs_nothing_as_root_or_with_capabilities() -> None:
    for service in load(CLUSTER / "compose.yaml")[0]["services"].values():
        assert service["user"] == "${MRQM_UID:-1000}:0"
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_compose_names_only_secrets_networks_and_services_that_it_has() -> None:
    content = load(CLUSTER / "compose.yaml")[0]
    for service in content["services"].values():
        used = [secret["source"] if isinstance(secret, dict) else secret for secret in service.get("secrets", [])]
        assert set(used) <= content["secrets"].keys()
        assert set(service["networks"]) <= content["networks"].keys()
        assert set(service.get("depends_on", [])) <= content["services"].keys()


def test_the_image_ends_without_root_and_asks_for_the_token() -> None:
    lines = (CLUSTER / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 1000"]
    assert any("RAY_AUTH_MODE=token" in line for line in lines)
    assert all("-c constraints.txt" in line for line in lines if "pip install" in line)


def test_kustomization_has_every_file_but_jobs() -> None:
    listed = set(load(CLUSTER / "kuberay" / "kustomization.yaml")[0]["resources"])
    assert listed == {path.name for path in KUBERAY} - {"kustomization.yaml", "rayjob.yaml"}


def test_no_pod_runs_as_root_or_gains_privileges() -> None:
    specs = list(pod_specs(resources()))
    assert len(specs) == 7
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert not [entry for entry in container.get("env", []) if "PASSWORD" in entry["name"] and "value" in entry
                        and not entry["value"].startswith("/")]  # fmt: skip


def test_pods_mount_only_volumes_that_they_have() -> None:
    claimed = {template["metadata"]["name"] for resource in of_kind("StatefulSet")
               for template in resource["spec"]["volumeClaimTemplates"]}  # fmt: skip
    for spec in pod_specs(resources()):
        volumes = {volume["name"] for volume in spec.get("volumes", [])} | claimed
        assert {
            mount["name"] for container in spec["containers"] for mount in container.get("volumeMounts", [])
        } <= volumes


def test_ray_clusters_have_a_token() -> None:
    (cluster,), (job,) = of_kind("RayCluster"), of_kind("RayJob")
    assert cluster["spec"]["authOptions"] == {"mode": "token", "secretName": "mrqm-ray-token"}
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]


def test_all_pods_are_cut_off_but_by_policy() -> None:
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in of_kind("NetworkPolicy")}
    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    blocks = [peer["ipBlock"] for spec in policies.values() for rule in spec.get("egress", []) for peer in rule["to"]
              if "ipBlock" in peer]  # fmt: skip
    assert blocks
    assert all("169.254.0.0/16" in block["except"] for block in blocks)
