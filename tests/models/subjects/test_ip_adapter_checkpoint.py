"""What IP-Adapter's reader refuses, and that it lists everything at once."""

import pytest
import torch
from x2i.models.errors import CheckpointError
from x2i.models.readers.tensors import read_tensors
from x2i.models.subjects.ip_adapter_checkpoint import ip_adapter_numbers, read_ip_adapter

from tests.models.subjects.ip_adapter_files import base_unet, published, tower, write


def read(path):
    return read_ip_adapter(path, base_unet(), tower())


def test_numbers_are_places_among_all_attention_processors():
    numbers = ip_adapter_numbers(base_unet())
    names = list(base_unet().attn_processors)
    assert len(numbers) * 2 == len(names)
    for path, number in numbers.items():
        assert number % 2 == 1 and names[number] == f"{path}.processor"


def test_half_precision_becomes_float32(tmp_path):
    halves = {name: {k: v.half() for k, v in tensors.items()} for name, tensors in published().items()}
    adapter = read(write(tmp_path / "ip.bin", halves))
    assert {value.dtype for pair in adapter.weights.values() for value in pair} == {torch.float32}
    weight = adapter.projection.proj.weight
    assert weight.dtype == torch.float32 and torch.equal(weight, halves["image_proj"]["proj.weight"].float())
    assert not adapter.projection.training


@pytest.mark.parametrize("plus", [False, True], ids=["plain", "plus"])
def test_all_misfits_are_listed_at_once(tmp_path, plus):
    sections = published(plus)
    lost, bent = ("layers.2.0.to_kv.weight", "layers.1.1.0.bias") if plus else ("norm.bias", "proj.bias")
    del sections["image_proj"][lost], sections["ip_adapter"]["3.to_v_ip.weight"]
    sections["image_proj"][bent] = torch.ones(7)
    sections["ip_adapter"]["2.to_k_ip.weight"] = torch.ones(3)
    sections["extra"] = torch.ones(2)
    with pytest.raises(CheckpointError) as caught:
        read(write(tmp_path / "ip.bin", sections))
    assert "2 missing, 2 unexpected, 1 wrongly shaped" in caught.value.problems[0]
    text = "\n".join(caught.value.problems)
    for line in (
        f"missing image_proj.{lost}",
        "missing ip_adapter.3.to_v_ip.weight",
        "unexpected ip_adapter.2.to_k_ip.weight [3]",
        "unexpected extra [2]",
        f"wrong image_proj.{bent}: expected",
    ):
        assert line in text


@pytest.mark.parametrize("plus", [False, True], ids=["plain", "plus"])
def test_no_lost_or_bent_tensor_goes_unnoticed(tmp_path, plus):
    for section, tensors in published(plus).items():
        for name, value in tensors.items():
            for left in ({}, {name: torch.ones(())}, {name: value[..., None]}, {name: value[:-1]}):
                sections = published(plus)
                sections[section] = {k: v for k, v in tensors.items() if k != name} | left
                with pytest.raises(CheckpointError):
                    read(write(tmp_path / "ip.bin", sections))


def test_another_base_model_and_another_tower(tmp_path):
    sections = published()
    sections["image_proj"] = {
        "proj.weight": torch.ones(4 * 2048, 21),
        "proj.bias": torch.ones(4 * 2048),
        "norm.weight": torch.ones(2048),
        "norm.bias": torch.ones(2048),
    }
    with pytest.raises(CheckpointError) as caught:
        read(write(tmp_path / "ip.bin", sections))
    first, second = caught.value.problems
    assert "the UNet's context, 48 wide, got one of width 2048 (Stable Diffusion XL); fix:" in first
    assert "the vision tower's features, 20 wide, got one that reads 21; fix: give the image encoder" in second


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        ("image_proj.proj.2.weight", "FaceID"),
        ("ip_adapter.0.to_q_lora.down.weight", "FaceID"),
        ("image_proj.perceiver_resampler.proj_in.weight", "FaceID Plus"),
        ("image_proj.proj.3.weight", "its full-face variant"),
    ],
)
def test_relatives_are_refused_by_name(tmp_path, mark, name):
    section, _, key = mark.partition(".")
    sections = published()
    sections[section][key] = torch.ones(2, 2)
    for layout in ("bin", "safetensors"):
        with pytest.raises(CheckpointError, match=rf"got {name}; fix: give ip-adapter_sd15 or ip-adapter-plus_sd15"):
            read(write(tmp_path / f"ip.{layout}", sections))


def test_other_files_are_refused(tmp_path):
    torch.save({"conv.weight": torch.ones(1)}, tmp_path / "other.bin")
    with pytest.raises(CheckpointError, match=r"got keys such as conv\.weight; fix:"):
        read(tmp_path / "other.bin")
    torch.save({"image_proj": {"epoch": 3}, "ip_adapter": {}}, tmp_path / "odd.bin")
    with pytest.raises(CheckpointError, match=r"'image_proj\.epoch' is a value of type int"):
        read(tmp_path / "odd.bin")
    torch.save({"ip_adapter": {"a": {"b": torch.ones(1)}}}, tmp_path / "deep.bin")
    with pytest.raises(CheckpointError, match=r"'ip_adapter\.a' is a dict of 1 entries"):
        read(tmp_path / "deep.bin")


@pytest.mark.parametrize("layout", ["bin", "safetensors"])
def test_a_truncated_file(tmp_path, layout):
    path = write(tmp_path / f"ip.{layout}", published())
    content = path.read_bytes()
    for share in (0.0, 0.01, 0.5, 0.99):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(CheckpointError, match="cannot be read"):
            read(path)


def test_sections_are_taken_out_only_where_asked(tmp_path):
    path = write(tmp_path / "ip.bin", published())
    assert len(read_tensors(path, ("image_proj", "ip_adapter"))) == sum(map(len, published().values()))
    with pytest.raises(CheckpointError, match=r"'ip_adapter' is a dict"):
        read_tensors(path, ("image_proj",))
