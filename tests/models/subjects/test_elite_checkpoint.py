"""ELITE's checkpoint files: every layout that is read, and everything that is refused."""

import gzip
import shutil
import zipfile

import pytest
import torch
from safetensors.torch import load, save_file
from x2i.models.context_attention import cross_attention_layers
from x2i.models.errors import CheckpointError
from x2i.models.random.weights import random_stable_diffusion
from x2i.models.readers.tensors import read_tensors
from x2i.models.stable_diffusion.base import read_stable_diffusion
from x2i.models.subjects.elite import GlobalMapper, LocalMapper, elite_names, read_elite, read_elite_mapper

from tests.goldens import golden

FILES = ("checkpoints/global_mapper.pt", "checkpoints/local_mapper.pt")
KINDS = {"global": GlobalMapper, "local": LocalMapper}


@pytest.fixture(scope="module")
def unet():
    return read_stable_diffusion(golden("elite/model")).unet


def published(kind: str) -> dict[str, torch.Tensor]:
    return load(gzip.decompress(golden(f"elite/checkpoints/{kind}_mapper.safetensors.gz").read_bytes()))


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_finds_its_place(kind, unet):
    tensors = torch.load(golden(f"elite/checkpoints/{kind}_mapper.pt"), weights_only=True)
    mapper, layers = read_elite_mapper(golden(f"elite/checkpoints/{kind}_mapper.pt"), kind, unet)
    assert type(mapper) is KINDS[kind] and not mapper.training
    assert (mapper.width_in, mapper.width_out, mapper.hidden, mapper.levels) == (32, 64, 1024, 5)
    for key, value in mapper.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, tensors.pop(key))
    assert list(layers) == list(cross_attention_layers(unet)) and len(layers) == 16
    for path, (key, value) in layers.items():
        name = path.replace(".", "_")
        assert torch.equal(key, tensors.pop(f"{name}_to_k.weight"))
        assert torch.equal(value, tensors.pop(f"{name}_to_v.weight"))
    assert not tensors


def test_half_precision_becomes_float32(tmp_path, unet):
    tensors = published("global")
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    save_file(tensors, tmp_path / "global.safetensors")
    layouts = (
        tmp_path / "global.safetensors",
        golden("elite/checkpoints/global_mapper.pt"),
        golden("elite/checkpoints/global_mapper.safetensors.gz"),
    )
    (first, first_layers), *others = (read_elite_mapper(path, "global", unet) for path in layouts)
    for mapper, layers in others:
        assert all(torch.equal(value, first.state_dict()[key]) for key, value in mapper.state_dict().items())
        assert all(
            torch.equal(weight, first_layers[path][i]) and weight.dtype == torch.float32
            for path, pair in layers.items()
            for i, weight in enumerate(pair)
        )


def test_all_misfits_are_listed_at_once(tmp_path, unet):
    tensors = published("local")
    lost = "mid_block_attentions_0_transformer_blocks_0_attn2_to_v.weight"
    bent = "up_blocks_1_attentions_2_transformer_blocks_0_attn2_to_k.weight"
    del tensors["mapping_patch_4.6.bias"], tensors[lost]
    tensors["mapping_2.0.weight"] = torch.ones(1024, 33)
    tensors[bent] = torch.ones(64, 65)
    tensors["mapping_5.0.weight"] = torch.ones(1024, 32)
    torch.save(tensors, tmp_path / "local.pt")
    with pytest.raises(CheckpointError) as caught:
        read_elite_mapper(tmp_path / "local.pt", "local", unet)
    headline, *lines = caught.value.problems
    assert "local.pt does not fit" in headline and "2 missing, 1 unexpected, 2 wrongly shaped" in headline
    assert sorted(line.strip() for line in lines) == sorted(
        [
            "missing mapping_patch_4.6.bias [64]",
            f"missing {lost} [64, 64]",
            "unexpected mapping_5.0.weight [1024, 32]",
            "wrong mapping_2.0.weight: expected [1024, 32], got [1024, 33]",
            f"wrong {bent}: expected [64, 64], got [64, 65]",
        ]
    )


