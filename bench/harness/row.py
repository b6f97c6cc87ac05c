"""One contestant's turns in one case, summed up."""

import statistics
from dataclasses import dataclass

from harness.answers import Answer
from harness.closeness import Closeness
from harness.contestants import Contestant


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds: the median, the fastest and the slowest."""

    median: float
    fastest: float
    slowest: float

    def over(self, other: "Spread") -> "Spread":
        """How many times as long as `other`; at most and at least as any two of them were."""
        return Spread(self.median / other.median, self.fastest / other.slowest, self.slowest / other.fastest)


@dataclass(frozen=True, slots=True)
class Row:
    """What is reported of a contestant: `step` and `picture`, and medians of `first` (step) and `load`, in seconds.

    `failed` says why there is nothing to report; `others` are the cores that other programs kept busy before the turns.
    """

    contestant: Contestant
    step: Spread | None = None
    picture: Spread | None = None
    first: float | None = None
    load: float | None = None
    peak_bytes: int | None = None
    closeness: Closeness | None = None
    others: tuple[float, ...] = ()
    failed: str | None = None

    @property
    def counts(self) -> bool:
        """Whether its speed is that of the same picture."""
        return self.closeness is not None and self.closeness.same


def summarise(contestant: Contestant, turns: list[Answer], closeness: Closeness | None) -> Row:
    """The row of all turns together; one that failed fails the row."""
    failed = next((turn["failed"] for turn in turns if "failed" in turn), None)
    if failed is not None or not turns:
        return Row(contestant, failed=failed or "not measured")
    return Row(
        contestant,
        spread([seconds for turn in turns for seconds in turn["steps"]]) if contestant.alike else None,
        spread([turn["picture"] for turn in turns if "picture" in turn]),
        statistics.median(turn["first"] for turn in turns),
        statistics.median(turn["load"] for turn in turns),
        max(turn["peak_bytes"] for turn in turns),
        closeness,
        tuple(turn["others"] for turn in turns if "others" in turn),
    )


def spread(seconds: list[float]) -> Spread | None:
    """Median, fastest and slowest of some measurements in seconds; None where there are none."""
    return Spread(statistics.median(seconds), min(seconds), max(seconds)) if seconds else None
