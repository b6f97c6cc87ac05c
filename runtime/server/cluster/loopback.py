"""A Ray cluster of one machine, none of whose ports another machine can reach.

Ray means to connect machines: even with a node's address of 127.0.0.1 its processes listen on every interface. It keeps
to the loopback where it takes the machine for one that cannot be part of a cluster, as Windows and macOS are.
"""

import os

from ...errors import InputError

LOOPBACK = "127.0.0.1"


def alone_environment() -> None:
    """Sets what Ray reads when it is first imported; the processes that it starts inherit it."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


def keep_to_loopback() -> None:
    """Has the replica of this process listen for other replicas, which are none, on the loopback.

    Raises InputError for a Ray whose replicas do so in another way.
    """
    from ray.serve._private import replica

    if not hasattr(replica, "add_port_to_grpc_server"):
        raise InputError("ray: expected one whose replicas can be kept to this machine, got another; install 2.60")
    listen = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: listen(server, address.replace("[::]", LOOPBACK))
