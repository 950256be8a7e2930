"""The validator of `ray up` files notices mistakes; Ray's own scheduler does with the files what their headers say."""

from __future__ import annotations

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

from tests.cluster.ray_up import check
from tests.cluster.scheduling import schedule
from tests.cluster.validators import read


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("local.yaml", "cluster_name: gcc-search", ""),
        ("local.yaml", "head_ip: HEAD", "headip: HEAD"),
        ("local.yaml", "setup_commands:", "setup_comands:"),
        ("local.yaml", "--num-cpus=0", ""),
        ("local.yaml", "RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled"),
        ("local.yaml", "~/.ray/auth_token: ~/.ray/auth_token", "~/.ray/auth_token: token"),
        ("local.yaml", "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"),
        ("local.yaml", "RAY_USAGE_STATS_ENABLED=0' ~/.bashrc", "' ~/.bashrc"),
        ("local.yaml", "|| python3.12 -m venv", "|| python3.11 -m venv"),
        ("local.yaml", "-c ~/gcc-search/constraints.txt", ""),
        ("local.yaml", "--force-reinstall", ""),
        ("local.yaml", "ls -t", "ls"),
        ("local.yaml", "ray start --address=$RAY_HEAD_IP:6379", "ray start --adress=$RAY_HEAD_IP:6379"),
        ("local.yaml", "- test -d /shared/data", '- test -d "/shared/data'),
        ("aws.yaml", "max_workers: 6", "max_workers: six"),
        ("aws.yaml", "max_workers: 6", "max_workers: 5"),
        ("aws.yaml", "head_node_type: head", "head_node_type: haed"),
        ("aws.yaml", "node_config: {InstanceType: g5.2xlarge,", "node_config: {IntsanceType: g5.2xlarge,"),
        ("aws.yaml", "resources: {CPU: 0, GPU: 0}", "resources: {CPU: 4}"),
        ("aws.yaml", "resources: {CPU: 8, GPU: 1}", "resources: {CPU: 8, GPU: one}"),
        ("aws.yaml", "resources: {CPU: 8, GPU: 1}", "resources: {CPU: 8}"),
        ("aws.yaml", "cache_stopped_nodes: false", "cache_stopped_nodes: true"),
        ("aws.yaml", "cache_stopped_nodes: false", "availabilty_zone: us-west-2a"),
        ("aws.yaml", "min_workers: 0", "min_workers: 1"),
        ("aws.yaml", "    priority: 1", "    priority: -1"),
        ("aws.yaml", "MarketType: spot", "MarketType: capacity-block"),
        ("gcp.yaml", "provisioningModel: SPOT", "provisioningModel: STANDARD"),
        ("gcp.yaml", "machineType: g2", "machine_type: g2"),
        ("azure.yaml", "vmSize: Standard_NC", "vmsize: Standard_NC"),
        ("azure.yaml", "subnet_mask: 10.42.0.0/16", "subnetmask: 10.42.0.0/16"),
        ("azure.yaml", "evictionPolicy: Delete", "evictionPolicies: Delete"),
    ],
)
def test_a_mistake_is_noticed(name, right, wrong):
    assert check(read(name)) == []
    assert right in read(name)
    assert check(read(name).replace(right, wrong)) != []


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml", "azure.yaml"])
@pytest.mark.parametrize(
    ("trials", "machines"),
    [
        (0, {}),
        (1, {"gpu_spot": 1}),
        (4, {"gpu_spot": 4}),
        (6, {"gpu_spot": 4, "gpu_on_demand": 2}),
        (99, {"gpu_spot": 4, "gpu_on_demand": 2}),
    ],
)
def test_spot_machines_come_first_and_on_demand_ones_for_what_is_over(name, trials, machines):
    assert launched(yaml.safe_load(read(name)), trials) == machines


def test_a_higher_priority_changes_over_to_machines_on_demand():
    config = yaml.safe_load(read("aws.yaml"))
    config["available_node_types"]["gpu_on_demand"]["priority"] = 2
    assert launched(config, 1) == {"gpu_on_demand": 1}


def launched(config: dict, trials: int) -> dict[str, int]:
    return schedule(AutoscalingConfig(prepare_config(config), skip_content_hash=True), trials)
