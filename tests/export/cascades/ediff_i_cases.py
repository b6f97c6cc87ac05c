"""The recorded runs of an ensemble of experts, and the bundle that draws them again."""

import json
import shutil
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models
from x2i.export.cascades.ediff_i import T5_TOKENIZER, build_ediff_i
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.models.clip.published_tokenizer import read_clip_tokenizer
from x2i.runtime.bundle.plan import Plan
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.load import load
from x2i.runtime.media.tokenizer import Tokens
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.sessions.backends import open_session

from tests.goldens import FULL, golden, golden_arrays
from tests.made_once import made_once

HOME = "ediffi/experts"
NAMES = {"clip_text": "clip-text", "t5": "t5", "clip_image": "clip-image"}
CLASSES = {"ddim": "DDIMScheduler", "dpm": "DPMSolverMultistepScheduler"}


def case_names() -> list[str]:
    path = FULL / HOME / "cases.json"
    return list(json.loads(path.read_text())) if path.is_file() else []


@cache
def contexts() -> dict[str, np.ndarray]:
    return golden_arrays(f"{HOME}/contexts.npz")


@cache
def prompts() -> tuple[str, ...]:
    """What CLIP's tokenizer reads as the recorded ids."""
    read = read_clip_tokenizer(golden(f"{HOME}/tokenizer"))
    words = Tokenizer.from_str(read.json)
    found = tuple(words.decode(row.tolist()).replace("</w>", " ").strip() for row in contexts()["clip_ids"])
    assert len(set(found)) == len(found)
    return found


class RecordedTokenizer:
    """Reads the prompts as the recorded ids of T5, whose own tokenizer is not among the goldens."""

    added: tuple[str, ...] = ()

    @property
    def window(self) -> int:
        return contexts()["t5_ids"].shape[1]

    def __call__(self, texts: list[str]) -> Tokens:
        ids, mask = (contexts()[name] for name in ("t5_ids", "t5_mask"))
        rows = [prompts().index(text) if text else None for text in texts]
        read = [np.stack([np.zeros_like(one[0]) if row is None else one[row] for row in rows]) for one in (ids, mask)]
        return Tokens(read[0], read[1], ("",) * len(texts))


@dataclass(frozen=True)
class ExpertsCase:
    """One recorded run: its settings and all arrays."""

    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def experts(self) -> list[dict[str, Any]]:
        """From the noisiest on."""
        return sorted(self.settings["experts"], key=lambda each: -each["t_from"])

    @property
    def guided(self) -> bool:
        return "eps_uncond" in self.arrays

    @property
    def removed(self) -> bool:
        return self.settings["drop_mode_cond"] == "remove"

    def options(self, row: int) -> dict[str, Any]:
        """One picture's run."""
        settings, noise = self.settings, self.arrays["initial_noise"][row : row + 1]
        found: dict[str, Any] = {
            "steps": settings["steps"],
            "guidance": settings["guidance"],
            "noise": noise,
            "without": [NAMES[name] for name in settings["dropped_cond"] if name != "clip_image"],
            "unconditional_keeps": [NAMES[name] for name in NAMES if name not in settings["dropped_uncond"]],
        }
        if "clip_image" not in settings["dropped_cond"]:
            found["style"] = contexts()["image_u8"][row]
        if settings["eta"]:
            found["eta"] = settings["eta"]
            found["noise"] = {"noise": noise[None], "step_noise": self.arrays["step_noise"][:, row : row + 1]}
        return found


def experts_case(name: str) -> ExpertsCase:
    settings = json.loads(golden(f"{HOME}/cases.json").read_text())[name]
    return ExpertsCase(settings, golden_arrays(f"{HOME}/{name}.npz"))


def write_base(folder: Path) -> None:
    """The goldens' folder with some tokenizer for T5."""
    for part in ("text_encoder", "tokenizer", "text_encoder_2", "image_encoder"):
        shutil.copytree(golden(f"{HOME}/{part}"), folder / part, copy_function=shutil.copyfile)
    shutil.copyfile(golden(f"{HOME}/context_projections.safetensors"), folder / "context_projections.safetensors")
    (folder / "tokenizer_2").mkdir()
    words = Tokenizer(models.WordLevel({"word": 0}, unk_token="word"))
    (folder / "tokenizer_2" / "tokenizer.json").write_text(words.to_str())
    stated = {"model_max_length": contexts()["t5_ids"].shape[1]}
    (folder / "tokenizer_2" / "tokenizer_config.json").write_text(json.dumps(stated))


def export_plan(case: ExpertsCase, base: Path, out: Path) -> ExportPlan:
    """What exports a run's experts with its scheduler."""
    scheduler = base / "scheduler"
    scheduler.mkdir(exist_ok=True)
    kind = CLASSES[case.settings["scheduler"].partition("_")[0]]
    written = json.dumps({"_class_name": kind, **case.settings["scheduler_config"]})
    (scheduler / "scheduler_config.json").write_text(written)
    parts = {f"expert:{each['unet'].removeprefix('unet_')}": golden(f"{HOME}/{each['unet']}") for each in case.experts}
    boundaries = tuple(float(each["t_from"]) for each in case.experts[:-1])
    return ExportPlan("ediff-i", out, str(base), parts=parts, boundaries=boundaries)


def widest() -> ExpertsCase:
    """A run with all the experts that there are."""
    return max((experts_case(name) for name in case_names()), key=lambda case: len(case.experts))


def bundle() -> Path:
    """All experts, from which the others' ensembles are made."""

    def export(out: Path) -> None:
        with TemporaryDirectory() as folder:
            write_base(Path(folder))
            export_bundle(export_plan(widest(), Path(folder), out))

    return made_once("ediffi-golden", export, [golden(HOME)])


def plan_of(case: ExpertsCase) -> Plan:
    """What an export of a run's own ensemble says; nothing is traced for it."""
    with TemporaryDirectory() as folder:
        write_base(Path(folder))
        return build_ediff_i(export_plan(case, Path(folder), Path(folder) / "out")).plan


@cache
def whole() -> Pipeline:
    return load(bundle(), "cpu")


def pipeline_of(case: ExpertsCase) -> Pipeline:
    """The bundle under the plan of a run's ensemble."""
    opened, plan = open_bundle(bundle()), plan_of(case)
    painted = opened.manifest.plan.paint
    assert painted is not None
    graphs = tuple(each for each in painted.graphs if each.graph in plan.denoisers())
    manifest = replace(opened.manifest, plan=replace(plan, paint=replace(painted, graphs=graphs)))
    assert not manifest.problems()
    own = replace(opened, manifest=manifest)
    drawing = Pipeline(own, lambda name: open_session("cpu", own.graph_file(name)), openers=0)
    drawing._conditions._conditioners = [
        (each, RecordedTokenizer() if each.text is not None and each.text.tokenizer == T5_TOKENIZER else tokenizer)
        for each, tokenizer in drawing._conditions._conditioners
    ]
    return drawing