def test_a_lost_level_is_missing_keys_not_a_smaller_mapper(tmp_path, unet):
    kept = {key: value for key, value in published("global").items() if "_4." not in key}
    torch.save(kept, tmp_path / "global.pt")
    with pytest.raises(CheckpointError, match="20 missing, 0 unexpected, 0 wrongly shaped"):
        read_elite_mapper(tmp_path / "global.pt", "global", unet)


def test_a_mapper_of_another_width_is_said_before_its_keys():
    other = random_stable_diffusion("tiny").unet
    with pytest.raises(CheckpointError) as caught:
        read_elite_mapper(golden("elite/checkpoints/global_mapper.pt"), "global", other)
    first, second, *_ = caught.value.problems
    assert "expected a mapper to the UNet's context, 48 wide, got one of width 64" in first
    assert "does not fit" in second


def test_a_base_model_instead_of_a_mapper(unet):
    path = golden("elite/model/unet/diffusion_pytorch_model.safetensors")
    with pytest.raises(CheckpointError, match=r"expected ELITE's local mapper .*got keys such as .*fix: give a local_"):
        read_elite_mapper(path, "local", unet)


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, unet):
    for name in ("global_mapper.pt", "global_mapper.safetensors.gz"):
        content = golden(f"elite/checkpoints/{name}").read_bytes()
        for share in (0.0, 0.001, 0.3, 0.9, 0.9999):
            (tmp_path / name).write_bytes(content[: int(len(content) * share)])
            with pytest.raises(CheckpointError, match=rf"{name} cannot be read"):
                read_elite_mapper(tmp_path / name, "global", unet)


def test_a_damaged_compressed_member_is_refused(tmp_path, unet):
    path = tmp_path / "global_mapper.pt"
    shutil.copy(golden("elite/checkpoints/global_mapper.pt"), path)
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.compress_size)
        assert largest.compress_type == zipfile.ZIP_DEFLATED
    content = bytearray(path.read_bytes())
    middle = largest.header_offset + largest.compress_size // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"global_mapper\.pt cannot be read"):
        read_tensors(path)


def test_names_are_the_module_paths_with_underscores(unet):
    names = elite_names(unet)
    assert names["mid_block.attentions.0.transformer_blocks.0.attn2"] == (
        "mid_block_attentions_0_transformer_blocks_0_attn2_to_k.weight",
        "mid_block_attentions_0_transformer_blocks_0_attn2_to_v.weight",
    )
    assert len(names) == 16 and all("attn1" not in name for pair in names.values() for name in pair)


def test_all_parts_together(unet):
    parts = [golden(f"elite/{name}") for name in ("model/image_encoder", *FILES)]
    elite = read_elite(*parts, unet)
    assert type(elite.global_mapper) is GlobalMapper and type(elite.local_mapper) is LocalMapper
    assert elite.vision.config.hidden_size == elite.global_mapper.width_in == elite.local_mapper.width_in
    first = next(iter(elite.global_weights))
    assert list(elite.global_weights) == list(elite.local_weights) == list(cross_attention_layers(unet))
    assert not torch.equal(elite.global_weights[first][0], elite.local_weights[first][0])


def test_problems_of_all_parts_come_at_once(tmp_path, unet):
    tensors = published("local")
    for key in list(tensors):
        if key.startswith("mapping_") and key.endswith(".0.weight"):
            tensors[key] = torch.ones(1024, 48)
    torch.save(tensors, tmp_path / "local.pt")
    with pytest.raises(CheckpointError) as caught:
        read_elite(golden("elite/model/text_encoder"), tmp_path / "absent.pt", tmp_path / "local.pt", unet)
    vision, mapper = caught.value.problems
    assert "clip_vision_model" in vision and "absent.pt: expected a file of tensors, got nothing" in mapper
    with pytest.raises(CheckpointError) as caught:
        read_elite(golden("elite/model/image_encoder"), golden(f"elite/{FILES[0]}"), tmp_path / "local.pt", unet)
    (problem,) = caught.value.problems
    assert "local.pt: expected a mapper of" in problem and "32 wide, got one that reads 48; fix:" in problem
