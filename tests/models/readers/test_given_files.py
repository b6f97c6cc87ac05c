"""Configurations that others wrote: what is no regular file, too large, too deep or no number is refused in one line,
and no model is begun whose sizes no machine holds."""

import gzip
import os
from pathlib import Path

import pytest
import torch
from torch import nn
from x2i.models.clip.published_tokenizer import clip_tokenizer_json
from x2i.models.errors import CheckpointError
from x2i.models.readers import tensors
from x2i.models.readers.given_files import MOST_TEXT_BYTES, given_json, given_yaml
from x2i.models.readers.loading import build_module
from x2i.models.stable_diffusion.compvis_config import read_compvis_config

BYTES = {
    "empty": b"",
    "deep": b"[" * 100_000,
    "deep objects": b'{"a": ' * 100_000,
    "bytes": b"\xff\xfe\x00",
    "nan": b'{"a": NaN}',
    "digits": b'{"a": ' + b"9" * 5000 + b"}",
    "infinite": b'{"a": 1e999}',
}
ALIASES = "a: &a [0, 0, 0, 0, 0, 0, 0, 0, 0]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = {
    "aliases": ALIASES,
    "code": "a: !!python/object/apply:os.getcwd []",
    "itself": "a: &a [*a]",
    "no end": "a: [",
    "nan": "a: .nan",
}


def place(path: Path, kind: str) -> Path:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as stream:
            stream.truncate(10 * MOST_TEXT_BYTES)
    elif kind in YAML:
        path.write_text(YAML[kind], "utf-8")
    else:
        path.write_bytes(BYTES[kind])
    return path


def refusal(error: CheckpointError) -> str:
    (line,) = error.problems
    assert len(line) < 1000 and "Errno" not in line and "; fix: " in line
    return line


@pytest.mark.parametrize("kind", [*BYTES, "pipe", "endless", "folder", "huge", "nothing"])
def test_no_json(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json" if kind == "nothing" else place(tmp_path / "a.json", kind)
    for reader in (given_json, read_compvis_config):
        with pytest.raises(CheckpointError) as refused:
            reader(path)
        refusal(refused.value)
    with pytest.raises(CheckpointError):
        clip_tokenizer_json(path)


NO_YAML = ["deep", "deep objects", "bytes", "digits", *YAML, "pipe", "endless", "folder", "huge"]


@pytest.mark.parametrize("kind", NO_YAML)
def test_no_yaml(kind: str, tmp_path: Path) -> None:
    path = place(tmp_path / "a.yaml", kind)
    with pytest.raises(CheckpointError) as refused:
        given_yaml(path)
    refusal(refused.value)


def test_a_packed_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "MOST_UNPACKED_BYTES", 10_000_000)
    with gzip.open(tmp_path / "a.safetensors.gz", "wb") as stream:
        for _ in range(20):
            stream.write(bytes(1_000_000))
    with pytest.raises(CheckpointError, match="at most 10 MB of packed weights"):
        tensors.read_tensors(tmp_path / "a.safetensors.gz")


SIZES = {
    "wide": lambda: nn.Linear(2**20, 2**20),
    "long": lambda: nn.Linear(2**40, 1),
    "beyond": lambda: nn.Linear(10**30, 10**30),
    "positions": lambda: torch.arange(2**40),
    "table": lambda: nn.Embedding(2**30, 1024),
    "layers": lambda: nn.ModuleList(nn.Linear(1, 1) for _ in iter(int, 1)),
    "negative": lambda: nn.Linear(-1, 3),
    "text": lambda: nn.Linear("a", 3),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("kind", SIZES)
def test_a_model_that_no_machine_holds_is_not_begun(kind: str) -> None:
    with pytest.raises(CheckpointError, match="expected a configuration its class accepts") as refused:
        build_module(SIZES[kind], "config.json")  # type: ignore[type-var, arg-type]
    refusal(refused.value)
