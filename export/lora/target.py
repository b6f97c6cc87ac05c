"""The weights of a component that a LoRA may change, and the truth that its variant is proven against."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from x2i.runtime.inputs.lora import DOWN, UP, LoraLayer, Part

PROOF_RANK = 3
PROOF_STRENGTH = 0.3
"""How large a proof's changes are, as a share of weights of standard deviation 1 / sqrt(fan-in)."""


@dataclass(frozen=True, slots=True)
class LoraTarget:
    """The part of the base that a component holds, and its layers' weights [out, in, ...] by module path."""

    part: Part
    weights: Mapping[str, Tensor]

    def layers(self) -> list[LoraLayer]:
        """All of them, those with larger kernels as well."""
        return [LoraLayer(path, tuple(weight.shape)) for path, weight in self.weights.items()]


def changed_layers(module: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers of a module that a LoRA may change, by module path."""
    return {path: layer for path, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}


def module_target(part: Part, module: nn.Module) -> LoraTarget:
    """The weights of a module's linear layers and convolutions."""
    return LoraTarget(part, {path: layer.weight for path, layer in changed_layers(module).items()})


def random_factors(layers: Sequence[LoraLayer], seed: int = 11) -> dict[str, np.ndarray]:
    """Normal factors of every layer, as a graph takes them."""
    random = np.random.default_rng(seed)
    down = [random.standard_normal((each.width_in, PROOF_RANK)) * each.width_in**-0.5 for each in layers]
    up = [random.standard_normal((PROOF_RANK, each.width_out)) * PROOF_STRENGTH for each in layers]
    return {DOWN: np.concatenate(down).astype(np.float32), UP: np.concatenate(up, 1).astype(np.float32)}


@contextmanager
def with_factors(target: LoraTarget, layers: Sequence[LoraLayer], factors: Mapping[str, np.ndarray]) -> Iterator[None]:
    """Inside it, the layers' weights have what the factors add to them."""
    before = {layer.path: target.weights[layer.path].data for layer in layers}
    row = column = 0
    for layer in layers:
        down = factors[DOWN][row : row + layer.width_in].astype(np.float64)
        up = factors[UP][:, column : column + layer.width_out].astype(np.float64)
        row, column = row + layer.width_in, column + layer.width_out
        change = torch.from_numpy((down @ up).T.copy()).reshape(layer.shape)
        target.weights[layer.path].data = (before[layer.path].double() + change).float()
    try:
        yield
    finally:
        for path, weight in before.items():
            target.weights[path].data = weight
