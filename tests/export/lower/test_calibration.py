"""What int8 is calibrated on: the calls that are kept of each run, and the sets that a user gives."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from x2i.export.lower.calibration_file import read_cases
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.errors import InputError

from tests.export.lower.denoiser_inputs import recorded


def test_calls_are_spread_over_the_schedule_and_come_again(tiny_bundle, tmp_path):
    once = recorded(tiny_bundle, tmp_path / "1", 7, runs=3)
    again, other = recorded(tiny_bundle, tmp_path / "2", 7, runs=3), recorded(tiny_bundle, tmp_path / "3", 8, runs=3)
    assert len(once) == 9 and [path.name for path in once.files] == [path.name for path in again.files]
    assert [path.name for path in once.files] != [path.name for path in other.files]
    for one, same in zip(once, again, strict=True):
        assert one.keys() == same.keys() and all(np.array_equal(one[name], same[name]) for name in one)
    times = np.array([sample["timestep"][0] for sample in once]).reshape(3, 3)
    assert (np.diff(times) < 0).all() and times[:, 0].min() > 600 and times[:, 2].max() < 400
    # Without guidance a run has one side.
    assert [len(sample["latents"]) for sample in once] == [1] * 3 + [2] * 6


def test_every_denoiser_of_a_delayed_plan_is_seen(fastcomposer_bundle, tmp_path):
    samples = list(recorded(fastcomposer_bundle, tmp_path, 0, alpha=0.5))
    assert len(samples) == 3
    keys = [next(array for name, array in sample.items() if name.startswith("key.")) for sample in samples]
    assert not np.array_equal(keys[0], keys[2])


def lines(folder: Path, *rows: object) -> Path:
    path = folder / "runs.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n", "utf-8")
    return path


def test_a_calibration_set_is_read(fastcomposer_bundle, tiny_bundle, tmp_path):
    bundle = open_bundle(tiny_bundle)
    rows = [{"prompt": "Brot", "language": "French", "seed": 3}, "", {"prompt": "x", "language": "Chinese"}]
    assert read_cases(lines(tmp_path, *rows), bundle) == [rows[0], rows[2]]
    Image.new("RGB", (20, 30), "red").save(tmp_path / "one.png")
    row = {"prompt": "a cat S", "subjects": ["one.png"], "marker": "S", "size": [64, 64]}
    (case,) = read_cases(lines(tmp_path, row), open_bundle(fastcomposer_bundle))
    assert case == row | {"subjects": [tmp_path / "one.png"]}


def test_a_calibration_set_of_the_wrong_kind_is_refused_line_by_line(tiny_bundle, tmp_path):
    bundle = open_bundle(tiny_bundle)
    refused = partial(pytest.raises, InputError)
    with refused(match="got none; add"):
        read_cases(lines(tmp_path, "", " "), bundle)
    with refused(match="check the path"):
        read_cases(tmp_path / "none.jsonl", bundle)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with refused(match=r"one JSON object a line .*got bytes that are no UTF-8 text"):
        read_cases(tmp_path / "picture.png", bundle)
    rows = [
        {"prompt": "fine", "language": "French"},
        {"prompt": "picture.png", "language": "French"},
        {"prompt": "x", "language": "French", "subject": "picture.png"},
        {"prompt": "x", "language": "French", "image": 3, "colour": "red"},
        ["x"],
        "x",
        {"prompt": 5, "language": "Klingon"},
    ]
    with refused() as raised:
        read_cases(lines(tmp_path, *rows), bundle)
    told = [problem.removeprefix(f"{tmp_path / 'runs.jsonl'}:") for problem in raised.value.problems]
    assert [problem.split(":")[0] for problem in told] == ["2", "3", "4", "4", "5", "6", "7", "7"]
    wanted = ["name of a file", "takes none", "expected an option", "file's name", "JSON object", "JSON object"]
    assert all(want in problem for want, problem in zip(wanted, told, strict=False))
