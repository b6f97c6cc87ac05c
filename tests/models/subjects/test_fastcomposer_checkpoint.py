"""FastComposer's checkpoint: every layout that is read, and everything that is refused."""

import json
import shutil
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from x2i.models.errors import CheckpointError
from x2i.models.random.weights import random_fastcomposer, random_stable_diffusion
from x2i.models.readers.tensors import read_tensors
from x2i.models.stable_diffusion.base import read_stable_diffusion
from x2i.models.subjects.fastcomposer import read_fastcomposer

from tests.goldens import golden, golden_arrays
from tests.numerics import assert_close

PREFIXES = ("unet.", "text_encoder.", "image_encoder.", "postfuse_module.")
NEWER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@pytest.fixture(scope="module")
def base():
    return read_stable_diffusion(golden("fastcomposer/base"))


@pytest.fixture(scope="module")
def published():
    return read_tensors(golden("fastcomposer/checkpoint/pytorch_model.bin"))


@pytest.fixture
def read(base, tmp_path):
    """Reads a dict of tensors as a file of its own, which the tensors may map for as long as they live."""
    number = count()

    def read(tensors, suffix="bin", encoder=None):
        path = tmp_path / f"{next(number)}.{suffix}"
        if suffix == "bin":
            torch.save(tensors, path)
        else:
            save_file({key: value.clone() for key, value in tensors.items()}, path)
        return read_fastcomposer(path, encoder or golden("fastcomposer/image_encoder"), base)

    return read


def states(parts):
    modules = (parts.unet, parts.text_encoder, parts.vision, parts.postfuse)
    return [(module, key, value) for module in modules for key, value in module.state_dict().items()]


def same(one, other):
    return all(torch.equal(a, b) for (_, _, a), (_, _, b) in zip(states(one), states(other), strict=True))


def refused(read, *arguments, **options):
    with pytest.raises(CheckpointError) as caught:
        read(*arguments, **options)
    return caught.value.problems


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_every_tensor_finds_its_place(base, suffix):
    path = golden(f"fastcomposer/checkpoint/pytorch_model.{suffix}")
    parts = read_fastcomposer(path, golden("fastcomposer/image_encoder"), base)
    left = {key: value for key, value in read_tensors(path).items() if not key.endswith("position_ids")}
    modules = (parts.unet, parts.text_encoder, parts.vision, parts.postfuse)
    for prefix, module in zip(PREFIXES, modules, strict=True):
        assert not module.training
        for key, value in module.state_dict().items():
            bare = key.removeprefix("text_model.").removeprefix("vision_model.")
            (name,) = [n for n in (prefix + bare, f"{prefix}vision_model.{bare}") if n in left]
            assert value.dtype == torch.float32 and torch.equal(value, left.pop(name).float())
    assert left and all(key.startswith("vae.") for key in left)
    assert parts.unet.config.sample_size == base.unet.config.sample_size


@torch.no_grad()
def test_modules_compute_what_the_authors_do(base, read, published):
    """Above all with the checkpoint's UNet: the base's is another."""
    parts, arrays = read(published), golden_arrays("fastcomposer/unet.npz")
    latents, context = (torch.from_numpy(arrays[name]) for name in ("latents", "encoder_hidden_states"))
    noise, decoy = (np.stack([u(latents, t, context).sample for t in (981, 501, 1)]) for u in (parts.unet, base.unet))
    assert_close(noise, arrays["noise_pred"], "fastcomposer-unet")
    with pytest.raises(AssertionError):
        assert_close(decoy, arrays["noise_pred"], "fastcomposer-unet")
    arrays = golden_arrays("fastcomposer/text_encoder.npz")
    text = parts.text_encoder(input_ids=torch.from_numpy(arrays["input_ids"]).long()).last_hidden_state
    assert_close(text, arrays["last_hidden_state"], "fastcomposer-stage")


