"""Ray's own decision which machines to start, without starting any."""

from __future__ import annotations

from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil


def schedule(config: AutoscalingConfig, trials: int, *, timed_out: tuple[str, ...] = ()) -> dict[str, int]:
    """Machines that Ray's autoscaler starts for so many trials of one GPU, by type.

    Args:
        timed_out: types of which a machine has just been waited for in vain.
    """
    trial = ResourceRequestUtil.make({"CPU": 2, "GPU": 1})
    reply = ResourceDemandScheduler(None).schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=config.get_node_type_configs(),
            max_num_nodes=config.get_max_num_worker_nodes(),
            resource_requests=ResourceRequestUtil.group_by_count([trial] * trials),
            recoverable_resource_availabilities=dict.fromkeys(timed_out, 0.0),
        )
    )
    return {launch.instance_type: launch.count for launch in reply.to_launch}
