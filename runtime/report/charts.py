"""Charts as HTML that stretches: shapes are SVG without text, and every word is laid out by the browser, so that a
chart of any width keeps its letters' size."""

from collections.abc import Callable, Sequence
from html import escape
from math import floor, log10

Point = tuple[float, float]


def ticks(most: float, number: int = 4) -> list[float]:
    """Round values from 0 to below `most`, about so many."""
    if most <= 0:
        return [0.0]
    raw = most / number
    power = 10.0 ** floor(log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    return [step * i for i in range(floor(most / step + 1e-9) + 1)]


def bar(share: float, title: str, series: int = 1, start: float = 0.0) -> str:
    """A piece of a row, both numbers as shares of its width."""
    place = f"left:{start * 100:.3f}%;width:{max(share, 0) * 100:.3f}%"
    return f'<i class="bar s{series}" style="{place}" title="{escape(title)}"></i>'


def row(name: str, bars: str, told: str, note: str = "") -> str:
    """A name, a track with bars, and what they come to."""
    small = f"<small>{escape(note)}</small>" if note else ""
    return (
        f'<div class="row"><b>{escape(name)}{small}</b><span class="track">{bars}</span><em>{escape(told)}</em></div>'
    )


def time_axis(most: float, label: Callable[[float], str]) -> str:
    """Ticks below rows of bars."""
    return f'<div class="row axis"><b></b><span class="track">{_across(most, label)}</span><em></em></div>'


def plot(
    shapes: str, most: Point, x_label: Callable[[float], str], y_label: Callable[[float], str], bands: str = ""
) -> str:
    """A frame with shapes drawn in the unit square, y upwards, and ticks up to `most` on both axes."""
    lines = "".join(
        f'<line x1="0" x2="1" y1="{1 - y / most[1]:.4f}" y2="{1 - y / most[1]:.4f}"/>' for y in ticks(most[1])
    )
    left = "".join(f'<span style="bottom:{y / most[1] * 100:.2f}%">{escape(y_label(y))}</span>' for y in ticks(most[1]))
    square = 'viewBox="0 0 1 1" preserveAspectRatio="none" aria-hidden="true"'
    drawing = f"<svg {square}>{bands}<g class='grid'>{lines}</g>{shapes}</svg>"
    return (
        f'<div class="plot"><div class="left">{left}</div><div class="frame">{drawing}</div>'
        f'<div class="below">{_across(most[0], x_label)}</div></div>'
    )


def area(lower: Sequence[Point], upper: Sequence[Point], most: Point, series: int) -> str:
    """Between two lines."""
    around = " ".join(_place(point, most) for point in (*lower, *reversed(upper)))
    return f'<polygon class="fill s{series}" points="{around}"/>'


def line(points: Sequence[Point], most: Point, series: int) -> str:
    return f'<polyline class="line s{series}" points="{" ".join(_place(point, most) for point in points)}"/>'


def legend(names: Sequence[tuple[str, int]]) -> str:
    return '<p class="legend">' + "".join(f'<span><i class="s{s}"></i>{escape(n)}</span>' for n, s in names) + "</p>"


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>" for cells in rows)
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def tiles(facts: Sequence[tuple[str, str, str]]) -> str:
    """What it is, the number, and what stands beside it."""
    cells = (
        f"<div><span>{escape(what)}</span><strong>{escape(number)}</strong><small>{escape(more)}</small></div>"
        for what, number, more in facts
    )
    return f'<div class="tiles">{"".join(cells)}</div>'


def _across(most: float, label: Callable[[float], str]) -> str:
    """Ticks along the x axis; the last stays clear of the edge."""
    return "".join(
        f'<u style="left:{x / most * 100:.2f}%">{escape(label(x))}</u>' for x in ticks(most) if x <= 0.96 * most
    )


def _place(point: Point, most: Point) -> str:
    return f"{point[0] / most[0]:.5f},{1 - point[1] / most[1]:.5f}"
