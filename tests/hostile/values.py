"""Values that nobody means: drawn by hypothesis, the same every time, and the few that must always be there."""

from functools import cache
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

CONTROL = st.characters(categories=["Cc", "Cs", "Cf", "Co"])
TEXTS = st.one_of(st.text(), st.text(CONTROL, min_size=1, max_size=8), st.from_regex(r"(\.\./)+\w+", fullmatch=True))
NUMBERS = st.one_of(st.integers(), st.floats(), st.integers(2**31, 2**80), st.integers(-(2**80), -(2**31)))
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
TREES = st.recursive(LEAVES, lambda inner: st.one_of(st.lists(inner), st.dictionaries(TEXTS, inner)), max_leaves=12)


def drawn(strategy: st.SearchStrategy[Any], count: int, number: int = 0) -> list[Any]:
    """`count` examples of a strategy, the same in every run for the same `number`."""
    found: list[Any] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found[:count]


@cache
def pool(kind: str) -> list[Any]:
    """A few hundred values of a kind: `texts`, `numbers` or `trees`."""
    return drawn({"texts": TEXTS, "numbers": NUMBERS, "trees": TREES}[kind], 300)


def some(kind: str, count: int, at: int) -> list[Any]:
    """`count` of a pool, others for another `at`."""
    values = pool(kind)
    return [values[(at * count + i) % len(values)] for i in range(count)]