def test_buffers_of_older_libraries_may_be_there_or_not(read, published):
    without = {key: value for key, value in published.items() if not key.endswith("position_ids")}
    assert len(published) - len(without) == 2
    assert same(read(published), read(without))


def test_the_vae_is_not_looked_at(read, published):
    newer, bent = {}, {}
    for key, value in published.items():
        for old, new in NEWER.items():
            key = key.replace(f".{old}.", f".{new}.") if key.startswith("vae.") else key
        newer[key] = value
        bent[key] = torch.ones(3) if key.startswith("vae.") else value
    without = {key: value for key, value in published.items() if not key.startswith("vae.")}
    expected = read(published)
    assert newer.keys() != published.keys()
    assert all(same(expected, read(tensors)) for tensors in (newer, bent, without))


def test_mixed_precisions_become_float32(read, published):
    dtypes = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    mixed = {
        key: value.to(dtypes[number % 4]) if value.is_floating_point() else value
        for number, (key, value) in enumerate(published.items())
    }
    exact = {key: value.double() if value.is_floating_point() else value for key, value in mixed.items()}
    for suffix in ("bin", "safetensors"):
        parts = read(mixed, suffix)
        assert all(value.dtype == torch.float32 for _, _, value in states(parts))
        assert same(parts, read(exact, suffix))


@pytest.mark.parametrize("projection", [True, False], ids=["whole", "vision"])
def test_of_the_encoder_the_configuration_will_do(read, published, tmp_path, projection):
    settings = json.loads(golden("fastcomposer/image_encoder/config.json").read_text())
    if not projection:
        settings = settings["vision_config"] | {"projection_dim": 64, "model_type": "clip_vision_model"}
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text(json.dumps(settings))
    assert same(read(published), read(published, encoder=tmp_path / "encoder"))


def test_all_misfits_of_all_modules_come_at_once(read, published):
    bent = dict(published)
    for prefix in PREFIXES:
        first, second = [key for key in bent if key.startswith(prefix) and not key.endswith("position_ids")][:2]
        del bent[first]
        bent[second] = torch.ones(2, 3, 5)
        bent[f"{prefix}strange"] = torch.ones(7)
    bent["optimizer.step"] = torch.ones(1)
    lines = refused(read, bent)
    assert sum("1 missing, 1 unexpected, 1 wrongly shaped" in line for line in lines) == 4
    for prefix in PREFIXES:
        assert sum(line.startswith(f"  missing {prefix}") for line in lines) == 1
        assert sum(line.startswith(f"  wrong {prefix}") and "got [2, 3, 5]" in line for line in lines) == 1
        assert f"  unexpected {prefix}strange [7]" in lines
    assert "  unexpected optimizer.step [1]" in lines
    assert len(lines) == 4 * 4 + 2


@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_absent_module_is_one_line(read, published, prefix):
    (line,) = refused(read, {key: value for key, value in published.items() if not key.startswith(prefix)})
    assert f"expected keys that begin with {prefix}, got none; fix:" in line


def test_whole_numbers_are_no_weights(read, published):
    key = "postfuse_module.mlp1.fc1.bias"
    _, line = refused(read, published | {key: torch.ones(64, dtype=torch.int64)})
    assert line == f"  wrong {key}: expected [64], got [64] torch.int64"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fastcomposer/base/unet/diffusion_pytorch_model.bin", "a UNet alone"),
        ("elite/checkpoints/global_mapper.pt", "a mapper of ELITE's"),
        ("gluegen/pipeline/sd-tiny.ckpt", "a CompVis checkpoint, which is a base"),
        ("fastcomposer/image_encoder/model.safetensors", "a CLIP"),
        ("fastcomposer/base/text_encoder/model.safetensors", "a CLIP"),
        ("fastcomposer/base/vae/diffusion_pytorch_model.safetensors", "keys such as decoder.conv_in.bias"),
    ],
)
def test_another_file_is_told_in_words(base, name, kind):
    (line,) = refused(read_fastcomposer, golden(name), golden("fastcomposer/image_encoder"), base)
    assert "expected FastComposer's whole model (keys unet.*, text_encoder.*, image_encoder.* and" in line
    assert f"got {kind}" in line and line.endswith("fix: give its pytorch_model.bin")


