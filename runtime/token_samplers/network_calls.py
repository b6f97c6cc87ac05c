"""Which network calls a walk through masked tokens makes: at every timestep, at every so-many-th, or as many as it
takes to reveal the tokens of each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from ..inputs.option import Option, is_count, short
from .reveal_priors import REVEAL_COUNTS, REVEAL_LENGTH, RevealPrior, RevealRule, reveal_calls

MOST_TIMESTEPS = 10_000
SHOWN_COUNTS = 6
"""Of the numbers of steps that a message names, the nearest."""


class NetworkCallOptions(TypedDict, total=False):
    """Ways to fewer network calls, and to tokens that fit together better."""

    fast: Annotated[int | None, Option("count", "Visit every so-many-th timestep.", least=2, most=MOST_TIMESTEPS)]
    prior: Annotated[
        str | None,
        Option(
            "choice",
            "Reveal a fixed number of tokens at a time: at places drawn evenly, or by how sure the network is.",
            choices=("none", "uniform", "purity"),
        ),
    ]
    prior_weight: Annotated[
        float | None,
        Option(
            "number", "How much likelier sure tokens become, with the prior purity; 0 if left out.", least=0, most=1000
        ),
    ]
    reveals: Annotated[
        int | None,
        Option(
            "count",
            "The most tokens that a prior, uniform if left out, reveals by one network call.",
            least=1,
            most=REVEAL_LENGTH,
        ),
    ]


@dataclass(frozen=True, slots=True)
class TokenCall:
    """One network call at `timestep`. It reveals so many tokens; with none, the posterior of `posterior_timestep` is
    drawn."""

    timestep: int
    posterior_timestep: int
    reveals: int = 0


def strided_calls(timesteps: int, stride: int) -> list[TokenCall]:
    """Calls from the last of so many timesteps to the first, which is always visited.

    Source: the skipping of VQ-Diffusion's code: with skip = stride - 1 timesteps left out, the posterior is that of
    t - skip where t > skip, else of t.
    """
    skip = stride - 1
    visited = [*range(timesteps - 1, 0, -stride), 0]
    return [TokenCall(t, t - skip if t > skip else t) for t in visited]


def revealing_calls(steps: int, most: int) -> list[TokenCall]:
    """Calls that reveal at most so many tokens each."""
    return [TokenCall(timestep, timestep, number) for timestep, number in reveal_calls(steps, most)]


def chosen_prior(values: Mapping[str, Any]) -> RevealPrior | None:
    """The prior of a run; whoever names the reveals alone has the even one, as in the original."""
    if values["prior"] == "none" or (values["prior"] is None and values["reveals"] is None):
        return None
    rule: RevealRule = values["prior"] or "uniform"
    return RevealPrior(rule, values["prior_weight"] or 0.0)


def chosen_calls(values: Mapping[str, Any], steps: int, begin: int) -> list[TokenCall]:
    """The calls that a run's options mean, of a schedule of `steps` timesteps, of which `begin` are walked."""
    if chosen_prior(values) is not None:
        return revealing_calls(steps, values["reveals"] or REVEAL_LENGTH)
    return strided_calls(begin, values["fast"] or _stride(steps, values["steps"] or steps) or 1)


def call_problems(values: Mapping[str, Any], steps: int, length: int, strides: bool, priors: bool) -> list[str]:
    """What is wrong with a run's options on a schedule of `steps` timesteps and `length` tokens, one line each;
    `strides` says whether timesteps may be left out, `priors` whether tokens may be revealed by a prior."""
    found = _prior_problems(values, steps, length, priors)
    fast, prior = values["fast"], chosen_prior(values)
    if fast is not None and not strides:
        found.append(f"fast: this bundle visits all of its {steps} timesteps, got {fast}; leave it out")
    elif fast is not None and fast > steps:
        found.append(f"fast: expected at most the {steps} timesteps of this bundle, got {fast}")
    elif fast is not None and prior is not None:
        found.append("fast: leaves timesteps out, of which a prior reveals tokens; give fast or the prior")
    return found or _count_problems(values, steps, strides)


def _prior_problems(values: Mapping[str, Any], steps: int, length: int, priors: bool) -> list[str]:
    rule, weight, reveals = values["prior"], values["prior_weight"], values["reveals"]
    given = {"prior": None if rule == "none" else rule, "prior_weight": weight, "reveals": reveals}
    names = [name for name, value in given.items() if value is not None]
    if names and (length != REVEAL_LENGTH or steps not in REVEAL_COUNTS):
        return [
            f"{names[0]}: expected {REVEAL_LENGTH} tokens and {_listed(REVEAL_COUNTS)} timesteps, for which the "
            f"numbers to reveal are known, got {length} and {steps}; leave it out"
        ]
    if not priors:
        return [f"{name}: this bundle draws every token from its posterior; leave it out" for name in names]
    found = []
    if rule == "none" and reveals is not None:
        found.append("reveals: expected a prior that reveals tokens, got none; choose uniform or purity")
    prior = chosen_prior(values)
    if weight is not None and (prior is None or prior.rule != "purity"):
        found.append("prior_weight: weighs by purity; choose the prior purity, or leave it out")
    return found


def _count_problems(values: Mapping[str, Any], steps: int, strides: bool) -> list[str]:
    """A number of steps is that of the network calls, or one that some stride makes."""
    count = values["steps"]
    if count is None:
        return []
    free = strides and values["fast"] is None and chosen_prior(values) is None
    if not free:
        calls = len(chosen_calls({**values, "steps": None}, steps, steps))
        wrong = f"steps: expected {calls}, the network calls of such a run, got {short(count)}; leave steps out"
        return [] if is_count(count, MOST_TIMESTEPS) and count == calls else [wrong]
    if is_count(count, steps) and _stride(steps, count) is not None:
        return []
    known = sorted({len(strided_calls(steps, stride)) for stride in range(1, steps + 1)})
    wanted = count if is_count(count, MOST_TIMESTEPS) else steps
    near = sorted(sorted(known, key=lambda number: abs(number - wanted))[:SHOWN_COUNTS])
    return [
        f"steps: expected a number of network calls that some stride through {steps} timesteps makes, such as "
        f"{_listed(near)}, got {short(count)}"
    ]


def _stride(steps: int, count: int) -> int | None:
    """The smallest stride that makes exactly `count` calls."""
    if count < 2:
        return None
    stride = -(-(steps - 1) // (count - 1))
    return stride if len(strided_calls(steps, stride)) == count else None


def _listed(numbers: Iterable[int]) -> str:
    *head, last = map(str, numbers)
    return f"{', '.join(head)} or {last}" if head else last
