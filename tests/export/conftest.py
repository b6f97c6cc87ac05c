import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from x2i.export.exporter import export_bundle
from x2i.export.lower.lowered_bundle import lower
from x2i.export.lower.lowering import Lowering
from x2i.export.plan import ExportPlan

from tests.export.tune.presets import PRESETS, add
from tests.goldens import golden
from tests.made_once import made_once

QUICK = Lowering(steps=2, level=2.5)
"""Level 3 of a tiny net of random weights lies at the gate's edge, where the processor's own rounding decides."""


def golden_plan(out: Path, **changes) -> ExportPlan:
    """GlueGen's text path from the goldens' checkpoint files, as a user would name them."""
    text = golden("gluegen/multilingual")
    fields = {
        "system": "gluegen-text",
        "out": out,
        "base": str(golden("gluegen/pipeline/sd-tiny.ckpt")),
        "base_config": golden("gluegen/pipeline/config.json"),
        "parts": {
            "encoder": text / "xlmr",
            "translator:French": text / "gluenet_French_clip_overnorm_over3_noln.ckpt",
            "translator:Chinese": golden("gluegen/translators/noln_77_64_48_2_5.ckpt"),
            "tensor-norm": text / "tensor_norm.safetensors",
        },
    }
    return ExportPlan(**fields | changes)


@pytest.fixture(scope="session")
def golden_bundle() -> Path:
    reads = [golden(f"gluegen/{folder}") for folder in ("multilingual", "pipeline", "translators")]
    return made_once("golden-bundle", lambda out: export_bundle(golden_plan(out)), reads)


def lowered(tiny_bundle: Path, precision: str) -> Path:
    def make(out: Path) -> None:
        lower(tiny_bundle, out, replace(QUICK, precision={"": precision}))

    return made_once(f"lowered-{precision}", make)


@pytest.fixture(scope="session")
def int8_bundle(tiny_bundle) -> Path:
    return lowered(tiny_bundle, "int8")


@pytest.fixture(scope="session")
def half_bundle(tiny_bundle) -> Path:
    return lowered(tiny_bundle, "fp16")


@pytest.fixture(scope="session")
def preset_bundle(tiny_bundle) -> Path:
    """The tiny bundle with a preset of every kind."""

    def make(out: Path) -> None:
        shutil.copytree(tiny_bundle, out)
        for name, preset in PRESETS.items():
            add(out, name, preset)

    return made_once("presets", make)
