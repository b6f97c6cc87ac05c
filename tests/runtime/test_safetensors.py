"""The reader of `.safetensors` files: the library's own to the bit, and no header that the bytes do not bear out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from x2i.runtime.errors import InputError
from x2i.runtime.files.safetensors import MOST_HEADER_BYTES, parse_safetensors, read_safetensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_librarys_files_to_the_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(0)
    tensors = {
        "b": torch.randn(3, 5, generator=random).to(dtype),
        "a": torch.randn(7, 1, 2, 3, generator=random).to(dtype),
        "alpha": torch.tensor(4.0, dtype=dtype),
    }
    save_file(tensors, tmp_path / "a.safetensors", {"format": "pt", "name": "Käse"})
    read = read_safetensors(tmp_path / "a.safetensors", "file", "a file")
    assert read.metadata == {"format": "pt", "name": "Käse"}
    assert read.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read.tensors[name].dtype == np.float32
        assert np.array_equal(read.tensors[name], tensor.float().numpy())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_every_float_of_eight_bits(dtype: torch.dtype) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(dtype)
    read = parse_safetensors(save({"a": every}), "file").tensors["a"]
    np.testing.assert_array_equal(read, every.float().numpy())


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.int32])
def test_wider_numbers_become_float32(dtype: torch.dtype) -> None:
    read = parse_safetensors(save({"a": torch.tensor([-3, 5, 70_001], dtype=dtype)}), "file").tensors["a"]
    assert read.dtype == np.float32 and read.tolist() == [-3, 5, 70_001]


def content(header: Any, data: bytes = b"", size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + data


def entry(begin: int, end: int, dtype: Any = "F32", shape: Any = (2,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


EIGHT = b"\0" * 8
DAMAGED = {
    "no length": (b"abc", "a header of"),
    "a header longer than the file": (content({}, size=9), "a header of 9 bytes in a file of 10"),
    "a header of terabytes": (content({}, size=2**60), "a header of"),
    "a header beyond the most": (content({}, size=MOST_HEADER_BYTES + 1), "a header of"),
    "bytes": (content(b"\xff\xff"), "no text"),
    "no JSON": (content(b"{a"), "JSON"),
    "a name twice": (content(b'{"a":1,"a":2}'), "twice"),
    "a list": (content([]), "named tensors"),
    "metadata of numbers": (content({"__metadata__": {"a": 1}}), "as texts"),
    "an entry without offsets": (content({"a": {"dtype": "F32", "shape": [2]}}), "data_offsets"),
    "another dtype": (content({"a": entry(0, 8, "BOOL")}, EIGHT), "F32, F16, BF16"),
    "no dtype": (content({"a": entry(0, 8, ["F32"])}, EIGHT), "F32, F16, BF16"),
    "a negative size": (content({"a": entry(0, 8, shape=[-2])}, EIGHT), "positive whole numbers"),
    "a size that is none": (content({"a": entry(0, 8, shape=[True, 2])}, EIGHT), "positive whole numbers"),
    "an empty tensor": (content({"a": entry(0, 0, shape=[0, 2**62])}), "positive whole numbers"),
    "many axes": (content({"a": entry(0, 4, shape=[1] * 99)}, EIGHT[:4]), "positive whole numbers"),
    "a shape of other bytes": (content({"a": entry(0, 8, shape=[3])}, EIGHT), "as many bytes"),
    "a huge shape": (content({"a": entry(0, 8, shape=[2**62, 2**62])}, EIGHT), "as many bytes"),
    "offsets the wrong way round": (content({"a": entry(8, 0)}, EIGHT), "as many bytes"),
    "offsets beyond the file": (content({"a": entry(0, 8)}, EIGHT[:4]), "8 bytes of tensors, got 4"),
    "bytes of no tensor at the end": (content({"a": entry(0, 8)}, EIGHT * 2), "8 bytes of tensors, got 16"),
    "bytes of no tensor at the beginning": (content({"a": entry(8, 16)}, EIGHT * 2), "begin at byte 0, got 8"),
    "tensors that overlap": (content({"a": entry(0, 8), "b": entry(4, 12)}, EIGHT + EIGHT[:4]), "at byte 8, got 4"),
    "tensors in one place": (content({"a": entry(0, 8), "b": entry(0, 8)}, EIGHT), "at byte 8, got 0"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_header_that_the_bytes_do_not_bear_out(kind: str) -> None:
    given, said = DAMAGED[kind]
    with pytest.raises(InputError) as refused:
        parse_safetensors(given, "lora x")
    assert all(line.startswith("lora x: expected") for line in refused.value.problems)
    assert said in str(refused.value)


def test_every_problem_of_a_header_is_told_at_once() -> None:
    header = {"a": entry(0, 8, "I8"), "b": entry(0, 8, shape=[5])}
    with pytest.raises(InputError) as refused:
        parse_safetensors(content(header, EIGHT), "x")
    assert len(refused.value.problems) == 2


def test_a_file_larger_than_the_most_is_not_read(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1000)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="at most"):
        read_safetensors(tmp_path / "a.safetensors", "x", "a file", most=1000)
