"""The expressions in which exporters write free sizes are read as sums and products, never as code."""

from typing import Any

import pytest
from x2i.runtime.bundle.calls import Tensor
from x2i.runtime.engines import shape_ranges
from x2i.runtime.errors import InputError

VALUES = {"height": 7, "batch": 2, "x.1": 5, "s0": 3}


def size_of(text: str) -> Any:
    return shape_ranges._shape_of(Tensor("x", "float32", (text,)), VALUES)[0]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("height", 7),
        ("4*height", 28),
        ("(height - 1)//2 + 1", 4),
        ("height*batch*4", 56),
        ("s0 + 2*(s0 - (batch + 1))", 3),
        ("12", 12),
        ("7 - 2 - 3", 2),
        ("64//4//2", 8),
        ("(1 - height)//2", -3),
    ],
)
def test_it_is_counted_as_python_counts(text: str, size: int) -> None:
    assert size_of(text) == size


def test_names_stand_for_their_sizes() -> None:
    assert size_of("4*height + x.1") == 33 and size_of("((((s0))))") == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "width",
        "height +",
        "* height",
        "(height",
        "height)",
        "height height",
        "height//0",
        "height**9",
        "2.5",
        "-height",
        "__import__('os').getcwd()",
        "height; 1",
        "height\x00",
        "9" * 400,
        "999999999999*999999999999",
        "(" * 10_000,
        "1+" * 10_000 + "1",
        "height if 1 else 2",
        "高*2",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_everything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match="expected a size of whole numbers") as refused:
        size_of(text)
    (line,) = refused.value.problems
    assert line.isprintable() and len(line) < 400
