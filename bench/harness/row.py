"""One contestant's turns in one case, summed up."""

import statistics
from dataclasses import dataclass
from typing import Any

from harness.closeness import Closeness
from harness.contestants import Contestant

Facts = dict[str, Any]


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
    """`failed` says why there is nothing to report; `others` are the cores that were busy before the turns."""

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


def row(contestant: Contestant, turns: list[Facts], closeness: Closeness | None) -> Row:
    """All turns together; one that failed fails the row."""
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
    """None of nothing."""
    return Spread(statistics.median(seconds), min(seconds), max(seconds)) if seconds else None
