"""Optimum's folders without Optimum: what is written can be read back, and the same latents come of it."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from x2i.export.errors import PlanError
from x2i.export.optimum.from_optimum import import_folder, read_folder
from x2i.export.optimum.graphs import parts
from x2i.export.optimum.to_optimum import export_folder
from x2i.models.clip.tokenizer import END, START, clip_tokenizer
from x2i.models.readers.tokenizer_json import to_tokenizer_json
from x2i.runtime import load
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.manifest import Graph, Manifest, Measured
from x2i.runtime.bundle.plan import Conditioner
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.bundle.writer import file_records, new_bundle, write_manifest
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.text.prompt import TextInput
from x2i.runtime.processes.latents import SamplerChoice
from x2i.runtime.samplers.settings import SamplerSettings
from x2i.runtime.sessions.onnxruntime_cpu import OnnxRuntimeSession

from tests.made_once import made_once
from tests.numerics import assert_close

WINDOW, WORDS = 6, [START, END, "a</w>", "b</w>", "a", "b", "c", "c</w>", "ab", "abc</w>"]
LEADING = SamplerSettings(timestep_spacing="leading")
OPTIONS = {"steps": 2, "size": (32, 64), "count": 2, "seed": 5}


@pytest.fixture(scope="session")
def sd(tiny_bundle: Path) -> Path:
    """A plain Stable Diffusion: the tiny denoiser and decoder behind a text encoder that looks its tokens up."""
    return made_once("optimum-sd", lambda out: write_sd(tiny_bundle, out))


def write_sd(tiny: Path, out: Path) -> None:
    source = open_bundle(tiny, check_files=False)
    with new_bundle(out) as work:
        graphs = {}
        for name in ("projection", "denoiser", "decoder"):
            shutil.copy(source.path(f"{name}.onnx"), work)
            graphs[name] = replace(source.manifest.graphs[name], proof={})
        onnx.save(look_up(graphs["projection"].inputs[0].shape[-1]), work / "text_encoder.onnx")
        session = OnnxRuntimeSession(work / "text_encoder.onnx")
        measured = Measured(0.0, 1e-4)
        graphs["text_encoder"] = Graph("text_encoder.onnx", session.inputs, session.outputs, "fp32", measured)
        tokenizer = clip_tokenizer({word: i for i, word in enumerate(WORDS)}, [("a", "b"), ("ab", "c</w>")], "toy")
        (work / "tokenizer.json").write_text(to_tokenizer_json(tokenizer), "utf-8")
        stages = (
            GraphCall("text_encoder", {"input_ids": "input_ids"}, {"context": "context"}),
            source.manifest.plan.conditioners[0].stages[-1],
        )
        conditioner = Conditioner(stages, (TextInput("tokenizer.json", WINDOW, 1),))
        process = replace(source.manifest.plan.latents, sampler=SamplerChoice("ddim", 2))
        plan = replace(source.manifest.plan, conditioners=(conditioner,), processes=(process,), lora=None, paint=None)
        write_manifest(work, Manifest("sd", plan, graphs, file_records(work)))


def look_up(width: int) -> onnx.ModelProto:
    table = np.random.default_rng(0).standard_normal((len(WORDS), width)).astype(np.float32)
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", WINDOW])
    context = helper.make_tensor_value_info("context", TensorProto.FLOAT, ["batch", WINDOW, width])
    node = helper.make_node("Gather", ["table", "input_ids"], ["context"])
    graph = helper.make_graph([node], "look_up", [ids], [context], [numpy_helper.from_array(table, "table")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="session")
def folder(sd: Path) -> Path:
    return made_once("optimum-folder", lambda out: export_folder(sd, out))


def latents(bundle: Path, prompt: str = "abc a") -> np.ndarray:
    return load(bundle, "cpu", 1)(prompt, **OPTIONS).latents


def test_there_and_back_draws_the_same(sd: Path, folder: Path, tmp_path: Path) -> None:
    import_folder(folder, tmp_path / "back", licences=("MIT",))
    assert_close(latents(tmp_path / "back"), latents(sd), "batched-latents")
    manifest = open_bundle(tmp_path / "back").manifest
    assert manifest.plan.latents.sampler.name == "ddim" and manifest.licences == ("MIT",)
    assert manifest.plan.latents.schedule == open_bundle(sd).manifest.plan.latents.schedule
    assert np.abs(latents(tmp_path / "back") - latents(tmp_path / "back", "b")).max() > 1e-3


def test_both_ways_need_onnx_and_no_more(sd: Path, tmp_path: Path) -> None:
    """The extra `optimum` names all that the commands import beyond the base install."""
    there, back = str(tmp_path / "folder"), str(tmp_path / "back")
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnx_ir', 'onnxscript', 'transformers', 'diffusers', "
        "'safetensors', 'optimum'])); from x2i.runtime.cli import main; "
        f"main(['to-optimum', {str(sd)!r}, {there!r}], standalone_mode=False); "
        f"main(['from-optimum', {there!r}, {back!r}], standalone_mode=False)"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
    assert open_bundle(tmp_path / "back").manifest.system == "sd"


def test_external_data_of_both_graphs_goes_into_one_file(sd: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(sd, tmp_path / "sd")
    for name in ("projection", "denoiser"):
        path = tmp_path / "sd" / f"{name}.onnx"
        onnx.save(onnx.load(path), path, save_as_external_data=True, location=f"{name}.onnx.data", size_threshold=1024)
    rewritten(tmp_path / "sd")
    export_folder(tmp_path / "sd", tmp_path / "folder")
    assert (tmp_path / "folder/unet/model.onnx.data").is_file()
    import_folder(tmp_path / "folder", tmp_path / "back")
    assert_close(latents(tmp_path / "back"), latents(sd), "batched-latents")


def rewritten(bundle: Path) -> None:
    """Takes the digests of changed files into the manifest, and the data that lie outside their graphs."""
    manifest = open_bundle(bundle, check_files=False).manifest
    (bundle / "manifest.json").unlink()
    files = file_records(bundle)
    graphs = {
        name: replace(graph, data=tuple(file for file in files if file == f"{graph.file}.data"))
        for name, graph in manifest.graphs.items()
    }
    write_manifest(bundle, replace(manifest, graphs=graphs, files=files))


def test_the_graphs_are_called_as_optimum_calls_them(folder: Path) -> None:
    sessions = {
        part: OnnxRuntimeSession(folder / part / "model.onnx") for part in ("text_encoder", "unet", "vae_decoder")
    }
    names = {part: ([t.name for t in s.inputs], [t.name for t in s.outputs]) for part, s in sessions.items()}
    assert names == {
        "text_encoder": (["input_ids"], ["last_hidden_state"]),
        "unet": (["sample", "timestep", "encoder_hidden_states"], ["out_sample"]),
        "vae_decoder": (["latent_sample"], ["sample"]),
    }
    assert sessions["unet"].inputs[1].shape == ()
    for part in sessions:
        assert (folder / part / "config.json").is_file()
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    assert index["_class_name"] == "StableDiffusionPipeline" and index["scheduler"] == ["diffusers", "DDIMScheduler"]


@pytest.mark.parametrize("name", ["sample", "timestep", "encoder_hidden_states"])
def test_the_composed_graph_reacts_to_every_input(folder: Path, name: str) -> None:
    session = OnnxRuntimeSession(folder / "unet" / "model.onnx")
    width = session.inputs[2].shape[-1]
    random = np.random.default_rng(1)
    given = {
        "sample": random.standard_normal((2, 4, 8, 16), np.float32),
        "timestep": np.asarray(321, np.float32),
        "encoder_hidden_states": random.standard_normal((2, WINDOW, width), np.float32),
    }
    (before,), (after,) = (
        session(**arrays).values() for arrays in (given, given | {name: np.asarray(given[name] * 2)})
    )
    assert np.abs(after - before).max() > 1e-3


def half_unet() -> onnx.GraphProto:
    """sample * timestep + mean of the context: in float16, with the timestep as one whole number."""
    half, whole = TensorProto.FLOAT16, TensorProto.INT64
    shapes = {
        "sample": (half, ["b", 4, "h", "w"]),
        "timestep": (whole, [1]),
        "encoder_hidden_states": (half, ["b", "t", 8]),
    }
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in shapes.items()]
    output = helper.make_tensor_value_info("out_sample", half, ["b", 4, "h", "w"])
    nodes = [
        helper.make_node("Cast", ["timestep"], ["time"], to=half),
        helper.make_node("Mul", ["sample", "time"], ["scaled"]),
        helper.make_node("ReduceMean", ["encoder_hidden_states"], ["mean"], keepdims=0),
        helper.make_node("Add", ["scaled", "mean"], ["out_sample"]),
    ]
    return helper.make_graph(nodes, "half_unet", inputs, [output])


def test_our_names_take_float32_whatever_the_original_takes(tmp_path: Path) -> None:
    graph, part = half_unet(), parts(1.0, WINDOW, len(WORDS))["denoiser"]
    assert part.problems(graph, "unet") == []
    part.adapt_ends(graph)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "a.onnx")
    session = OnnxRuntimeSession(tmp_path / "a.onnx")
    assert {tensor.name: tensor.dtype for tensor in (*session.inputs, *session.outputs)} == dict.fromkeys(
        ("latents", "timestep", "encoder_hidden_states", "noise"), "float32"
    )
    latents, context = np.full((2, 4, 3, 5), 0.5, np.float32), np.full((2, 7, 8), 0.25, np.float32)
    noise = session(latents=latents, timestep=np.full(2, 3, np.float32), encoder_hidden_states=context)["noise"]
    assert_close(noise, np.full_like(noise, 1.75), "exact")


def test_what_is_no_plain_stable_diffusion_is_refused(tiny_bundle: Path, sd: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"expected plain Stable Diffusion.*Optimum has no pipeline"):
        export_folder(tiny_bundle, tmp_path / "out")
    with pytest.raises(InputError, match="expected a new folder, but it exists"):
        export_folder(sd, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_folder_of_optimums_is_refused_with_every_problem(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "folder")
    (tmp_path / "folder/unet/model.onnx").unlink()
    (tmp_path / "folder/vae_decoder/config.json").unlink()
    with pytest.raises(PlanError) as caught:
        import_folder(tmp_path / "folder", tmp_path / "out")
    assert len(caught.value.problems) == 2 and "expected unet/model.onnx, got nothing" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "sampler"),
    [
        ({"_class_name": "DDIMScheduler"}, SamplerChoice("ddim")),
        ({"_class_name": "UniPCMultistepScheduler"}, SamplerChoice("unipc", settings=LEADING)),
        ({"_class_name": "DPMSolverMultistepScheduler"}, SamplerChoice("dpmpp_2m", settings=LEADING)),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True, "timestep_spacing": "linspace"},
            SamplerChoice("dpmpp_2m_karras"),
        ),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3, "algorithm_type": "sde-dpmsolver++"},
            SamplerChoice("dpmpp_3m_sde", settings=LEADING),
        ),
    ],
)
def test_the_folders_scheduler_is_taken_over(
    folder: Path, tmp_path: Path, settings: dict, sampler: SamplerChoice
) -> None:
    shutil.copytree(folder, tmp_path / "folder")
    path = tmp_path / "folder/scheduler/scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    (tmp_path / "folder/model_index.json").unlink()
    assert read_folder(tmp_path / "folder").sampling.sampler == sampler
    import_folder(tmp_path / "folder", tmp_path / "out")
    assert open_bundle(tmp_path / "out").manifest.plan.latents.sampler == sampler


def test_a_scheduler_that_is_not_drawn_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "folder")
    path = tmp_path / "folder/model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scheduler": ["diffusers", "SASolverScheduler"]}))
    with pytest.raises(PlanError, match=r"expected a scheduler of DDIMScheduler, .*got 'SASolverScheduler'"):
        import_folder(tmp_path / "folder", tmp_path / "out")


def test_a_unet_for_inpainting_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "folder")
    path = tmp_path / "folder/unet/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"in_channels": 9, "out_channels": 4}))
    with pytest.raises(PlanError, match=r"expected one number of channels in latents, .*inpainting"):
        import_folder(tmp_path / "folder", tmp_path / "out")


def test_graphs_of_another_family_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "folder")
    path = tmp_path / "folder/unet/model.onnx"
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("text_embeds", TensorProto.FLOAT, ["batch", 8]))
    onnx.save(model, path)
    with pytest.raises(
        PlanError, match=r"expected the inputs sample, timestep, encoder_hidden_states, got .*text_embeds"
    ):
        import_folder(tmp_path / "folder", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_the_commands_refuse_in_one_line(tmp_path: Path) -> None:
    for command in ("from-optimum", "to-optimum"):
        result = CliRunner().invoke(main, [command, str(tmp_path / "none"), str(tmp_path / "out")])
        assert result.exit_code == 2 and "x2i: error: " in result.output, result.output


def test_a_place_that_cannot_be_written_is_told_in_one_line(sd: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    result = CliRunner().invoke(main, ["to-optimum", str(sd), str(tmp_path / "file" / "out")])
    assert result.exit_code == 2 and "x2i: error: " in result.output, result.output
