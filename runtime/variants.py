"""Names of a denoiser's variants: the same graph, which gives features to keep, or takes kept ones in their place.

A feature is `deep.N`, what comes from below at the N-th skip connection from the end (the deeper, the more is computed
anew), or `cross`, what every cross-attention layer adds. Its tensors are `deep.N` and `cross.LAYER`. A thinned graph's
largest self-attention reads the keys and values of every n-th row and column alone.
"""

from dataclasses import dataclass

DEEP, CROSS = "deep", "cross"


@dataclass(frozen=True, slots=True)
class Variant:
    """A denoiser's graph, thinned or not, with the features that it gives and takes, in this order in the name."""

    graph: str
    gives: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    thinned: int = 1

    @property
    def name(self) -> str:
        """The graph's name in the bundle; what is not thinned, gives and takes nothing is the denoiser itself."""
        thinned = [f".thinned-{self.thinned}"] if self.thinned > 1 else []
        gives, takes = (f".gives-{name}" for name in self.gives), (f".takes-{name}" for name in self.takes)
        return "".join([self.graph, *thinned, *gives, *takes])


def deep(depth: int) -> str:
    return f"{DEEP}.{depth}"


def is_of(tensor: str, feature: str) -> bool:
    """Whether a tensor belongs to a feature."""
    return tensor == feature or tensor.startswith(f"{feature}.")
