"""Charts as numbers: what a page's template draws, in shares of a chart's width and height."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log10

Point = tuple[float, float]
Label = Callable[[float], str]
"""Writes a tick's value, such as seconds."""
LAST_TICK = 0.96
"""Share of the width behind which a label would be cut off."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A piece of a row: its length and where it begins, in shares of the row's width. `series` numbers its colour."""

    share: float
    title: str
    series: int = 1
    start: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """A name, bars on one track, the value that they come to, and a note below the name."""

    name: str
    bars: tuple[Bar, ...]
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis, in shares of its length from the left or from below."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A line, or the outline of an area: points in the unit square as SVG writes them, y downwards."""

    points: str
    series: int


@dataclass(frozen=True, slots=True)
class Plot:
    """Areas, lines over them, bands behind them, and the ticks of both axes."""

    areas: tuple[Shape, ...]
    lines: tuple[Shape, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bands: tuple[Bar, ...] = ()


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of a legend."""

    name: str
    series: int


def ticks(most: float, number: int = 4) -> list[float]:
    """Round values from 0 to below `most`, about so many."""
    if most <= 0:
        return [0.0]
    raw = most / number
    power = 10.0 ** floor(log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    return [step * i for i in range(floor(most / step + 1e-9) + 1)]


def x_ticks(most: float, label: Label) -> tuple[Tick, ...]:
    """Ticks from left to right; the last stays clear of the edge."""
    return tuple(Tick(x / most, label(x)) for x in ticks(most) if x <= LAST_TICK * most)


def y_ticks(most: float, label: Label) -> tuple[Tick, ...]:
    """Ticks from below upwards."""
    return tuple(Tick(y / most, label(y)) for y in ticks(most))


def area(lower: Sequence[Point], upper: Sequence[Point], most: Point, series: int) -> Shape:
    """What lies between two lines, both from left to right; `most` is the upper right corner."""
    return line([*lower, *reversed(upper)], most, series)


def line(points: Sequence[Point], most: Point, series: int) -> Shape:
    """A line through points; `most` is the upper right corner."""
    return Shape(" ".join(f"{x / most[0]:.5f},{1 - y / most[1]:.5f}" for x, y in points), series)
