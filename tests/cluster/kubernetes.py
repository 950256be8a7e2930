"""Kubernetes files: a small schema of KubeRay's and Kubernetes' fields, references, and the project's rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.cluster.commands import bash_complaints
from tests.cluster.versions import ray_version

SCHEMA = yaml.safe_load(Path(__file__).with_name("kubernetes_schema.yaml").read_text())
KINDS = ("ConfigMap", "RayCluster", "RayJob")


def check(text: str) -> list[str]:
    """Complaints about a file, one a line; none: it is well."""
    documents = list(yaml.safe_load_all(text))
    said = [line for document in documents for line in schema_complaints(document)]
    if said:
        return said
    specs = [spec for document in documents for spec in clusters(document)]
    if len(specs) != 1:
        return [f"must hold one Ray cluster, got {len(specs)}"]
    (spec,) = specs
    said = security(spec) + head(spec) + workers(spec) + pods(spec, text)
    for document in documents:
        if document["kind"] == "ConfigMap":
            said += [line for name, script in document["data"].items() for line in script_complaints(name, script)]
        if document["kind"] == "RayJob":
            said += bash_complaints(document["spec"]["entrypoint"]) + job(document["spec"])
    return said


def schema_complaints(document: dict[str, Any]) -> list[str]:
    """One line for each field that is unknown, missing, of a wrong type or not one of the values it may have."""
    kind = document.get("kind")
    if kind not in KINDS:
        return [f"kind: must be one of {', '.join(KINDS)}, got {kind}"]
    checker = jsonschema.Draft202012Validator(SCHEMA | {"$ref": f"#/$defs/{kind}"})
    return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(document)]


def clusters(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if document["kind"] == "RayCluster":
        yield document["spec"]
    elif document["kind"] == "RayJob":
        yield document["spec"]["rayClusterSpec"]


def security(spec: dict[str, Any]) -> list[str]:
    said = []
    auth = spec.get("authOptions", {})
    if auth.get("mode") != "token" or "secretName" not in auth:
        said.append("authOptions: must be mode token, with the secret that the header makes")
    if spec["headGroupSpec"].get("serviceType") != "ClusterIP" or spec["headGroupSpec"].get("enableIngress"):
        said.append("headGroupSpec: must be reached through port-forward only")
    silent = {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}
    ray = [container for pod in pod_specs(spec) for container in pod["containers"]]
    chatty = [container["name"] for container in ray if silent not in container.get("env", [])]
    return said + [f"{name}: must set RAY_USAGE_STATS_ENABLED to 0" for name in chatty]


def head(spec: dict[str, Any]) -> list[str]:
    given = spec["headGroupSpec"].get("rayStartParams", {})
    wanted = {"num-cpus": "0", "num-gpus": "0", "dashboard-host": "0.0.0.0"}
    return [
        f"headGroupSpec.rayStartParams: must have {k} {v}, got {given.get(k)}"
        for k, v in wanted.items()
        if given.get(k) != v
    ]


def workers(spec: dict[str, Any]) -> list[str]:
    """From 0, each with a GPU, spot before the rest, and told apart from it."""
    said = []
    groups = spec["workerGroupSpecs"]
    for group in groups:
        if (group.get("replicas", 0), group["minReplicas"]) != (0, 0) or group["maxReplicas"] < 1:
            said.append(f"{group['groupName']}: must start from 0")
        resources = group["template"]["spec"]["containers"][0].get("resources", {})
        if resources.get("requests") != resources.get("limits") or "nvidia.com/gpu" not in resources.get("limits", {}):
            said.append(f"{group['groupName']}: must request what it is limited to, a GPU among it")
    by_priority = sorted(groups, key=lambda group: -group.get("priority", 0))
    if [group["groupName"] for group in by_priority] != ["gpu-spot", "gpu-on-demand"]:
        said.append("workerGroupSpecs: must be gpu-spot and, below it in priority, gpu-on-demand")
    options = spec.get("autoscalerOptions", {})
    if not spec.get("enableInTreeAutoscaling") or options.get("version") != "v2":
        said.append("autoscalerOptions: must be version v2, which alone knows priority")
    return said


def pods(spec: dict[str, Any], text: str) -> list[str]:
    """One Ray, one image; what is mounted is there."""
    said = (
        []
        if spec["rayVersion"] == ray_version()
        else [f"rayVersion: must be {ray_version()}, got {spec['rayVersion']}"]
    )
    images = {container["image"] for pod in pod_specs(spec) for container in containers(pod)}
    if len(images) != 1:
        said.append(f"image: must be the same in all pods, got {sorted(images)}")
    for pod in pod_specs(spec):
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        mounted = {mount["name"] for container in containers(pod) for mount in container.get("volumeMounts", [])}
        said += [f"volumeMounts: no volume {name}" for name in mounted - volumes]
        said += [f"volumes: {name} is mounted nowhere" for name in volumes - mounted]
        for volume in pod.get("volumes", []):
            name = volume.get("configMap", {}).get("name")
            if name and f"configmap {name} " not in text and f"kind: ConfigMap\nmetadata: {{name: {name}}}" not in text:
                said.append(f"volumes: nothing makes the ConfigMap {name}")
    return said


def job(spec: dict[str, Any]) -> list[str]:
    goes = spec.get("shutdownAfterJobFinishes") and "ttlSecondsAfterFinished" in spec
    return [] if goes else ["shutdownAfterJobFinishes: must be true, or the nodes are billed on"]


def script_complaints(name: str, script: str) -> list[str]:
    return [f"{name}: {line}" for line in bash_complaints(script)]


def pod_specs(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]
