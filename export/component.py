"""One network on its way to a graph."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

Sizes = dict[str, int]


@dataclass(frozen=True, slots=True)
class Component:
    """A module and all that its graph needs to be traced and proven.

    `example(sizes)` draws one set of inputs, in the order of the module's `forward`, for given free sizes; `free`
    names the axes that may change, input by input; `outputs` names what `forward` returns. The graph is traced at
    `trace` and proven at `proof`, two different sets of sizes, so that a size frozen by mistake fails at export. `gate`
    bounds the error against fp32 torch as a share of the output's standard deviation.
    """

    name: str
    module: nn.Module
    example: Callable[[Sizes], dict[str, Tensor]]
    outputs: tuple[str, ...]
    free: dict[str, dict[int, str]]
    trace: Sizes
    proof: Sizes
    gate: float = 1e-4
