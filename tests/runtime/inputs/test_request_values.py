"""Values of every wrong type, refused in one line each and never by a traceback."""

import numpy as np
import pytest
from x2i.runtime.errors import InputError

from tests.runtime.toy import toy_pipeline


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return toy_pipeline(tmp_path_factory.mktemp("values") / "toy")[0]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"guidance": "7"}, "guidance: expected a finite number"),
        ({"guidance": 3 + 0j}, "guidance: expected a finite number"),
        ({"guidance": np.array([1.0, 2.0])}, "guidance: expected a finite number"),
        ({"size": 512}, "size: expected"),
        ({"size": (16, "24")}, "size: expected"),
        ({"sampler": ["pndm"]}, "sampler: expected"),
        ({"prompt": np.zeros(3)}, "prompt: expected text in Unicode"),
        ({"prompt": 7}, "prompt: expected text in Unicode"),
        ({"prompt": None}, "prompt: expected text, got none"),
        ({"steps": None, "seed": 1.5}, "seed: expected"),
    ],
)
def test_refused_in_one_line(pipeline, options, line):
    with pytest.raises(InputError, match=line) as refused:
        pipeline(**{"prompt": "red apple", "language": "French"} | options)
    assert len(refused.value.problems) == 1


def test_numpy_numbers_are_numbers(pipeline):
    values = {"steps": np.int64(2), "guidance": np.float32(3), "seed": np.uint8(4), "count": np.int32(1)}
    drawn = pipeline("red apple", language="French", sampler="ddim", size=(np.int64(16), 24), **values)
    plain = pipeline("red apple", language="French", sampler="ddim", size=(16, 24), steps=2, guidance=3.0, seed=4)
    assert np.array_equal(drawn.latents, plain.latents)
