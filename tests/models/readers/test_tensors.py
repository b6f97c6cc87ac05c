"""Named tensors from files of every kind, and from things that are none."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from x2i.models.errors import CheckpointError
from x2i.models.readers.tensors import read_tensor, read_tensors

STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3, dtype=torch.bfloat16)}


def test_safetensors(tmp_path):
    save_file(STATE, tmp_path / "s.safetensors")
    tensors = read_tensors(str(tmp_path / "s.safetensors"))
    assert {name: value.dtype for name, value in tensors.items()} == {"a": torch.float32, "b": torch.bfloat16}
    assert torch.equal(tensors["a"], STATE["a"])


def test_truncated_safetensors(tmp_path):
    save_file(STATE, tmp_path / "s.safetensors")
    content = (tmp_path / "s.safetensors").read_bytes()
    for length in (0, 4, 20, len(content) - 1):
        (tmp_path / "s.safetensors").write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"s\.safetensors cannot be read"):
            read_tensors(tmp_path / "s.safetensors")


def test_entries_that_are_no_tensors_are_all_named(tmp_path):
    torch.save({"a": torch.ones(1), "epoch": 3, "sparse": torch.ones(2, 2).to_sparse(), 5: "five"}, tmp_path / "s.pt")
    with pytest.raises(CheckpointError) as caught:
        read_tensors(tmp_path / "s.pt")
    assert [line.split()[0] for line in caught.value.problems[1:]] == ["'epoch'", "'sparse'", "5"]


@pytest.mark.parametrize("content", [[torch.ones(1)], torch.ones(1), {}])
def test_other_pickles(tmp_path, content):
    torch.save(content, tmp_path / "s.pt")
    with pytest.raises(CheckpointError, match=r"expected .*fix: "):
        read_tensors(tmp_path / "s.pt")


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(CheckpointError, match=r"got a folder"):
        read_tensors(tmp_path)
    with pytest.raises(CheckpointError, match=r"got nothing"):
        read_tensors(tmp_path / "absent.ckpt")
    (tmp_path / "x.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"expected \.safetensors or \.ckpt, .* got '\.onnx'"):
        read_tensors(tmp_path / "x.onnx")


def test_one_tensor_from_every_kind_of_file(tmp_path):
    value = torch.arange(5.0)[:, None]
    torch.save(value, tmp_path / "bare.pt")
    torch.save({"norm": value}, tmp_path / "dict.pt")
    save_file({"norm": value}, tmp_path / "dict.safetensors")
    np.save(tmp_path / "array.npy", value.numpy())
    for name in ("bare.pt", "dict.pt", "dict.safetensors", "array.npy"):
        assert torch.equal(read_tensor(tmp_path / name), value)


def test_more_than_one_tensor_or_none(tmp_path):
    save_file(STATE, tmp_path / "two.safetensors")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    torch.save("text", tmp_path / "text.pt")
    for name in ("two.safetensors", "objects.npy", "text.pt"):
        with pytest.raises(CheckpointError, match=rf"{name}.*fix: "):
            read_tensor(tmp_path / name)
