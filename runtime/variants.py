"""Names of a denoiser's variants: the same graph, which gives features to keep, or takes kept ones in their place.

A feature is `deep.N`, what comes from below at the N-th skip connection from the end (the deeper, the more is computed
anew), or `cross`, what every cross-attention layer adds. Its tensors are `deep.N` and `cross.LAYER`.
"""

from collections.abc import Iterable

DEEP, CROSS = "deep", "cross"


def deep(depth: int) -> str:
    return f"{DEEP}.{depth}"


def variant(graph: str, gives: Iterable[str] = (), takes: Iterable[str] = ()) -> str:
    """The name of a graph's variant; that which gives and takes nothing is the graph itself."""
    return "".join([graph, *(f".gives-{name}" for name in gives), *(f".takes-{name}" for name in takes)])


def is_of(tensor: str, feature: str) -> bool:
    """Whether a tensor belongs to a feature."""
    return tensor == feature or tensor.startswith(f"{feature}.")
