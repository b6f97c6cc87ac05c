"""All words at once, the surest first: how DDCap reveals a caption (arXiv 2211.11694)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, TypedDict

import numpy as np

from ..bundle.records import Count, Index
from ..errors import InputError
from ..inputs.option import CallContext, CallShape, Option, PreparedInputs, Shape, is_count, options_of, short
from .sampler import TokenRun, TokenStep, TokenWalk


class BestFirstOptions(TypedDict, total=False):
    """How long a text is."""

    length: Annotated[
        int | None,
        Option(
            "count",
            "Tokens of the caption, its end among them; the picture decides if left out.",
            checked_by_input=True,
        ),
    ]


@dataclass(frozen=True, slots=True)
class BestFirst:
    """Reveals the tokens that the network is surest of; nothing is random, and what is revealed stays.

    A text has as many tokens as the slot `length_logits`, float32 [1 or count, most], says, or the option `length`:
    what lies behind it stays the mask. Where the longest of a run fits into the `timesteps` of the diffusion, every
    call reveals one token; else there are as many calls as timesteps, and each row has its quota in each. `mask_id`
    stands for what is not revealed; `first_timestep` is that of the first call where one token is revealed a call: the
    last of 20, whatever `timesteps` are, as its authors wrote it. `predict` gives guided log-probabilities.
    """

    KEY: ClassVar[str] = "sampler"
    OUTPUTS: ClassVar[tuple[str, ...]] = ("logits",)
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(BestFirstOptions)

    name: Literal["best_first"] = field(default="best_first", init=False)
    timesteps: Count
    most: Count
    mask_id: Index
    first_timestep: Index = 19

    @property
    def steps(self) -> int:
        """One more than the highest timestep of any run."""
        return max(self.timesteps, self.first_timestep + 1)

    def problems(self) -> list[str]:
        """None: it walks with any numbers."""
        return []

    def slots(self) -> tuple[str, ...]:
        return ()

    def describe(self) -> str:
        return f"best first, up to {self.most} tokens in up to {self.timesteps} calls"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        made.problems += [
            f"{name}: {why}; leave it out"
            for name, why in (("steps", "the caption's length decides"), ("noise", "nothing is drawn at random here"))
            if call.values[name] is not None
        ]
        length = call.values["length"]
        if length is not None and not is_count(length, self.most):
            made.problems.append(
                f"length: expected a whole number of tokens from 1 to {self.most}, got {short(length)}; leave it out "
                "and the picture decides"
            )

    def stand_in(self) -> dict[str, Any]:
        # Of two precisions, one might see another length in a picture that shows nothing.
        return {"length": self.most}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {}

    def step_count(self, run: TokenRun) -> int:
        """As many as the longest text has tokens, at most one a timestep."""
        return min(int(self.lengths(run).max()), self.timesteps)

    def lengths(self, run: TokenRun) -> np.ndarray:
        """The tokens of each text, int64 [count]: as many as asked for, or as are likeliest for the picture.

        Raises InputError where neither says it.
        """
        if (length := run.values["length"]) is not None:
            return np.full(run.count, length, np.int64)
        logits = run.slots.get("length_logits", np.empty(0))
        if logits.shape not in ((1, self.most), (run.count, self.most)):
            expected = f"length_logits of {self.most} lengths from the picture, got {list(logits.shape)}"
            raise InputError(f"length: expected {expected}; give length, or export the bundle again")
        return np.broadcast_to(logits.argmax(axis=-1) + 1, (run.count,))

    def walk(self, run: TokenRun) -> TokenWalk:
        """The run; a step's `timestep` is the highest of its rows'."""
        lengths = self.lengths(run)
        inside = np.arange(run.length) < lengths[:, None]
        tokens = np.full(inside.shape, self.mask_id, np.int64)
        for timesteps, quotas in zip(*self._schedule(lengths), strict=True):
            open_places = inside & (tokens == self.mask_id)
            said = run.predict(tokens, timesteps)["logits"][open_places]
            probabilities = np.exp(said)
            likely, sureness = tokens.copy(), np.full(tokens.shape, -1, np.float32)
            likely[open_places] = probabilities.argmax(axis=-1)
            sureness[open_places] = peak_of_softmax(probabilities)
            tokens = np.where(open_places & _best(sureness, quotas), likely, tokens)
            sent = yield TokenStep(float(timesteps.max()), tokens, partial(np.copy, likely))
            tokens = tokens if sent is None else sent

    def _schedule(self, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The timestep and the number of tokens to reveal of every row at every call, int64 [calls, count].

        The quotas are of whole numbers. The authors' are of float32 and the same for all lengths up to 20, save for 13
        tokens in 11 calls: theirs lose the last token there.
        """
        longest, all_timesteps = int(lengths.max()), self.timesteps
        if longest <= all_timesteps:
            calls = np.arange(longest)[:, None]
            # A row that is complete has nothing left to reveal, and goes along at timestep 0.
            timesteps = np.maximum((lengths - calls) * all_timesteps // lengths, 0)
            timesteps[0] = self.first_timestep
            return timesteps, np.ones_like(timesteps)
        calls = np.arange(all_timesteps)[:, None]
        quotas = (calls + 1) * lengths // all_timesteps - calls * lengths // all_timesteps
        return np.repeat(all_timesteps - 1 - calls, len(lengths), axis=1), quotas


def peak_of_softmax(probabilities: np.ndarray) -> np.ndarray:
    """The largest entry of the softmax of float32 probabilities [..., K]: the authors order positions by it."""
    most = probabilities.max(axis=-1, keepdims=True)
    return 1 / np.exp(probabilities - most).sum(axis=-1)


def _best(sureness: np.ndarray, quotas: np.ndarray) -> np.ndarray:
    """Which places of each row [B, N] are among its `quotas` surest; of equally sure ones the first."""
    ranks = np.argsort(np.argsort(-sureness, axis=-1, kind="stable"), axis=-1, kind="stable")
    return ranks < quotas[:, None]
