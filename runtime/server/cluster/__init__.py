"""Many machines: jobs drawn by replicas on a Ray cluster, which Ray Serve starts, watches and scales."""
