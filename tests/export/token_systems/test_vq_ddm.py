"""The multinomial process from its files to tokens and pictures: graph, every draw of every run, known tokens; and what
is refused."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from x2i.export.errors import PlanError
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.models.errors import CheckpointError
from x2i.runtime.errors import InputError
from x2i.runtime.load import load
from x2i.runtime.pipeline import Pipeline

from tests.bundles import tiny
from tests.goldens import found, golden, golden_arrays
from tests.made_once import made_once
from tests.numerics import assert_close
from tests.runtime.token_samplers.unid3_runs import (
    Arrays,
    as_read,
    classes_last,
    recorded_runs,
    states,
    token_run,
    uniforms,
)

FOLDER = "unid3/multinomial"
RUNS = recorded_runs(FOLDER) if found(f"{FOLDER}/config.json") else {}
ALL_RUNS = pytest.mark.parametrize("name", RUNS)


def golden_plan(out: Path, **parts: Path) -> ExportPlan:
    given = {"checkpoint": golden(f"{FOLDER}/model.pth"), "config": golden(f"{FOLDER}/config.json")}
    return ExportPlan("vq-ddm", out, parts=given | parts)


@cache
def pipeline() -> Pipeline:
    bundle = made_once("golden-vq-ddm", lambda out: export_bundle(golden_plan(out)), [golden(FOLDER)])
    return load(bundle, "cpu", threads=1)


def noise_of(run: Arrays) -> Arrays:
    draws = uniforms(run["noise_u16"])
    return {"start": draws[:1], "draw": draws[1:]}


def last_tokens(run: Arrays) -> np.ndarray:
    """What the authors' loops return: the tokens of every timestep, of which the first are the last drawn, or these."""
    return run["result"][0] if run["result"].ndim == 3 else run["result"]


def test_the_network_is_the_authors() -> None:
    arrays = golden_arrays(f"{FOLDER}/functions.npz")
    made = [
        pipeline().session("transformer")(tokens=arrays["net_ids"], timestep=np.full(len(arrays["net_ids"]), t))
        for t in arrays["net_t"]
    ]
    assert_close(classes_last(np.stack([one["logits"] for one in made])), arrays["net_logits"], "unid3-logits")


@ALL_RUNS
def test_every_draw_of_every_run_is_the_authors(name: str) -> None:
    run, read = RUNS[name], []
    count, length = run["x_in"].shape[1:]

    def predict(tokens: np.ndarray, timestep: Any) -> Arrays:
        return pipeline().session("transformer")(tokens=tokens, timestep=np.full(count, timestep))

    slots = {"known": run["known"].astype(bool), "start_tokens": run["given_tokens"]} if "known" in run else {}
    sampler = pipeline().bundle.manifest.plan.process.sampler
    left = list(states(sampler, token_run(as_read(predict, read), noise_of(run), count, length, slots=slots)))
    assert_close(np.stack(read), run["x_in"], "exact")
    drawn = run["draw_tokens"][1:].astype(np.int64)
    if slots:
        drawn = np.where(slots["known"], slots["start_tokens"], drawn)
    assert_close(np.stack(left), drawn, "exact")
    assert_close(left[-1], last_tokens(run), "exact")


@ALL_RUNS
def test_a_call_draws_the_authors_tokens(name: str) -> None:
    """Row by row, whatever is drawn beside it; known tokens where a mask says so."""
    run, grid = RUNS[name], pipeline().bundle.manifest.plan.process.grid
    for row, expected in enumerate(last_tokens(run)):
        options: dict[str, Any] = {"noise": {key: draws[:, row : row + 1] for key, draws in noise_of(run).items()}}
        if "known" in run:
            known = run["known"][row].reshape(grid).astype(bool)
            options["tokens"] = run["given_tokens"][row].reshape(grid)
            options["mask"] = np.where(known, 0, 255).astype(np.uint8)
        output = pipeline()(**options)
        assert_close(output.tokens, expected[None], "exact")
        assert not output.images and not output.texts


def refused(tmp_path: Path, **parts: Path) -> str:
    with pytest.raises((PlanError, CheckpointError)) as error:
        export_bundle(golden_plan(tmp_path / "out", **parts))
    assert not list(tmp_path.glob("out*"))
    return str(error.value)


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    codec = next(golden("unid3/checkpoint").glob("misc/taming_dvae/*.pth"))
    codes = next(golden("unid3/checkpoint").glob("misc/statistics/*.pt"))
    assert "classes of the transformer" in refused(tmp_path, codec=codec, codes=codes)
    assert "--part codes: expected the codec whose codes it maps" in refused(tmp_path, codes=codes)
    content = torch.load(golden(f"{FOLDER}/model.pth"), weights_only=True)
    content["state_dict"]["log_alpha"][2] *= 2
    torch.save(content, tmp_path / "other.pth")
    assert "got another log_alpha" in refused(tmp_path, checkpoint=tmp_path / "other.pth")


@pytest.fixture(scope="module")
def any_bundle() -> Pipeline:
    """Of random weights, with a codec."""
    return load(tiny("vq-ddm"), "cpu", threads=1)


def test_a_picture_is_completed_and_kept_outside_the_mask(any_bundle: Pipeline) -> None:
    process = any_bundle.bundle.manifest.plan.process
    height, width = process.canvas.size
    picture = np.full((height, width, 3), 90, np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2] = 255
    drawn, other = (any_bundle(image=picture, mask=mask, seed=seed) for seed in (1, 2))
    seen = any_bundle.session("image_tokens")(
        pixels=(picture.astype(np.float32) / 255 * 2 - 1).transpose(2, 0, 1)[None].copy()
    )["tokens"]
    kept = np.kron(np.arange(process.grid[0])[:, None] >= process.grid[0] // 2 + 1, np.ones(process.grid[1], bool))
    for output in (drawn, other):
        assert (output.tokens[0][kept.reshape(-1)] == seen[0][kept.reshape(-1)]).all()
        assert output.images[0].size == (width, height)
    assert (drawn.tokens != other.tokens).any()
    assert (any_bundle(seed=1).tokens != drawn.tokens).any()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"image": np.zeros((9, 9, 3), np.uint8)}, "mask: expected what is drawn anew, got none"),
        ({"mask": np.zeros((9, 9), np.uint8)}, "mask: expected a picture to complete, got none"),
        ({"guidance": 2.0}, "guidance: expected 1, as this system has no other"),
        ({"steps": 3}, "steps: expected 10, which are walked one by one, got 3"),
        ({"fast": 3}, "fast: this bundle takes none; leave it out"),
    ],
)
def test_what_cannot_be_drawn_is_told(any_bundle: Pipeline, options: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as error:
        any_bundle(**options)
    assert str(error.value).startswith(line)
