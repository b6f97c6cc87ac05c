"""What `vq-diffusion` and `cdcd` are to the runtime, and what they refuse: of a caller, and of files exchanged."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from x2i.export.errors import PlanError
from x2i.export.plan import ExportPlan
from x2i.export.system import Build
from x2i.export.systems.registry import system_spec
from x2i.export.token_systems.mask_replace import check_schedule, read_networks
from x2i.models.errors import CheckpointError
from x2i.models.token_transformers.vq_diffusion_config import read_vq_diffusion_config
from x2i.runtime.bundle.manifest import Manifest
from x2i.runtime.bundle.records import decode, encode
from x2i.runtime.errors import InputError
from x2i.runtime.request import make_request
from x2i.runtime.token_samplers.mask_replace import MaskReplace

from tests.export.token_systems.token_bundles import SYSTEMS, golden_parts
from tests.models.token_transformers.token_goldens import GoldenModel, models

MODELS = pytest.mark.parametrize("model", models("vq_diffusion", "cdcd"))
VARIANTS = ("tiny", "tiny-class", "tiny-nothing")


def build(system: str, **options: Any) -> Build:
    """The system without its graphs."""
    plan = ExportPlan(system, Path("not/there"), **options)
    spec = system_spec(system)
    spec.check(plan)
    built = spec.build(plan)
    return replace(built, plan=plan.with_defaults(built.plan))


def request(variant: str, prompt: str | None = None, system: str = "vq-diffusion", **options: Any) -> Any:
    return make_request(Manifest(system, build(system, random_weights=variant).plan, {}, {}), prompt, **options)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("system", SYSTEMS.values())
def test_a_plan_fits_its_graphs_and_comes_back_from_json(system: str, variant: str) -> None:
    built = build(system, random_weights=variant)
    names = {component.name for component in built.components}
    assert len(names) == built.count
    assert not built.plan.problems(names)
    assert decode(type(built.plan), encode(built.plan), "plan") == built.plan


def test_rows_are_nothing_and_what_is_asked_for() -> None:
    assert request("tiny-class", class_id=3, guidance=2.0).inputs.slots["class_id"].tolist() == [1000, 3]
    assert request("tiny-class", class_id=3).inputs.slots["class_id"].tolist() == [3]
    assert (request("tiny", "a cat").rows, request("tiny", "a cat", guidance=1.0).rows) == (2, 1)
    assert request("tiny-nothing").rows == 1


REFUSED = {
    r"class_id: expected a whole number from 0 to 6, got 7$": ("tiny-class", {"class_id": 7}),
    r"class_id: expected a whole number from 0 to 6, got -1$": ("tiny-class", {"class_id": -1}),
    r"class_id: expected a whole number from 0 to 6, got True$": ("tiny-class", {"class_id": True}),
    r"class_id: expected a whole number from 0 to 6, got 2\.5$": ("tiny-class", {"class_id": 2.5}),
    r"class_id: expected .*, got none; say what to draw$": ("tiny-class", {}),
    r"class_id: this bundle takes none": ("tiny", {"prompt": "a cat", "class_id": 3}),
    r"prompt: this bundle reads no text": ("tiny-nothing", {"prompt": "a cat"}),
    r"prompt: this bundle reads no text.*": ("tiny-class", {"class_id": 1, "prompt": "a cat"}),
    r"prompt: expected text, got none": ("tiny", {}),
    r"guidance: expected 1, as this system has no other, got 3; leave it out": ("tiny-nothing", {"guidance": 3.0}),
    r"language: this bundle .* takes none": ("tiny", {"prompt": "a cat", "language": "French"}),
    r"fast: this bundle visits all of its 10 timesteps": ("tiny-class", {"class_id": 1, "fast": 2}),
    r"steps: expected .*, got 7": ("tiny", {"prompt": "a cat", "steps": 7}),
    r"prior: expected 1024 tokens and .*, got 25 and 10": ("tiny", {"prompt": "a cat", "prior": "purity"}),
    r"size: expected 20x20, the only size": ("tiny", {"prompt": "a cat", "size": (16, 16)}),
    r"sampler: this bundle draws tokens, and takes none": ("tiny", {"prompt": "a cat", "sampler": "ddim"}),
    r"noise: expected draws by their names": ("tiny-nothing", {"noise": np.zeros((1, 3, 4, 4), np.float32)}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_a_bundle_does_not_draw_is_refused(message: str) -> None:
    variant, given = REFUSED[message]
    options = dict(given)
    with pytest.raises(InputError, match=message):
        request(variant, options.pop("prompt", None), **options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_cdcd_guides_nothing(variant: str) -> None:
    """Nor would it take the guidance that VQ-Diffusion has."""
    given = {"tiny": {"prompt": "a cat"}, "tiny-class": {"class_id": 1}, "tiny-nothing": {}}[variant]
    asked = request(variant, given.pop("prompt", None), "cdcd", **given)
    assert (asked.rows, asked.guidance) == (1, 1.0)
    with pytest.raises(PlanError, match="--guidance: expected 1"):
        build("cdcd", random_weights=variant, guidance=5.0)


@pytest.mark.parametrize("message", ["no --base", "checkpoint", "tokenizer", "random"])
def test_an_export_without_its_parts_is_refused(message: str) -> None:
    options, expected = {
        "no --base": ({"base": "x"}, "--base: this system is made of parts alone"),
        "checkpoint": ({}, "--part checkpoint: expected .*\n.*--part config.*\n.*--part codec"),
        "tokenizer": ({"parts": {"vae": Path(__file__)}}, "--part vae: unknown for this system"),
        "random": ({"random_weights": "sd15"}, "expected coco or "),
    }[message]
    with pytest.raises((PlanError, CheckpointError), match=expected):
        build("vq-diffusion", **options)


def swapped(model: GoldenModel, other: GoldenModel, *names: str) -> dict[str, Path]:
    """A model's parts, some of them another's."""
    return golden_parts(model) | {name: path for name, path in golden_parts(other).items() if name in names}


@MODELS
def test_a_checkpoint_says_what_it_reads(model: GoldenModel, tmp_path: Path) -> None:
    parts = golden_parts(model)
    built = build(SYSTEMS[model.system], parts=parts)
    kinds = [{each.KEY for each in conditioner.inputs} for conditioner in built.plan.conditioners]
    settings = read_vq_diffusion_config(parts["config"]).transformer
    text, classes = settings.context_width is not None, settings.class_rows is not None
    assert ({"text"} in kinds, {"class"} in kinds) == (text, classes)
    if text:
        parts.pop("tokenizer")
        with pytest.raises(PlanError, match="--part tokenizer: expected CLIP's"):
            build(SYSTEMS[model.system], parts=parts)
    else:
        parts["tokenizer"] = parts["config"]
        with pytest.raises(PlanError, match="--part tokenizer: expected none"):
            build(SYSTEMS[model.system], parts=parts)


@MODELS
@pytest.mark.parametrize("name", ["codec", "codes", "config", "checkpoint"])
def test_files_of_two_models_are_refused(model: GoldenModel, name: str) -> None:
    other = next(
        each
        for each in (parameter.values[0] for parameter in models(model.system))
        if each.folder != model.folder and (name != "codes" or "codes" in golden_parts(each))
    )
    if name == "codes" and "codes" not in golden_parts(model):
        pytest.skip("without a map of codes")
    with pytest.raises((CheckpointError, PlanError)):
        build(SYSTEMS[model.system], parts=swapped(model, other, name))


@MODELS
def test_a_codec_without_the_map_of_its_codes_is_refused(model: GoldenModel) -> None:
    parts = golden_parts(model)
    if parts.pop("codes", None) is None:
        pytest.skip("without a map of codes")
    with pytest.raises(CheckpointError, match="or the map of its codes beside it"):
        build(SYSTEMS[model.system], parts=parts)


OTHER_SCHEDULES: dict[str, Callable[[MaskReplace], MaskReplace]] = {
    "one step more": lambda sampler: replace(sampler, steps=sampler.steps + 1),
    "Diffsound's share of masks": lambda sampler: replace(sampler, masked=(9e-6, 0.9)),
    "the mask counted among the classes": lambda sampler: replace(sampler, mask_replaces=True),
}


@MODELS
@pytest.mark.parametrize("other", OTHER_SCHEDULES)
def test_another_schedule_than_the_checkpoints_is_refused(model: GoldenModel, other: str) -> None:
    parts = golden_parts(model)
    networks = read_networks(ExportPlan(SYSTEMS[model.system], Path("not/there"), parts=parts))
    settings = networks.model.transformer.settings
    sampler = MaskReplace(classes=settings.classes, steps=settings.steps)
    check_schedule(sampler, networks.model.schedule, "checkpoint")
    with pytest.raises(PlanError, match=r"checkpoint: expected the schedule of .*got another log_"):
        check_schedule(OTHER_SCHEDULES[other](sampler), networks.model.schedule, "checkpoint")


@MODELS
def test_paths_in_the_configuration_do_not_count(model: GoldenModel, tmp_path: Path) -> None:
    """Those that are released name folders of their authors' machines."""
    parts = golden_parts(model)
    moved = tmp_path / "config.yaml"
    shutil.copy(parts["config"], moved)
    text = moved.read_text(encoding="utf-8").replace("OUTPUT/pretrained_model", "/home/author/OUTPUT")
    moved.write_text(text.replace("./help_folder", "/home/author/help_folder"), encoding="utf-8")
    assert (
        build(SYSTEMS[model.system], parts=parts | {"config": moved}).plan
        == build(SYSTEMS[model.system], parts=parts).plan
    )
