"""Starts a server's replicas on a Ray cluster, by Ray Serve, which puts them on machines, watches and scales them."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from ...errors import InputError, reason
from ..settings import ServerSettings
from .loopback import LOOPBACK, alone_environment
from .sent_call import SentCall
from .settings import ClusterSettings

STORE_BYTES = 128 * 2**20
"""Of the memory in which Ray hands over what is large: previews and pictures of a few jobs."""
HEALTH_SECONDS = 1.0
"""How often Ray looks whether a replica lives."""
DRAINED_SECONDS = 0.5
"""How often a replica that is to end looks whether its jobs have."""
SCALING = {"metrics_interval_s": 1.0, "look_back_period_s": 5.0, "upscale_delay_s": 5.0, "downscale_delay_s": 60.0}
"""Replicas are started for what waits for seconds, and ended once they are of no use for a minute."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """Replicas that draw: `draw` sends a call to one of them, and `stop` ends them all."""

    handle: Any
    stop: Callable[[], None]

    def draw(self, sent: SentCall) -> Any:
        """Events of its drawing, as an asynchronous iterator with `cancel`."""
        return self.handle.options(stream=True, multiplexed_model_id=sent.call.bundle).draw.remote(sent)


def start_replicas(settings: ServerSettings, cluster: ClusterSettings) -> Replicas:
    """Connects to the cluster, or starts one, and waits for the least number of replicas. Raises InputError where that
    cannot be."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    alone = cluster.address is None
    if alone:
        alone_environment()
    elif (Path.home() / ".ray" / "auth_token").is_file():
        # Ray itself sends the token only to clusters that it starts.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise InputError(f"--replicas needs {error.name}: pip install 'x2i-edge[ray]'") from error
    try:
        ray.init(**_own_cluster(settings, cluster) if alone else {"address": cluster.address}, **QUIET)
    except (ConnectionError, RuntimeError, ValueError) as error:
        fix = "see what Ray says above" if alone else "start Ray on this machine with that address, or leave it out"
        raise InputError(f"--ray-address: expected a Ray cluster to join, got none ({reason(error)}); {fix}") from error
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    threads = settings.threads or _threads(ray.nodes(), cluster.most)
    serve.start(proxy_location="Disabled")
    application = _deployment(serve, settings, cluster, threads, alone)
    try:
        handle = serve.run(application, name=cluster.name, route_prefix=None)
    except RuntimeError as error:
        ray.shutdown()
        raise InputError(
            f"--replicas: expected replicas that open the bundles on their machines, got none ({reason(error)}); "
            "see Ray's logs"
        ) from error

    def stop() -> None:
        if not alone:
            serve.delete(cluster.name)
        ray.shutdown()

    return Replicas(handle, stop)


QUIET: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}


def _own_cluster(settings: ServerSettings, cluster: ClusterSettings) -> dict[str, Any]:
    """What a cluster of this machine alone is started with; as many CPUs as its replicas are to have."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "address": "local",
        "num_cpus": max(cores, (settings.threads or 1) * cluster.most),
        "include_dashboard": False,
        "object_store_memory": STORE_BYTES,
        "_node_ip_address": LOOPBACK,
    }


def _threads(nodes: list[dict[str, Any]], most: int) -> int:
    """CPUs of a replica, where nobody says how many: so many that all of them have room on the machines there are."""
    cpus = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
    return max(1, max(cpus) // ceil(most / len(cpus)))


def _deployment(serve: Any, settings: ServerSettings, cluster: ClusterSettings, threads: int, alone: bool) -> Any:
    """The replicas as Ray Serve is to keep them."""
    from .replica import Replica

    own = replace(
        settings,
        bundles=tuple(folder.resolve() for folder in settings.bundles),
        backend=settings.backend or ("cuda" if cluster.gpus else None),
        threads=threads,
        # Only the server itself asks them.
        key=None,
    )
    return (
        serve.deployment(Replica)
        .options(
            name="draw",
            max_ongoing_requests=settings.lanes,
            ray_actor_options={"num_cpus": threads, "num_gpus": cluster.gpus},
            # Whoever is to end draws to the end what it has begun.
            graceful_shutdown_timeout_s=settings.limits.seconds,
            graceful_shutdown_wait_loop_s=DRAINED_SECONDS,
            health_check_period_s=HEALTH_SECONDS,
            **scaling(settings, cluster),
        )
        .bind(own, cluster.open or -1, alone)
    )


def scaling(settings: ServerSettings, cluster: ClusterSettings) -> dict[str, Any]:
    """How many replicas Ray Serve keeps, in its words."""
    if cluster.least == cluster.most:
        return {"num_replicas": cluster.most}
    ongoing = cluster.ongoing or float(settings.lanes)
    bounds = {"min_replicas": cluster.least, "max_replicas": cluster.most, "target_ongoing_requests": ongoing}
    return {"autoscaling_config": bounds | SCALING}
