"""Mask-and-replace diffusion, from all masks or from given tokens: VQ-Diffusion (arXiv 2111.14822), Improved
VQ-Diffusion (arXiv 2205.16007), CDCD (arXiv 2206.07771) and Diffsound (arXiv 2207.09983)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta

from ..bundle.records import Count, Share
from ..errors import InputError
from ..inputs.option import CallContext, CallShape, Option, PreparedInputs, Shape, is_number, options_of, short
from .log_probabilities import draw, truncated
from .mask_transitions import MaskTransitions, TransitionShares, transition_shares
from .network_calls import MOST_TIMESTEPS, NetworkCallOptions, TokenCall, call_problems, chosen_calls, chosen_prior
from .reveal_priors import REVEAL_COUNTS
from .sampler import TokenRun, TokenStep, TokenWalk


class MaskReplaceOptions(NetworkCallOptions, total=False):
    """How tokens are drawn from what the network says of them."""

    truncation: Annotated[
        float | None,
        Option("number", "Draw only the likeliest tokens that have this share together.", least=0, most=1),
    ]
    untruncated: Annotated[
        bool, Option("flag", "Draw from all tokens, whatever truncation the bundle has.", default=False)
    ]


@dataclass(frozen=True, slots=True)
class MaskReplace:
    """Tokens 0 to `classes` - 1 and the mask, `classes`, over `steps` timesteps.

    Over the schedule the share of tokens that are kept, and of those that are masked, goes from the first number to the
    second; the others are replaced by any class, the mask counted among them with `mask_replaces`. `older_posterior` is
    Diffsound's. `truncation` is a run's default; with None it draws from all tokens. `strides` says whether timesteps
    may be left out, `priors` whether a prior may reveal tokens.

    Random draws: `draw`, uniform [length, classes + 1], at each network call; `select`, exponential [length], at each
    that reveals by a prior; `forward`, uniform [length, classes + 1], once where a run starts from tokens.
    """

    KEY: ClassVar[str] = "sampler"
    OUTPUTS: ClassVar[tuple[str, ...]] = ("logits",)
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(MaskReplaceOptions)

    name: Literal["mask_replace"] = field(default="mask_replace", init=False)
    classes: Count
    steps: Annotated[int, Meta(ge=2, le=MOST_TIMESTEPS)] = 100
    kept: tuple[Share, Share] = (0.99999, 0.000009)
    masked: tuple[Share, Share] = (0.000009, 0.99999)
    mask_replaces: bool = False
    older_posterior: bool = False
    truncation: Share | None = None
    strides: bool = True
    priors: bool = False

    def problems(self) -> list[str]:
        """Shares that no schedule has, and priors without counts."""
        found = []
        shares = (*self.kept, *self.masked)
        # The shares of single timesteps are ratios of these.
        if not all(0 < share < 1 for share in shares) or not all(each.all_happen for each in self._shares()):
            found.append(
                "plan: expected a schedule in which each timestep keeps, replaces and masks a share of the tokens, got "
                f"kept {list(self.kept)} and masked {list(self.masked)}"
            )
        if self.priors and self.steps not in REVEAL_COUNTS:
            found.append(f"plan: expected steps among {list(REVEAL_COUNTS)} for priors, got {self.steps}")
        return found

    def slots(self) -> tuple[str, ...]:
        return ()

    def describe(self) -> str:
        drawn = "" if self.truncation is None else f", truncation {self.truncation:g}"
        return f"mask and replace, {self.steps} timesteps{drawn}"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        if call.values["untruncated"] and call.values["truncation"] is not None:
            made.problems.append("truncation: is switched off by untruncated; give one of the two")
        made.problems += call_problems(call.values, self.steps, math.prod(call.grid), self.strides, self.priors)

    def stand_in(self) -> dict[str, Any]:
        return {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {}

    def step_count(self, run: TokenRun) -> int:
        """Network calls of a run. Raises InputError for what only the tokens at hand show to be wrong."""
        return len(self._calls(run))

    def walk(self, run: TokenRun) -> TokenWalk:
        """One step a network call; its `logits` are log-probabilities. Raises InputError as `step_count` does.

        Where the slot `start_tokens`, int64 [1 or count, length], is filled, the share `strength` of the timesteps is
        walked from these tokens.
        """
        calls, rate, prior = self._calls(run), self._rate(run.values), chosen_prior(run.values)
        schedule = MaskTransitions.of(*self._shares(), self.classes, self.older_posterior)
        tokens = self._start(run, schedule)
        for call in calls:
            log_x0 = run.predict(tokens, call.timestep)["logits"]
            if rate is not None:
                log_x0 = truncated(log_x0, rate)
            uniform = run.noise.uniform("draw", (run.length, self.classes + 1))
            if prior is not None and call.reveals:
                places = run.noise.exponential("select", (run.length,))
                tokens = prior.reveal(log_x0, tokens, call.reveals, uniform, places)
            else:
                tokens = draw(schedule.posterior(log_x0, tokens, call.posterior_timestep), uniform)
            replaced = yield TokenStep(float(call.timestep), tokens, partial(_likeliest, log_x0))
            tokens = tokens if replaced is None else replaced

    def _shares(self) -> tuple[TransitionShares, TransitionShares]:
        return transition_shares(self.kept, self.masked, self.steps, self.classes + self.mask_replaces)

    def _rate(self, values: Mapping[str, Any]) -> float | None:
        """The truncation of a run."""
        if values["untruncated"]:
            return None
        given: float | None = values["truncation"]
        return self.truncation if given is None else given

    def _calls(self, run: TokenRun) -> list[TokenCall]:
        """The network calls of a run."""
        if chosen_prior(run.values) is not None and "start_tokens" in run.slots:
            raise InputError("prior: expected masks to reveal, got tokens to start from; leave one of the two out")
        return chosen_calls(run.values, self.steps, self._begin(run))

    def _begin(self, run: TokenRun) -> int:
        """The number of timesteps to walk: all, or those from which given tokens lead."""
        if "start_tokens" not in run.slots:
            return self.steps
        strength = run.values["strength"]
        begin = int(self.steps * strength) if is_number(strength) else 0
        if not 1 <= begin <= self.steps:
            expected = f"a share of the {self.steps} timesteps, from {1 / self.steps:g} to 1"
            raise InputError(f"strength: expected {expected}, got {short(strength)}")
        return begin

    def _start(self, run: TokenRun, schedule: MaskTransitions) -> np.ndarray:
        """All masks, or given tokens as the forward process leaves them."""
        given = run.slots.get("start_tokens")
        if given is None:
            return np.full((run.count, run.length), self.classes, np.int64)
        given = given.reshape(len(given), -1)
        fits = given.shape in ((1, run.length), (run.count, run.length))
        if not fits or given.min() < 0 or given.max() >= self.classes:
            expected = f"int64 [1 or {run.count}, {run.length}] from 0 to {self.classes - 1}"
            got = f"{list(given.shape)} from {given.min(initial=0)} to {given.max(initial=0)}"
            raise InputError(f"start_tokens: expected {expected}, got {got}; encode them with this bundle")
        tokens = np.broadcast_to(given, (run.count, run.length))
        become = schedule.whole.from_tokens(tokens, self.classes, self._begin(run) - 1)
        return draw(become, run.noise.uniform("forward", (run.length, self.classes + 1)))


def _likeliest(log_x0: np.ndarray) -> np.ndarray:
    tokens: np.ndarray = log_x0.argmax(axis=-1)
    return tokens
