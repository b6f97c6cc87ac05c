"""One process that draws for hours: several threads, calls that are given up, and memory that stays where it is."""

import json
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from threading import Barrier

import numpy as np
import pytest
from PIL import Image
from x2i.runtime import load
from x2i.runtime.media.pictures import open_picture

from tests.numerics import assert_close
from tests.processes import run
from tests.runtime.many_calls import TURNS
from tests.runtime.toy import toy_pipeline

QUICK = {"steps": 2, "size": (16, 24), "sampler": "ddim"}
GROWTH = 8.0
"""Megabytes that 100 calls may add once every kind of call was made: an allocator's rounding, no picture's tensors."""
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def folders(tiny_bundle, elite_bundle, ip_adapter_bundle, fastcomposer_bundle, sound_bundle):
    return {
        "gluegen-text": tiny_bundle,
        "elite": elite_bundle,
        "ip-adapter": ip_adapter_bundle,
        "fastcomposer": fastcomposer_bundle,
        "gluegen-sound": sound_bundle,
    }


@pytest.fixture(scope="module")
def pipelines(folders):
    return {
        system: load(folder, text_bundle=folders["gluegen-text"] if system == "gluegen-sound" else None)
        for system, folder in folders.items()
    }


def test_threads_draw_what_one_thread_draws(pipelines):
    """Every call runs beside seven others, of its own system and of all, from freshly loaded pipelines too."""
    calls = [(*turn, seed) for seed in range(2) for turn in TURNS]

    def draw(call):
        system, prompt, options, seed = call
        return pipelines[system](prompt, seed=seed, **QUICK | options)

    alone = [draw(call) for call in calls]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(draw, calls * 3))
    for expected, drawn in zip(alone * 3, together, strict=True):
        assert_close(drawn.latents, expected.latents, "exact")
        assert drawn.warnings == expected.warnings and drawn.segments == expected.segments


def test_a_graph_is_opened_once_however_many_ask_first(tmp_path):
    pipeline, sessions = toy_pipeline(tmp_path / "toy")
    barrier = Barrier(8)

    def draw(_):
        barrier.wait()
        return pipeline("red apple", language="French", steps=1, sampler="ddim").latents

    with ThreadPoolExecutor(8) as pool:
        latents = list(pool.map(draw, range(8)))
    assert sessions.opened.count("translator.French") == 1
    assert all(np.array_equal(latents[0], other) for other in latents[1:])


def test_threads_that_read_files_leave_the_processs_warnings_alone(tmp_path):
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "a.png")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: open_picture(tmp_path / "a.png", "subject"), range(400)))
    assert warnings.filters == before


@pytest.mark.parametrize("turn", TURNS[:5], ids=lambda turn: turn[0])
def test_a_call_given_up_leaves_the_next_one_untouched(pipelines, turn):
    system, prompt, options = turn
    options = QUICK | options | {"steps": 4}
    expected = pipelines[system](prompt, seed=5, **options).latents
    for step in pipelines[system].steps(prompt, seed=6, **options):
        if step.index == 1:
            step.preview()
            break
    left_open = pipelines[system].steps(prompt, seed=7, **options)
    next(left_open)
    assert_close(pipelines[system](prompt, seed=5, **options).latents, expected, "exact")
    assert len(list(left_open)) == 3


def test_memory_is_flat_over_200_calls_of_mixed_systems(folders, tmp_path):
    program = Path(__file__).with_name("many_calls.py")
    words = [f"{system}={folder}" for system, folder in folders.items()]
    sizes = json.loads(run(sys.executable, program, "200", *words, cwd=tmp_path).stdout)
    assert len(sizes) == 200
    before, after = median(sizes[90:110]), median(sizes[180:])
    assert after - before < GROWTH, f"{before:.1f} MB after 100 calls, {after:.1f} MB after 200"
