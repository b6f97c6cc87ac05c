"""What goes with a LoRA beside the picture: its record, its engines' ranges, and a server that takes none."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from x2i.runtime import InputError, load
from x2i.runtime.bundle.reader import file_record, open_bundle
from x2i.runtime.engines.build_request import BuildRequest
from x2i.runtime.engines.shape_ranges import shape_ranges
from x2i.runtime.inputs.registry import run_options
from x2i.runtime.redraw.again import drawn_again
from x2i.runtime.redraw.given_files import given_files
from x2i.runtime.server.api.options import sent_options

from tests.bundles import tiny
from tests.runtime.lora.forms import written
from tests.runtime.lora.test_at_run_time import pointwise

NOISE = np.random.default_rng(5).standard_normal((1, 4, 9, 14), np.float32)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lora") / "a.safetensors"
    save_file(written("kohya", pointwise(1), alphas=True), path)
    return path


def test_a_record_has_name_weight_and_digest(file):
    expected = file_record(file).sha256
    for given in (f"{file}:0.6", (file, 0.6), [str(file) + ":0.6"]):
        (found,) = given_files(run_options()["lora"], given)
        assert (found.name, found.sha256) == ("a.safetensors:0.6", expected)


@pytest.mark.filterwarnings("ignore")
def test_a_picture_is_drawn_again_with_the_file_alone(file):
    pipeline = load(tiny("sd"), backend="cpu")
    parameters = pipeline("a cat", lora=f"{file}:0.6", steps=2, seed=3, size=(72, 112)).parameters[0]
    assert "lora" not in parameters.options.values and str(file.parent) not in str(parameters.as_json())
    with pytest.raises(InputError, match=r"what the picture was drawn from, a\.safetensors:0\.6"):
        drawn_again(parameters, pipeline.bundle, None, None, {})
    assert not drawn_again(parameters, pipeline.bundle, None, None, {"lora": [f"{file}:0.6"]}).notes
    (note,) = drawn_again(parameters, pipeline.bundle, None, None, {"lora": [f"{file}:0.7"]}).notes
    assert note.startswith("lora: expected")


def test_engines_take_ranks_up_to_the_one_asked_for():
    manifest = open_bundle(tiny("sd")).manifest
    assert not any(name.endswith(".lora") for name in shape_ranges(manifest))
    ranges = shape_ranges(manifest, lora=20)
    assert {ranges[f"{name}.lora"]["rank"] for name in ("denoiser", "projection", "text_encoder")} == {(4, 32, 32)}
    assert ranges["denoiser.lora"]["batch"] == ranges["denoiser"]["batch"]


def test_a_build_says_what_it_needs():
    bundle = open_bundle(tiny("sd"))
    with pytest.raises(InputError, match=r"denoiser\.lora takes LoRAs; add --lora"):
        BuildRequest("cpu", graphs=("denoiser.lora",)).jobs(bundle)
    names = [job.name for job in BuildRequest("cpu", lora=8).jobs(bundle)]
    assert "denoiser.lora" in names and "denoiser" in names
    assert not any(job.name.endswith(".lora") for job in BuildRequest("cpu").jobs(bundle))


def test_a_server_takes_none():
    assert "lora" not in sent_options()