def test_the_postfuse_module_alone_and_an_ip_adapter_are_told(read, published):
    bare = {key.removeprefix("postfuse_module."): published[key] for key in published if key.startswith("postfuse")}
    assert "got the postfuse module alone" in refused(read, bare)[0]
    assert "got an IP-Adapter" in refused(read, {"image_proj.proj.weight": torch.ones(2)})[0]


def test_a_file_of_another_size_lists_its_shapes(base):
    encoder = golden("fastcomposer/image_encoder")
    other = random_stable_diffusion("tiny")
    lines = refused(read_fastcomposer, golden("fastcomposer/checkpoint/pytorch_model.bin"), encoder, other)
    assert "expected a CLIP that projects to the text encoder's width, 48, got one that projects to 64" in lines[0]
    assert sum("does not fit" in line for line in lines) == 3
    assert "  wrong postfuse_module.mlp1.fc1.weight: expected [48, 96], got [64, 128]" in lines


def test_a_clip_of_another_width_is_told(read, published, tmp_path):
    settings = json.loads(golden("fastcomposer/image_encoder/config.json").read_text()) | {"projection_dim": 32}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    first, second, line = refused(read, published, encoder=tmp_path)
    assert "width, 64, got one that projects to 32; fix: give the CLIP" in first and "does not fit" in second
    assert line == "  wrong image_encoder.visual_projection.weight: expected [32, 64], got [64, 64]"


def test_problems_of_both_paths_come_at_once(base, tmp_path):
    lines = refused(read_fastcomposer, tmp_path / "absent.bin", golden("fastcomposer/base/text_encoder"), base)
    assert "expected model_type 'clip_vision_model' or 'clip', got 'clip_text_model'" in lines[0]
    assert "absent.bin: expected a file of tensors, got nothing" in lines[1]
    (line,) = refused(read_fastcomposer, golden("fastcomposer/checkpoint/pytorch_model.bin"), tmp_path, base)
    assert "config.json: expected a JSON file, got No such file" in line


def test_a_folder_is_no_checkpoint(base):
    encoder, folder = golden("fastcomposer/image_encoder"), golden("fastcomposer/checkpoint")
    (line,) = refused(read_fastcomposer, folder, encoder, base)
    assert "expected a file of tensors, got a folder" in line


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(base, tmp_path, suffix, share):
    content = golden(f"fastcomposer/checkpoint/pytorch_model.{suffix}").read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(content[: int(len(content) * share)])
    encoder = golden("fastcomposer/image_encoder")
    (line,) = refused(read_fastcomposer, tmp_path / f"cut.{suffix}", encoder, base)
    assert f"cut.{suffix} cannot be read" in line


def test_code_in_a_pickle_is_not_run(base, tmp_path):
    class Evil:
        def __reduce__(self):
            return shutil.rmtree, (str(tmp_path),)

    torch.save({"unet.conv_in.bias": Evil()}, tmp_path / "evil.bin")
    refused(read_fastcomposer, tmp_path / "evil.bin", golden("fastcomposer/image_encoder"), base)
    assert (tmp_path / "evil.bin").exists()


def test_a_wrapped_state_dict_is_read(read, published):
    assert same(read(published), read({"state_dict": published}))


def test_random_weights_fit_their_base():
    base = random_stable_diffusion("tiny")
    parts = random_fastcomposer("tiny", base)
    assert parts.unet is base.unet and parts.text_encoder is base.text_encoder
    assert parts.vision.config.projection_dim == parts.postfuse.width == base.unet.config.cross_attention_dim
    again = random_fastcomposer("tiny", replace(base))
    assert same(parts, again)
    assert all(value.std() > 0 for _, _, value in states(parts) if value.numel() > 1)
