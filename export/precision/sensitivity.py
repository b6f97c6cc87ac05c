"""Which layers int8 damages most, and how many of them must stay in float to reach a quality.

The damage of a layer is the relative L2 distance of the noise with that layer alone in int8. Damages of several layers
add up only roughly, so how many to keep is measured, not summed.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import PlanError
from .part_names import part_of
from .relative_error import distance
from .samples import Arrays
from .switched_layers import SwitchedLayers

MOST_SINGLE = 128
"""With more layers than this, blocks are measured instead."""


@dataclass(frozen=True, slots=True)
class Damage:
    """The error that a layer, or a block of several, makes alone; `layers` are their module paths."""

    name: str
    layers: tuple[str, ...]
    error: float


def rank(switched: SwitchedLayers, samples: Iterable[Arrays]) -> tuple[Damage, ...]:
    """The damage of every layer, or of every block of a large denoiser, the worst first."""
    error = _Errors(switched, samples)
    groups: dict[str, list[str]] = {}
    single = len(switched.layers) <= MOST_SINGLE
    for layer in switched.layers:
        groups.setdefault(layer.path if single else part_of(f"{layer.path}."), []).append(layer.path)
    found = [Damage(name, tuple(paths), error(paths)) for name, paths in groups.items()]
    return tuple(sorted(found, key=lambda damage: -damage.error))


def worst_to_keep(
    switched: SwitchedLayers, damage: Sequence[Damage], samples: Iterable[Arrays], target: float
) -> set[str]:
    """The paths of the fewest of the worst layers that must stay in float for an error of at most `target`.

    The number is found by bisection, as if each one more helped. Raises PlanError where nothing would be left.
    """
    error = _Errors(switched, samples)
    everything = {layer.path for layer in switched.layers}

    def passes(count: int) -> bool:
        return error(everything - _paths(damage[:count])) <= target

    count = bisect_left(range(len(damage)), True, key=passes)
    if count == len(damage):
        raise PlanError(
            f"--quality: expected an error that int8 can keep to, got {target:g}; the mildest layer alone makes "
            f"{damage[-1].error:.2g}; allow more, or choose fp16"
        )
    return _paths(damage[:count])


def table(damage: Sequence[Damage]) -> list[str]:
    """The ranking as lines of text: rank, error, how many layers, name."""
    head = f"{'':>4} {'error':>9} {'layers':>7}  {'int8 here alone':40}"
    return [head.rstrip()] + [
        f"{number:4} {one.error:9.2e} {len(one.layers):7}  {one.name}" for number, one in enumerate(damage, 1)
    ]


class _Errors:
    """Measures sets of layers against the same graph with none in int8."""

    def __init__(self, switched: SwitchedLayers, samples: Iterable[Arrays]):
        self._switched, self._samples = switched, samples
        self._expected: list[np.ndarray] = [switched(sample, ()) for sample in samples]

    def __call__(self, paths: Collection[str]) -> float:
        return distance((self._switched(sample, paths) for sample in self._samples), self._expected)


def _paths(damage: Iterable[Damage]) -> set[str]:
    return {path for one in damage for path in one.layers}
