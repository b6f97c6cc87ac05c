"""`optimum_folders.py onnx DIFFUSERS OUT`, or `fp32`, or `fp16`, or `int8 FP32-FOLDER OUT`: what Optimum writes.

`onnx` are the graphs of Optimum's own exporter. The others are what OpenVINO GenAI reads, by optimum-intel as its
documentation tells users: its export command, and for int8 its quantizer of whole pipelines, which has NNCF quantize
weights and activations of the UNet's convolutions and products (per-channel weights, SmoothQuant, model type
transformer) and the weights alone of the other two models.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SIDE = 256
"""Pixels of the calibration's pictures, or less where the model is smaller: no more, for that takes memory."""
PROMPTS = ("a red apple on white", "a b c d")
STEPS = 4


def export_onnx(source: Path, out: Path) -> None:
    """Writes the graphs of Optimum's ONNX exporter."""
    from optimum.exporters.onnx import main_export

    main_export(source, out, task="text-to-image", library_name="diffusers", do_validation=False)


def export_openvino(precision: str, source: Path, out: Path) -> None:
    """Writes every graph and tokenizer in OpenVINO's form, weights in `precision`."""
    command = str(Path(sys.executable).with_name("optimum-cli"))
    words = ["--model", str(source), "--task", "text-to-image", "--weight-format", precision, str(out)]
    subprocess.run([command, "export", "openvino", *words], check=True)


def quantize_openvino(source: Path, out: Path) -> None:
    """Writes the pipeline `source` in int8, calibrated on every UNet call of a few short runs."""
    from optimum.intel import OVConfig, OVQuantizationConfig, OVQuantizer, OVStableDiffusionPipeline

    pipeline = OVStableDiffusionPipeline.from_pretrained(source, ov_config={"INFERENCE_PRECISION_HINT": "f32"})
    calls = calibration_calls(pipeline)
    config = OVConfig(quantization_config=OVQuantizationConfig(num_samples=len(calls)))
    OVQuantizer(pipeline).quantize(calibration_dataset=calibration_dataset(calls), ov_config=config, save_directory=out)
    for folder in ("tokenizer", "scheduler"):
        shutil.copytree(source / folder, out / folder, dirs_exist_ok=True)


def calibration_calls(pipeline: Any) -> list[Any]:
    """The inputs of the UNet's calls, as optimum-intel's own calibration collects them."""
    from optimum.intel.openvino.quantization import InferRequestWrapper

    calls: list[Any] = []
    pipeline.compile()
    side = min(SIDE, pipeline.unet.config["sample_size"] * pipeline.vae_scale_factor)
    pipeline.unet.request = InferRequestWrapper(pipeline.unet.request, calls)
    for prompt in PROMPTS:
        pipeline(prompt, num_inference_steps=STEPS, height=side, width=side)
    pipeline.unet.request = pipeline.unet.request.request
    return calls


def calibration_dataset(calls: list[Any]) -> Any:
    """The calls by the name of their model."""
    import nncf
    from optimum.intel.openvino.quantization import OVCalibrationDataset

    return OVCalibrationDataset({"unet": nncf.Dataset(calls)})


if __name__ == "__main__":
    kind, first, second = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    partial = second.with_name(f".{second.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if kind == "onnx":
        export_onnx(first, partial)
    elif kind == "int8":
        quantize_openvino(first, partial)
    else:
        export_openvino(kind, first, partial)
    partial.rename(second)
