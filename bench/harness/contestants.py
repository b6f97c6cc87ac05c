"""Everything that is compared, in the order of the table."""

from dataclasses import dataclass, field, replace
from typing import Any

REFERENCE = "diffusers eager, fp32"
EULER_REFERENCE = "diffusers eager, fp32, Euler"


@dataclass(frozen=True, slots=True)
class Contestant:
    """One row: the script of a stack, the environment that runs it, and the folder that it reads.

    `reference` is the contestant whose pictures it must draw; one that is no row itself is not `shown`. `cannot` says,
    by the name of a model, why it need not be tried. `ours` are this project's rows. Steps are no figure where they are
    not `alike`, as under a preset that caches; its whole picture takes as many as the preset says. A bundle without the
    `preset` is tuned.
    """

    name: str
    peer: str
    environment: str
    folder: str = "diffusers"
    options: dict[str, Any] = field(default_factory=dict)
    sampler: str = "ddim"
    reference: str = REFERENCE
    shown: bool = True
    cannot: dict[str, str] = field(default_factory=dict)
    ours: bool = False
    alike: bool = True
    preset: str | None = None


def _diffusers(name: str, **options: Any) -> Contestant:
    return Contestant(name, "diffusers_pipeline", "diffusers", options=options)


def _genai(precision: str, folder: str, **properties: str) -> Contestant:
    options = {"properties": properties}
    return Contestant(f"OpenVINO GenAI, {precision}", "genai", "openvino-genai", f"openvino-{folder}", options)


def _sdcpp(kind: str, **options: Any) -> Contestant:
    words = ", ".join((kind, *options))
    fixed = {"emoji": "its layer sizes are those of published models, fixed in its source"}
    return Contestant(
        f"stable-diffusion.cpp, {words}",
        "sdcpp",
        "sdcpp",
        options={"type": kind, **options},
        sampler="euler",
        reference=EULER_REFERENCE,
        cannot=fixed,
    )


def _ours(
    backend: str, precision: str, preset: str | None = None, alike: bool = True, attention: str | None = None
) -> Contestant:
    folder = "bundle" if precision == "fp32" else f"bundle-{precision}"
    name = f"x2i {backend}, {precision}" + (f", preset {preset}" if preset else "")
    name += f", attention {attention}" if attention else ""
    options = {"backend": backend, "attention": attention, "preset": preset, "own_loop": not alike}
    return Contestant(name, "x2i_bundle", "x2i", folder, options, ours=True, alike=alike, preset=preset)


CONTESTANTS = (
    _diffusers(REFERENCE),
    replace(_diffusers(EULER_REFERENCE), sampler="euler", reference=EULER_REFERENCE, shown=False),
    _diffusers("diffusers eager, bf16, channels-last", dtype="bfloat16", channels_last=True),
    _diffusers("diffusers compiled, fp32", compile=True),
    _diffusers("diffusers compiled, bf16, channels-last", dtype="bfloat16", channels_last=True, compile=True),
    Contestant("optimum-onnx, fp32", "optimum_onnx", "optimum", "optimum"),
    _genai("fp32", "fp32", INFERENCE_PRECISION_HINT="f32"),
    _genai("fp32 files, its own choice of precision", "fp32"),
    _genai("int8 (NNCF)", "int8"),
    _sdcpp("f32"),
    _sdcpp("f16"),
    _sdcpp("q8_0"),
    _sdcpp("q8_0", flash=True),
    _sdcpp("q8_0", flash=True, direct=True),
    _ours("cpu", "fp32"),
    _ours("openvino", "fp32"),
    _ours("openvino", "denoiser=bf16,decoder=bf16"),
    _ours("openvino", "int8"),
    _ours("openvino", "int8,decoder=bf16"),
    _ours("openvino", "int8,decoder=bf16", attention="library"),
    _ours("openvino", "int8,decoder=bf16", attention="int8"),
    _ours("openvino", "int8,decoder=bf16", preset="thin", attention="library"),
    _ours("openvino", "int8,decoder=bf16", preset="thin"),
    _ours("openvino", "int8,decoder=bf16", preset="fast", alike=False),
)
