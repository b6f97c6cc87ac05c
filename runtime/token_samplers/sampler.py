"""What every token sampler is to the loop."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from ..inputs.option import Input, NamedTensors
from .noise import TokenNoise

Predict = Callable[[np.ndarray, np.ndarray | int], NamedTensors]
"""(tokens int64 [count, length], timestep: of all rows, or int64 [count]) -> what the network says of them, guided.

`logits` is float32 [count, length, classes]: logits, or log-probabilities where the process guides those.
"""


@dataclass(frozen=True, slots=True)
class TokenRun:
    """One run as a sampler sees it: `count` states of `length` tokens.

    `values` holds every option of the run by its name, `slots` what inputs and conditioners left there. `grid` is
    (height, width) of the tokens, (1, length) where they are no picture.
    """

    predict: Predict
    noise: TokenNoise
    count: int
    grid: tuple[int, int]
    values: Mapping[str, Any]
    slots: NamedTensors

    @property
    def length(self) -> int:
        """Tokens of one state."""
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True, slots=True)
class TokenStep:
    """A state that was reached: `tokens`, int64 [count, length]; `likely()` gives the clean tokens that the network
    expects from here, of the same shape, as previews show them."""

    timestep: float
    tokens: np.ndarray
    likely: Callable[[], np.ndarray]


TokenWalk = Generator[TokenStep, np.ndarray | None, None]
"""The steps of a run. Tokens that are sent in take the place of the state: so two precisions are compared step by step
from the same one."""


class TokenSampler(Input, Protocol):
    """A record of the plan that walks; its options are those of a run. `prepare` finds what is wrong with them.

    `name` is its tag in a manifest, `steps` the usual number of them; its first timestep is below `steps`. It reads
    `OUTPUTS` of what the network says.
    """

    OUTPUTS: ClassVar[tuple[str, ...]]
    name: str
    steps: int

    def problems(self) -> list[str]:
        """What keeps it from walking, one line each."""

    def step_count(self, run: TokenRun) -> int:
        """How many steps a run has."""

    def walk(self, run: TokenRun) -> TokenWalk:
        """The run, from its start to the last step. It changes none of the arrays that it is given."""
