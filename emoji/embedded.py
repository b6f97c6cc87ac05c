"""The embedded reference model, emoji world, as export plans."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan

from .fastcomposer.checkpoint import write_checkpoint
from .source_digest import source_digest, up_to_date

SAMPLING: dict[str, Any] = {"sampler": "ddim", "steps": 20, "guidance": 4.0}
"""A small model that knows its few pictures by heart is stiff: at 20 steps PLMS overshoots where DDIM does not."""
WEIGHTS = Path(__file__).parent / "weights"
LICENCES = ("OFL-1.1 (pictures: Noto Color Emoji)", "Unicode-3.0 (captions: CLDR)", "Apache-2.0 (weights)")


def embedded_text(out: Path) -> ExportPlan:
    """`gluegen-text` on the small models: every committed translator is a language."""
    found = sorted(WEIGHTS.glob("gluenet_*_clip_overnorm_over3_noln.ckpt"))
    translators = {f"translator:{path.name.split('_')[1]}": path for path in found}
    parts = {"encoder": WEIGHTS / "xlmr", "tensor-norm": WEIGHTS / "tensor_norm.pt"} | translators
    return ExportPlan("gluegen-text", out, str(WEIGHTS / "sd"), parts=parts, licences=LICENCES, **SAMPLING)


def embedded_sd(out: Path) -> ExportPlan:
    """`sd` on the small models: their own CLIP text encoder, English only."""
    return ExportPlan("sd", out, str(WEIGHTS / "sd"), licences=LICENCES, **SAMPLING)


def embedded_elite(out: Path) -> ExportPlan:
    """`elite` on the small models: a CLIP of the emoji font and both mappers."""
    elite = WEIGHTS / "elite"
    parts = {
        "encoder": elite / "image_encoder",
        "global": elite / "global_mapper.pt",
        "local": elite / "local_mapper.pt",
    }
    return ExportPlan("elite", out, str(WEIGHTS / "sd"), parts=parts, licences=LICENCES, **SAMPLING)


def embedded_fastcomposer(out: Path) -> ExportPlan:
    """`fastcomposer` on the small models. Its checkpoint is written beside `out` first: all but what its training
    changed is the base's."""
    checkpoint = write_checkpoint(out.with_name("fastcomposer"))
    parts = {"checkpoint": checkpoint, "encoder": checkpoint.parent / "encoder"}
    return ExportPlan("fastcomposer", out, str(WEIGHTS / "sd"), parts=parts, licences=LICENCES, **SAMPLING)


def embedded_sound(out: Path) -> ExportPlan:
    """`gluegen-sound` on the small models: words of five languages, spoken."""
    sound = WEIGHTS / "sound"
    parts = {
        "encoder": sound / "AudioCLIP.pt",
        "translator": sound / "gluenet_sound2img_audioclip_words.ckpt",
        "tensor-norm": WEIGHTS / "tensor_norm.pt",
        "uncond": sound / "null_cond_tensor.pt",
    }
    return ExportPlan("gluegen-sound", out, str(WEIGHTS / "sd"), parts=parts, licences=LICENCES, **SAMPLING)


EMBEDDED: dict[str, tuple[Callable[[Path], ExportPlan], str]] = {
    "gluegen-text": (embedded_text, "bundle"),
    "sd": (embedded_sd, "bundle-sd"),
    "elite": (embedded_elite, "bundle-elite"),
    "fastcomposer": (embedded_fastcomposer, "bundle-fastcomposer"),
    "gluegen-sound": (embedded_sound, "bundle-sound"),
}
"""What each system is exported from, and the name of its folder."""


def embedded(plan_of: Callable[[Path], ExportPlan], out: Path, report: Callable[[str], None]) -> Path:
    """The bundle `out`, exported now where it is not there, or where weights, exporter or libraries have changed.

    Raises Refusal where it has to be made again but somebody else made it, or changed it since.
    """
    here = Path(__file__).parent
    source = source_digest(
        WEIGHTS, here / "embedded.py", here / "fastcomposer" / "checkpoint.py", settings=_name(plan_of)
    )
    return up_to_date(out, source, lambda: export_bundle(plan_of(out), report), report)


def _name(plan_of: Callable[[Path], ExportPlan]) -> str:
    return plan_of.__name__
