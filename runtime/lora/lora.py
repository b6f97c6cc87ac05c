"""A LoRA as changes of a base's layers, with everything in its file accounted for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from .alphas import AlphaSettings
from .changes import LayerChange, layer_change
from .names import LayerKey, Layers, Shape, layer_key, layer_spellings, stated_part

NO_SETTINGS = AlphaSettings()


@dataclass(frozen=True, slots=True)
class ScaledChange:
    """A layer's change and its factor, alpha by rank."""

    change: LayerChange
    scale: float

    def matrix(self, shape: Shape) -> np.ndarray:
        """The scaled change in float64, in the shape of the layer's weight."""
        return (self.change.matrix() * self.scale).reshape(shape)


@dataclass(frozen=True, slots=True)
class Lora:
    """The changes of one file by part and module path; `left_out` counts the layers of parts that the base lacks."""

    changes: dict[tuple[str, str], ScaledChange]
    left_out: dict[str, int] = field(default_factory=dict)


def read_lora(
    name: str, tensors: Mapping[str, np.ndarray], settings: Mapping[str, AlphaSettings], layers: Layers
) -> Lora:
    """The LoRA in a file's tensors, for a base of these layers; a part that is not among them is left out.

    `name` begins every message; `settings` are those of `stated_settings`. Raises InputError with every problem: no
    LoRA at all, keys that no layer has, halves that are lacking or of two ranks, the first layer of another width,
    numbers that are none, DoRA.
    """
    keys = {key: found for key in tensors if (found := layer_key(key)) is not None}
    if not any(found.role != "alpha" for found in keys.values()):
        some = ", ".join(list(tensors)[:3])
        raise InputError(
            f"{name}: expected a LoRA, with keys such as ....lora_down.weight or ....lora_A.weight, got "
            f"{f'keys such as {some}' if some else 'no tensors'}; give a LoRA's file"
        )
    names = layer_spellings(layers)
    of_layers, unknown, left_out = _by_layer(tensors, keys, names, layers)
    problems = _unknown_problems(name, tensors, unknown)
    changes: dict[tuple[str, str], ScaledChange] = {}
    wrong: list[str] = []
    for (part, path), roles in of_layers.items():
        problems += _number_problems(name, f"{part}.{path}", roles)
        if "dora" in roles:
            problems.append(
                f"{name}: {part}.{path}: expected a change that is added, got DoRA's, which scales the weight's norms; "
                "merge it into its base, and export that"
            )
            continue
        try:
            change = layer_change(roles)
        except ValueError as error:
            problems.append(f"{name}: {part}.{path}: {error}; save the LoRA again")
            continue
        if not _fits(change.shape, layers[part][path]):
            wrong.append(f"{part}.{path}: expected {list(layers[part][path])}, got {list(change.shape)}")
            continue
        changes[part, path] = ScaledChange(change, _scale(change, roles, settings.get(part, NO_SETTINGS), path))
    problems += _width_problems(name, wrong)
    if problems:
        raise InputError(*problems)
    return Lora(changes, left_out)


def _by_layer(
    tensors: Mapping[str, np.ndarray],
    keys: Mapping[str, LayerKey],
    names: Mapping[str, tuple[str, str]],
    layers: Layers,
) -> tuple[dict[tuple[str, str], dict[str, np.ndarray]], list[str], dict[str, int]]:
    """The tensors of each layer by role, the keys that belong to none, and how many layers each absent part has."""
    found: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    unknown: list[str] = []
    absent: dict[str, set[str]] = {}
    for key, array in tensors.items():
        layer, role = keys.get(key, ("", ""))
        place = names.get(layer)
        if place is not None and role not in found.get(place, {}):
            found.setdefault(place, {})[role] = array
            continue
        part = stated_part(layer)
        if place is None and part is not None and part not in layers:
            absent.setdefault(part, set()).add(layer)
        else:
            unknown.append(key)
    return found, unknown, {part: len(names) for part, names in absent.items()}


def _unknown_problems(name: str, tensors: Mapping[str, np.ndarray], unknown: list[str]) -> list[str]:
    if not unknown:
        return []
    headline = f"{name}: expected keys of layers of this base, each once, got {len(unknown)} others; give its LoRA"
    return [headline, *(f"  unknown {key} {list(tensors[key].shape)}" for key in unknown)]


def _number_problems(name: str, layer: str, roles: Mapping[str, np.ndarray]) -> list[str]:
    problems = [
        f"{name}: {layer}: expected finite numbers, got NaN or infinity in {role}; download the file again"
        for role, array in roles.items()
        if not np.isfinite(array).all()
    ]
    if "alpha" in roles and roles["alpha"].size != 1:
        problems.append(
            f"{name}: {layer}: expected one number as alpha, got {list(roles['alpha'].shape)}; save it again"
        )
    return problems


def _fits(change: Shape, weight: Shape) -> bool:
    """Whether a change is one of the weight. A kernel may have been joined to the columns of a matrix, and a matrix
    may be a kernel of one pixel."""
    columns = math.prod(change[1:]) == math.prod(weight[1:])
    return change == weight or (change[0] == weight[0] and columns and (len(change) == 2 or max(change[2:]) == 1))


def _scale(change: LayerChange, roles: Mapping[str, np.ndarray], settings: AlphaSettings, path: str) -> float:
    if change.rank is None:
        return 1.0
    if "alpha" in roles:
        return float(roles["alpha"].reshape(-1)[0]) / change.rank
    return settings.scale(path, change.rank)


def _width_problems(name: str, wrong: list[str]) -> list[str]:
    if not wrong:
        return []
    others = f", and {len(wrong) - 1} more layers differ" if len(wrong) > 1 else ""
    return [
        f"{name}: expected changes of this base's layers, got another's: {wrong[0]}{others}; give a LoRA of this base"
    ]
