"""A dance as arrays: what becomes of them, and what is refused."""

import numpy as np
import pytest
from x2i.runtime.inputs.dance import DanceInput
from x2i.runtime.inputs.option import CallContext, CallShape, PreparedInputs

DANCE = DanceInput(frames=6, features=5, video_features=4, genres=3)


def prepared(**given):
    values = {"motion": np.ones((6, 5)), "video": np.ones(4, np.float32), "genre": 2}
    made = PreparedInputs()
    DANCE.prepare(CallContext(values | given, None, None, rows=1, steps=80), made)
    return made


def test_slots():
    made = prepared()
    assert not made.problems and set(made.slots) == set(DANCE.slots())
    shapes = {name: array.shape for name, array in made.slots.items()}
    assert shapes == DANCE.shapes(CallShape((1, 1), 1, 1), {})
    assert {name: array.dtype.name for name, array in made.slots.items()} == {
        "motion": "float32",
        "video": "float32",
        "genre": "int64",
    }


@pytest.mark.parametrize("given", [{"motion": np.ones((1, 6, 5))}, {"video": np.ones((1, 1, 4))}, {"genre": 0}])
def test_axes_of_one_may_be_there(given):
    assert not prepared(**given).problems


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"motion": None}, "motion: expected an array [6, 5], which this bundle draws from, got none"),
        ({"motion": np.ones((5, 6))}, "motion: expected [6, 5], got [5, 6]"),
        ({"motion": np.ones((2, 6, 5))}, "motion: expected [6, 5], got [2, 6, 5]"),
        ({"motion": [[1.0] * 5] * 6}, "motion: expected an array of numbers [6, 5], got [[1.0"),
        ({"video": np.ones(5)}, "video: expected [4], got [5]"),
        ({"video": np.array(["a"] * 4)}, "video: expected an array of numbers [4], got <U1 [4]"),
        ({"video": np.array([1, np.nan, 1, 1])}, "video: expected finite numbers"),
        ({"genre": None}, "genre: expected a whole number from 0 to 2, got none"),
        ({"genre": 3}, "genre: expected a whole number from 0 to 2, got 3"),
        ({"genre": True}, "genre: expected a whole number from 0 to 2, got True"),
        ({"genre": -1}, "genre: expected a whole number from 0 to 2, got -1"),
    ],
)
def test_refused(given, line):
    (problem,) = prepared(**given).problems
    assert problem.startswith(line)


def test_a_stand_in_can_be_drawn():
    made = PreparedInputs()
    DANCE.prepare(CallContext(DANCE.stand_in(), None, None, rows=1, steps=80), made)
    assert not made.problems
