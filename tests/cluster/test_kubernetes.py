"""The validator of Kubernetes files notices mistakes; Ray's own scheduler does with them what their headers say."""

from __future__ import annotations

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

from tests.cluster.commands import shellcheck
from tests.cluster.kubernetes import SCHEMA, check, clusters
from tests.cluster.scheduling import schedule
from tests.cluster.validators import read

NAMES = ["kuberay-cluster.yaml", "kuberay-rayjob.yaml"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        # Misspelt fields, which kubectl drops.
        ("authOptions:", "authOption:"),
        ("secretName:", "secret:"),
        ("idleTimeoutSeconds:", "idleTimeoutSecs:"),
        ("maxReplicas: 2", "maxReplica: 2"),
        ("priority: 0", "prioritty: 0"),
        ("initContainers: *fetch", "initContainer: *fetch"),
        ("mountPath: /data", "mountpath: /data"),
        # Wrong types.
        ("replicas: 0", 'replicas: "0"'),
        ("enableInTreeAutoscaling: true", 'enableInTreeAutoscaling: "true"'),
        ('num-cpus: "0"', "num-cpus: 0"),
        ('{name: RAY_USAGE_STATS_ENABLED, value: "0"}', "{name: RAY_USAGE_STATS_ENABLED, value: 0}"),
        ('gke-spot: "true"', "gke-spot: true"),
        ("containerPort: 8265", 'containerPort: "8265"'),
        # Wrong values.
        ("mode: token", "mode: tokens"),
        ("version: v2", "version: v3"),
        ("serviceType: ClusterIP", "serviceType: Cluster"),
        ("effect: NoSchedule", "effect: NoSchedul"),
        ("operator: DoesNotExist", "operator: Missing"),
        ("memory: 24Gi", "memory: 24GiB"),
        ("minReplicas: 0", "minReplicas: -1"),
        ("groupName: gpu-spot", "groupName: gpu_spot"),
        # Missing ones.
        ("groupName: gpu-spot", "labels: {}"),
        ("metadata: {name: gcc-search}", "metadata: {}"),
        ("image: REGISTRY/gcc-search:1\n", "tty: true\n"),
        # The project's rules.
        ("mode: token", "mode: disabled"),
        ("serviceType: ClusterIP", "serviceType: LoadBalancer"),
        ('num-gpus: "0"', 'num-gpus: "1"'),
        ("rayVersion: 2.60.0", "rayVersion: 2.59.0"),
        ("minReplicas: 0", "minReplicas: 1"),
        ("priority: 1", "priority: -1"),
        ("[{name: data, mountPath: /data}]", "[{name: dat, mountPath: /data}]"),
        ("version: v2", "version: v1"),
        ('{name: RAY_USAGE_STATS_ENABLED, value: "0"}', '{name: RAY_USAGE_STATS_ENABLED, value: "1"}'),
    ],
)
def test_a_mistake_is_noticed(name, right, wrong):
    text = read(name).replace("&mount {", "{").replace("[*mount", "[{name: data, mountPath: /data}")
    assert check(text) == []
    assert right in text
    assert check(text.replace(right, wrong)) != []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("shutdownAfterJobFinishes: true", "shutdownAfterJobFinishes: false"),
        ("submissionMode: K8sJobMode", "submissionMode: K8SJobMode"),
        ("entrypoint: bash /job/run.sh", "entrypoint: [bash, /job/run.sh]"),
        ("  entrypoint: bash /job/run.sh\n", ""),
        ("backoffLimit: 2", "backofLimit: 2"),
        ('exit "$code"', 'exit "$code'),
        ("configMap: {name: gcc-search}}", "configMap: {name: gcc}}"),
        ("configMap: {name: gcc-search}}", "confgMap: {name: gcc-search}}"),
        ("kind: RayJob", "kind: Rayjob"),
    ],
)
def test_a_mistake_of_a_job_is_noticed(right, wrong):
    assert right in read("kuberay-rayjob.yaml")
    assert check(read("kuberay-rayjob.yaml").replace(right, wrong)) != []


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_shellcheck_has_nothing_to_say_of_the_job_s_script():
    script, _ = yaml.safe_load_all(read("kuberay-rayjob.yaml"))
    assert shellcheck(script["data"]["run.sh"]) == ""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("trials", "timed_out", "machines"),
    [
        (0, (), {}),
        (1, (), {"gpu-spot": 1}),
        (6, (), {"gpu-spot": 4, "gpu-on-demand": 2}),
        (1, ("gpu-spot",), {"gpu-on-demand": 1}),
        (6, ("gpu-spot",), {"gpu-spot": 4, "gpu-on-demand": 2}),
    ],
)
def test_spot_pods_come_first_and_others_where_there_are_no_spot_nodes(name, trials, timed_out, machines):
    assert schedule(autoscaling(name), trials, timed_out=timed_out) == machines


def test_the_head_has_nothing_for_trials_and_idle_pods_go_after_five_minutes():
    config = autoscaling("kuberay-cluster.yaml")
    head = config.get_node_type_configs()[config.get_head_node_type()]
    assert (head.resources.get("CPU", 0), head.resources.get("GPU", 0)) == (0, 0)
    assert config.get_idle_timeout_s() == 300


def autoscaling(name: str) -> AutoscalingConfig:
    """What Ray's autoscaler makes of the cluster, as KubeRay hands it over."""
    (spec,) = [spec for document in yaml.safe_load_all(read(name)) for spec in clusters(document)]
    resource = {"metadata": {"name": "gcc-search", "namespace": "default"}, "spec": spec}
    return AutoscalingConfig(_derive_autoscaling_config_from_ray_cr(resource), skip_content_hash=True)
