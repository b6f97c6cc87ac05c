"""Stages of a run and their seconds."""

import pytest
from x2i.runtime.output import Timings


def test_stages_add_up_in_the_order_they_ran() -> None:
    timings = Timings()
    for stage in ("encode", "denoise", "denoise", "decode"):
        with timings(stage):
            pass
    seconds = timings.seconds()
    assert list(seconds) == ["encode", "denoise", "decode", "total"]
    assert seconds["total"] == pytest.approx(sum(span.seconds for span in timings.spans))


def test_a_stage_that_fails_is_closed() -> None:
    timings = Timings()
    with pytest.raises(ValueError), timings("denoise"):
        raise ValueError
    (span,) = timings.spans
    assert span.name == "denoise" and span.end >= span.start
