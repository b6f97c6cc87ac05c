"""Several prompts at once: each draws what it draws alone, and its picture says so."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from x2i.runtime import load
from x2i.runtime.bundle.cfg_batch import expand_prompts, merged_prompts
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError
from x2i.runtime.media.picture_files import read_parameters

from tests.bundles import tiny
from tests.numerics import assert_close

PROMPTS, NEGATIVES = ["a red S", "a blue and rather long S of things", "S"], ["x", "", "bad y"]
OPTIONS: dict[str, Any] = {"steps": 2, "size": (24, 40)}
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8))
OWN: dict[str, dict[str, Any]] = {
    "sd": {},
    "elite": {"subject": PICTURE},
    "fastcomposer": {"subjects": [PICTURE], "marker": "S"},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("guidance", "count"), [(4.0, 1), (4.0, 2), (1.0, 3)])
@pytest.mark.parametrize("system", OWN)
def test_each_draws_what_it_draws_alone(system: str, guidance: float, count: int) -> None:
    pipeline, options = load(tiny(system), backend="cpu"), OPTIONS | OWN[system] | {"guidance": guidance}
    made = pipeline(PROMPTS, negative=NEGATIVES, count=count, seed=5, **options)
    assert made.latents is not None and len(made.latents) == len(made.images) == 3 * count
    for number, (prompt, negative) in enumerate(zip(PROMPTS, NEGATIVES, strict=True)):
        own = slice(number * count, (number + 1) * count)
        alone = pipeline(prompt, negative=negative, count=count, seed=5 + number * count, **options)
        assert alone.latents is not None
        assert_close(made.latents[own], alone.latents, "batched-latents")
        assert made.parameters[own] == alone.parameters


def test_one_negative_prompt_is_for_all() -> None:
    pipeline = load(tiny("sd"), backend="cpu")
    one, each = (pipeline(PROMPTS[:2], negative=text, **OPTIONS).latents for text in ("x", ["x", "x"]))
    assert one is not None and np.array_equal(one, each)
    assert not np.array_equal(one, pipeline(PROMPTS[:2], negative=["x", "y"], **OPTIONS).latents)


def test_the_command_line_draws_and_records_each(tmp_path: Path) -> None:
    named = ["--negative", "x", "--negative", "y", "--steps", "1", "--size", "24x40", "--backend", "cpu"]
    arguments = ["run", str(tiny("sd")), "a red S", "S", "--out", str(tmp_path / "a.png"), "--seed", "7", *named]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    records = [read_parameters(tmp_path / f"a-{number}.png") for number in (1, 2)]
    assert [record.prompt for record in records] == ["a red S", "S"]
    assert [(record.values["negative"], record.values["seed"]) for record in records] == [("x", 7), ("y", 8)]


@pytest.mark.parametrize(
    ("system", "prompts", "options", "said"),
    [
        ("sd", [], {}, "expected 1 to 1024 prompts, got 0"),
        ("sd", ["a", "b"], {"negative": ["x", "y", "z"]}, "one for each of 2 prompts, got 3"),
        ("sd", ["a", 3], {}, "prompt: expected text"),
        ("sd", ["a", "b"], {"count": 1000}, "count: expected a whole number from 1 to 1024"),
        ("sd", ["a", "b"], {"noise": np.zeros((3, 4, 6, 5), np.float32)}, "as many for each of 2 prompts, got 3"),
        ("elite", ["a S", "b"], {"subject": PICTURE}, "expected the word 'S' once"),
        ("gluegen-sound", ["a", "b"], {}, "one prompt at a time"),
    ],
)
def test_what_is_refused(system: str, prompts: list, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refused:
        load(tiny(system), backend="cpu")(prompts, **options)
    assert said in str(refused.value)


@pytest.mark.parametrize("rows", [1, 2])
def test_rows_stand_side_after_side(rows: int) -> None:
    shared, sides = np.arange(1.0), np.arange(rows) + 10.0
    parts = [{"one": shared, "sides": sides, "own": np.arange(rows) + 100.0 * prompt} for prompt in (1, 2, 3)]
    merged = merged_prompts(parts, rows)
    assert merged["one"] is shared and merged["sides"] is sides
    expected = [100.0 * prompt + side for side in range(rows) for prompt in (1, 2, 3)]
    assert expand_prompts(merged["own"], rows, rows, 3).tolist() == expected
    assert expand_prompts(merged["own"], 1, rows, 3).tolist() == expected[-3:]
    assert expand_prompts(merged["sides"], rows, rows, 3).tolist() == np.repeat(sides, 3).tolist()
    assert expand_prompts(merged["one"], rows, rows, 3).tolist() == [0.0] * 3 * rows
