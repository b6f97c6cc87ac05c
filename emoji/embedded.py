"""The embedded reference model, emoji world, as export plans."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.runtime.lora.choice import LoraChoice

from .fastcomposer.checkpoint import write_checkpoint
from .source_digest import source_digest, up_to_date
from .tokens.written_layouts import write_muse, write_vqgan

SAMPLING: dict[str, Any] = {"sampler": "ddim", "steps": 20, "guidance": 4.0}
"""A small model that knows its few pictures by heart is stiff: at 20 steps PLMS overshoots where DDIM does not."""
TOKEN_GUIDANCE = 2.0
"""VQ-Diffusion's own 5 and aMUSEd's 10 are for networks that have seen far more prompts than they can know by heart."""
WEIGHTS = Path(__file__).parent / "weights"
LORA = WEIGHTS / "few_steps" / "pytorch_lora_weights.safetensors"
TINY_VAE = WEIGHTS / "tiny_vae"
LICENCES = ("OFL-1.1 (pictures: Noto Color Emoji)", "Unicode-3.0 (captions: CLDR)", "Apache-2.0 (weights)")


def embedded_text(out: Path) -> ExportPlan:
    """`gluegen-text` on the small models: every committed translator is a language."""
    found = sorted(WEIGHTS.glob("gluenet_*_clip_overnorm_over3_noln.ckpt"))
    translators = {f"translator:{path.name.split('_')[1]}": path for path in found}
    parts = {"encoder": WEIGHTS / "xlmr", "tensor-norm": WEIGHTS / "tensor_norm.pt"} | translators
    return ExportPlan("gluegen-text", out, str(WEIGHTS / "sd"), parts=parts, licences=LICENCES, **SAMPLING)


def embedded_t5(out: Path) -> ExportPlan:
    """`gluegen-text` on the small models behind a T5 in the place of XLM-R: English alone, under the name T5."""
    found = WEIGHTS / "t5"
    parts = {
        "encoder": found,
        "translator:T5": found / "gluenet_T5_clip_overnorm_over3_noln.ckpt",
        "tensor-norm": WEIGHTS / "tensor_norm.pt",
    }
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


def embedded_vq_diffusion(out: Path) -> ExportPlan:
    """`vq-diffusion` on the small models. Its codec is written beside `out` first: it is `muse`'s under other names."""
    found = WEIGHTS / "vq_diffusion"
    parts = {
        "checkpoint": found / "OUTPUT" / "pretrained_model" / "emoji_learnable.pth",
        "config": found / "configs" / "config.yaml",
        "codec": write_vqgan(out.with_name("vq_diffusion")),
        "tokenizer": WEIGHTS / "sd" / "tokenizer",
    }
    return ExportPlan("vq-diffusion", out, parts=parts, licences=LICENCES, guidance=TOKEN_GUIDANCE)


def embedded_muse(out: Path) -> ExportPlan:
    """`muse` on the small models. Its folder is written beside `out` first: it shares the base's text encoder."""
    folder = write_muse(out.with_name("muse"))
    return ExportPlan("muse", out, str(folder), licences=LICENCES, guidance=TOKEN_GUIDANCE)


def embedded_ddcap(out: Path) -> ExportPlan:
    """`ddcap` on the small models: the canonical English captions of the 512 scenes."""
    found = WEIGHTS / "ddcap"
    parts = {"checkpoint": found / "emoji-best.pt", "config": found / "config.json", "tokenizer": found / "gpt2"}
    return ExportPlan("ddcap", out, parts=parts, licences=LICENCES)


def embedded_few_steps_sd(out: Path) -> ExportPlan:
    """`sd` on the small models in four steps, decoded by the tiny decoder."""
    return replace(_in_few_steps(embedded_sd(out)), decoder=TINY_VAE)


def embedded_few_steps_text(out: Path) -> ExportPlan:
    """`gluegen-text` on the small models in four steps."""
    return _in_few_steps(embedded_text(out))


def embedded_few_steps_elite(out: Path) -> ExportPlan:
    """`elite` on the small models in four steps."""
    return _in_few_steps(embedded_elite(out))


def embedded_few_steps_fastcomposer(out: Path) -> ExportPlan:
    """`fastcomposer` on the small models in four steps."""
    return _in_few_steps(embedded_fastcomposer(out))


def _in_few_steps(plan: ExportPlan) -> ExportPlan:
    """A plan with the LoRA that distils its base, sampled as that wants it; previews have the tiny decoder."""
    usual = replace(plan, sampler=None, steps=None, guidance=None)
    return replace(usual, loras=(LoraChoice(LORA),), few_step="lcm", preview_decoder=TINY_VAE)


Made = dict[str, tuple[Callable[[Path], ExportPlan], str]]
EMBEDDED: Made = {
    "gluegen-text": (embedded_text, "bundle"),
    "sd": (embedded_sd, "bundle-sd"),
    "elite": (embedded_elite, "bundle-elite"),
    "fastcomposer": (embedded_fastcomposer, "bundle-fastcomposer"),
    "gluegen-sound": (embedded_sound, "bundle-sound"),
    "vq-diffusion": (embedded_vq_diffusion, "bundle-vq-diffusion"),
    "muse": (embedded_muse, "bundle-muse"),
    "ddcap": (embedded_ddcap, "bundle-ddcap"),
}
"""What each system is exported from, and the name of its folder."""
OTHER_ENCODERS: Made = {"gluegen-text": (embedded_t5, "bundle-t5")}
"""The same behind an encoder that is not its authors'."""
FEW_STEPS: Made = {
    "sd": (embedded_few_steps_sd, "bundle-few-steps-sd"),
    "gluegen-text": (embedded_few_steps_text, "bundle-few-steps"),
    "elite": (embedded_few_steps_elite, "bundle-few-steps-elite"),
    "fastcomposer": (embedded_few_steps_fastcomposer, "bundle-few-steps-fastcomposer"),
}
"""The same for those systems that are drawn in few steps, too."""


def embedded(plan_of: Callable[[Path], ExportPlan], out: Path, report: Callable[[str], None]) -> Path:
    """The bundle `out`, exported now where it is not there, or where weights, exporter or libraries have changed.

    Raises Refusal where it has to be made again but somebody else made it, or changed it since.
    """
    here = Path(__file__).parent
    writers = here / "fastcomposer" / "checkpoint.py", here / "tokens" / "written_layouts.py"
    source = source_digest(WEIGHTS, here / "embedded.py", *writers, settings=_name(plan_of))
    return up_to_date(out, source, lambda: export_bundle(plan_of(out), report), report)


def embedded_bundle(system: str, folder: Path, report: Callable[[str], None], made: Made = EMBEDDED) -> Path:
    """The bundle of a system in its own folder below `folder`, as `embedded` makes it; `made` says of what."""
    plan_of, name = made[system]
    return embedded(plan_of, folder / name, report)


def _name(plan_of: Callable[[Path], ExportPlan]) -> str:
    return plan_of.__name__
