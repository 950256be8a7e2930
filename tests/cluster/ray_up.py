"""Files of `ray up`: Ray's own schema, the fields of each provider, and the rules of this project."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from ray.autoscaler import _private
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.commands import bash_complaints, ray_complaints

# Ray's schema takes any field here and lets the provider find out, when machines are already billed.
PROVIDER_FIELDS = {
    "local": {"head_ip", "worker_ips"},
    "aws": {"region", "availability_zone", "cache_stopped_nodes"},
    "gcp": {"project_id", "region", "availability_zone", "cache_stopped_nodes"},
    "azure": {
        "subscription_id",
        "resource_group",
        "location",
        "unique_id",
        "subnet_mask",
        "availability_zone",
        "cache_stopped_nodes",
    },
}
NODE_FIELDS = {
    "aws": {"InstanceType", "ImageId", "IamInstanceProfile", "BlockDeviceMappings", "InstanceMarketOptions"},
    "gcp": {"machineType", "disks", "scheduling", "serviceAccounts"},
    "azure": {"azure_arm_parameters"},
}
COMMAND_FIELDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


def check(text: str) -> list[str]:
    """Complaints about a file of `ray up`, one a line; none: it is well."""
    config = yaml.safe_load(text)
    said = ray_says(config)
    if said:
        return said
    said = unknown_fields(config) + security(config) + installing(config, text) + starting(config)
    if config["provider"]["type"] != "local":
        said += machines(config)
    for field in COMMAND_FIELDS:
        for command in config.get(field, []):
            said += bash_complaints(command) or ray_complaints(command)
    return said


def ray_says(config: dict[str, Any]) -> list[str]:
    try:
        validate_config(prepare_config(config))
    except Exception as error:  # Ray's errors have no class in common.
        return [f"Ray: {getattr(error, 'message', None) or error}"]
    return []


def unknown_fields(config: dict[str, Any]) -> list[str]:
    provider = config["provider"]
    kind = provider["type"]
    said = [] if "cluster_name" in config else ["cluster_name: must be there, or Ray calls it default"]
    said += [f"provider: unknown field {name}" for name in provider.keys() - PROVIDER_FIELDS[kind] - {"type"}]
    for name, node in config.get("available_node_types", {}).items():
        settings = node["node_config"]
        said += [f"{name}: unknown field {field}" for field in settings.keys() - NODE_FIELDS[kind]]
        if kind == "azure":
            known = azure_parameters() | {"availability_zone"}
            given = settings["azure_arm_parameters"].keys()
            said += [f"{name}: unknown parameter {field}" for field in given - known]
    return said


def azure_parameters() -> set[str]:
    """What the template in Ray's own package takes."""
    template = Path(_private.__file__).parent / "_azure/azure-vm-template.json"
    return set(json.loads(template.read_text())["parameters"])


def security(config: dict[str, Any]) -> list[str]:
    """One token on all machines, the dashboard on 127.0.0.1, no phone-home."""
    said = []
    everywhere = " ".join(config["setup_commands"])
    if config["file_mounts"].get("~/.ray/auth_token") != "~/.ray/auth_token":
        said.append("file_mounts: must bring ~/.ray/auth_token")
    wanted = ("RAY_AUTH_MODE=token", "RAY_USAGE_STATS_ENABLED=0")
    said += [f"setup_commands: must set {setting}" for setting in wanted if setting not in everywhere]
    if "--dashboard-host=127.0.0.1" not in " ".join(config["head_start_ray_commands"]):
        said.append("head_start_ray_commands: the dashboard must be on 127.0.0.1")
    return said


def installing(config: dict[str, Any], text: str) -> list[str]:
    """The same Python and the same packages on all machines."""
    said = []
    pythons = set(re.findall(r"python(3\.\d+)", text))
    if len(pythons) != 1 or not pythons <= {"3.11", "3.12"}:
        said.append(f"one Python, 3.11 or 3.12, must be named, got {sorted(pythons)}")
    mounts = config["file_mounts"]
    if (mounts.get("~/gcc-search/constraints.txt"), mounts.get("~/gcc-search/dist")) != ("constraints.txt", "dist"):
        said.append("file_mounts: must bring constraints.txt and dist")
    newest = "$(ls -t ~/gcc-search/dist/*.whl | head -1)"
    asked = (f'-c ~/gcc-search/constraints.txt "{newest}[cluster]"', f'--force-reinstall --no-deps "{newest}"')
    wanted = [f"~/gcc-search-env/bin/pip install --quiet {words}" for words in asked]
    if [command for command in config["setup_commands"] if "dist/" in command] != wanted:
        said.append(f"setup_commands: must install the newest wheel with constraints.txt, then once more: {wanted}")
    return said


def starting(config: dict[str, Any]) -> list[str]:
    """The head takes no trials; workers join it."""
    head, worker = (" ".join(config[f"{who}_start_ray_commands"]) for who in ("head", "worker"))
    said = [
        f"head_start_ray_commands: must have {flag}"
        for flag in ("--head", "--num-cpus=0", "--num-gpus=0", "--autoscaling-config=~/ray_bootstrap_config.yaml")
        if flag not in head
    ]
    if "ray start --address=$RAY_HEAD_IP:6379" not in worker or "--num-" in worker:
        said.append("worker_start_ray_commands: must join the head with all that the machine has")
    return said


def machines(config: dict[str, Any]) -> list[str]:
    """A head without trials, GPU workers from 0, spot before on demand, nothing left that is billed."""
    types = config["available_node_types"]
    head = types[config["head_node_type"]]
    workers = {name: node for name, node in types.items() if name != config["head_node_type"]}
    said = []
    if head["resources"] != {"CPU": 0, "GPU": 0} or head.get("max_workers") != 0:
        said.append("head: must have CPU 0, GPU 0 and max_workers 0")
    if config["provider"].get("cache_stopped_nodes") is not False:
        said.append("provider.cache_stopped_nodes: must be false, or `ray down` leaves disks that are billed")
    if config["max_workers"] != sum(node["max_workers"] for node in workers.values()):
        said.append("max_workers: must be the sum of the types'")
    for name, node in workers.items():
        if node.get("min_workers") != 0:
            said.append(f"{name}.min_workers: must be 0")
        if node["resources"].get("GPU", 0) < 1:
            said.append(f"{name}.resources: must have a GPU")
    by_priority = sorted(workers.values(), key=lambda node: -node["priority"])
    if [is_spot(node["node_config"]) for node in by_priority] != [True, False]:
        said.append("available_node_types: must be a spot type and, below it in priority, one on demand")
    if is_spot(head["node_config"]):
        said.append("head: must not be spot, its end is the search's")
    return said


def is_spot(settings: dict[str, Any]) -> bool:
    return (
        settings.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        or settings.get("scheduling", {}).get("provisioningModel") == "SPOT"
        or settings.get("azure_arm_parameters", {}).get("priority") == "Spot"
    )
