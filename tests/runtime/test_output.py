"""Stages of a run and their seconds; sounds as files."""

from io import BytesIO

import numpy as np
import pytest
import soundfile
from x2i.runtime.output import Sound, Timings, save_sound


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


def test_a_sound_has_the_bits_that_its_authors_write() -> None:
    samples = np.random.default_rng(5).normal(0, 0.5, 5001).astype(np.float32)
    samples[:7] = [1, -1, 1.5, -1.5, 0, 1e-7, -1e-7]
    ours, theirs = BytesIO(), BytesIO()
    save_sound(Sound(samples, 22050), ours)
    soundfile.write(theirs, samples, 22050, "PCM_24", format="WAV")
    for stream in (ours, theirs):
        stream.seek(0)
    (found, rate), (expected, _) = (soundfile.read(stream, dtype="int32") for stream in (ours, theirs))
    assert rate == 22050 and np.array_equal(found, expected)
