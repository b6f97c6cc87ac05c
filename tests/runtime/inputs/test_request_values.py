"""Values of every wrong type, refused in one line each and never by a traceback."""

import numpy as np
import pytest
from x2i.runtime import load
from x2i.runtime.errors import InputError
from x2i.runtime.processes import canvas

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


HUGE = {
    "count": ({"count": 10**10}, "count: expected a whole number from 1 to 1024, got 10000000000"),
    "count of digits": ({"count": 10**6000}, "count: expected a whole number from 1 to 1024"),
    "steps": ({"steps": 10**30}, "steps: expected a whole number from 1 to"),
    "size": ({"size": (65536, 65536)}, "size: expected at most 16384 pixels a side"),
    "size of digits": ({"size": (10**6000, 8)}, "size: expected at most 16384 pixels a side"),
    "one number": ({"size": 64}, "size: expected (height, width)"),
    "flags": ({"size": (True, True)}, "size: expected (height, width)"),
    "seed": ({"seed": 2**63}, "seed: expected a whole number from 0 to"),
    "together": ({"size": (16384, 16384), "count": 1024}, "of free memory, got 1024 pictures of 16384x16384"),
}


@pytest.mark.parametrize("kind", HUGE)
def test_what_no_machine_draws_is_refused_before_anything_is_allocated(pipeline, kind):
    options, told = HUGE[kind]
    with pytest.raises(InputError) as refused:
        pipeline("pomme", **{"language": "French"} | options)
    assert told in str(refused.value) and len(refused.value.problems) == 1


def test_what_fits_the_free_memory_is_drawn(pipeline, monkeypatch):
    options = {"language": "French", "steps": 1, "size": (512, 512), "count": 2}
    monkeypatch.setattr(canvas, "SMALL_DRAWING_BYTES", 0)
    monkeypatch.setattr(canvas, "available_memory", lambda: 30 * 2 * 512 * 512 - 1)
    with pytest.raises(InputError, match="draw fewer or smaller pictures"):
        pipeline("pomme", **options)
    for free in (30 * 2 * 512 * 512, None):
        monkeypatch.setattr(canvas, "available_memory", lambda free=free: free)
        assert len(pipeline("pomme", **options).images) == 2


@pytest.mark.parametrize("threads", [0, -1, 100_000, 2**40, True, 1.5, "4"])
def test_threads_have_bounds(threads, tmp_path):
    with pytest.raises(InputError, match="threads: expected a whole number from 1 to 1024"):
        load(tmp_path, threads=threads)
