"""What all operators of ours have in a graph: their domain, and the attributes by which TensorRT finds a plugin.

It imports nothing, so that the forms inside an engine can use it.
"""

DOMAIN, VERSION = "x2i", 1
ATTRIBUTES = {"plugin_namespace": DOMAIN, "plugin_version": str(VERSION)}
"""Attributes besides an operator's own, such as `num_heads` and `scale`."""
