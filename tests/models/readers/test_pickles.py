"""Pickled checkpoints: tensors come out, code does not run, damage is named."""

import pickle
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch
from x2i.models.errors import CheckpointError
from x2i.models.readers import pickles
from x2i.models.readers.tensors import read_tensors

STATE = {"a.weight": torch.arange(15.0).reshape(3, 5), "b": torch.ones(2, dtype=torch.float16)}


class Bomb:
    """Writes a file when something unpickles it."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return Path.write_text, (self.target, "boom")


class Shell:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.target}",)


def save(content, path: Path, form: str) -> None:
    if form == "zip":
        torch.save(content, path)
    elif form == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(content, protocol=int(form)))


@pytest.mark.parametrize("form", ["zip", "legacy", "0", "2", "4", "5"])
@pytest.mark.parametrize("bomb", [Bomb, Shell])
def test_code_is_named_and_does_not_run(tmp_path, form, bomb):
    marker, path = tmp_path / "marker", tmp_path / "bomb.ckpt"
    pickle.loads(pickle.dumps(bomb(marker)))
    assert marker.exists(), "the bomb is a dud"
    marker.unlink()
    save({"state_dict": {"a": torch.ones(2) if form in ("zip", "legacy") else 2, "b": bomb(marker)}}, path, form)
    with pytest.raises(
        CheckpointError, match=r"bomb\.ckpt refused.*(getattr|write_text|posix\.system).*fix: convert"
    ) as caught:
        read_tensors(path)
    assert not marker.exists()
    assert "OrderedDict" not in str(caught.value) and "_rebuild" not in str(caught.value)


def test_a_trainers_callback_is_named(tmp_path, monkeypatch):
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    path = tmp_path / "sd.ckpt"
    torch.save({"state_dict": STATE, "callbacks": {module.ModelCheckpoint: {"best": 1}}}, path)
    with pytest.raises(CheckpointError, match=r"pytorch_lightning\.callbacks\.model_checkpoint\.ModelCheckpoint"):
        read_tensors(path)


def test_a_whole_module_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(CheckpointError, match=r"wants to run .*torch\.nn\.modules\.linear\.Linear"):
        read_tensors(tmp_path / "module.pt")


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_tensors_come_out(tmp_path, form, wrapped):
    path = tmp_path / "state.bin"
    save({"state_dict": STATE, "global_step": 7} if wrapped else STATE, path, form)
    tensors = read_tensors(path)
    assert tensors.keys() == STATE.keys()
    for name, value in STATE.items():
        assert tensors[name].dtype == value.dtype and torch.equal(tensors[name], value)


def test_compressed_members_are_read_and_checked(tmp_path):
    stored, packed = tmp_path / "stored.pt", tmp_path / "packed.pt"
    state = {"noise": torch.randint(0, 9, (999,), generator=torch.Generator().manual_seed(0)).float()}
    torch.save(state, stored)
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
        (largest,) = (member for member in target.infolist() if member.file_size == 4 * 999)
        middle = largest.header_offset + largest.compress_size // 2
    assert torch.equal(read_tensors(packed)["noise"], state["noise"])
    content = bytearray(packed.read_bytes())
    content[middle] ^= 0xFF
    packed.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"packed\.pt cannot be read"):
        read_tensors(packed)


def test_writing_to_a_tensor_leaves_the_file_alone(tmp_path):
    torch.save(STATE, tmp_path / "state.pt")
    before = (tmp_path / "state.pt").read_bytes()
    read_tensors(tmp_path / "state.pt")["a.weight"].zero_()
    assert (tmp_path / "state.pt").read_bytes() == before


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, form):
    whole, cut = tmp_path / "whole.pt", tmp_path / "cut.pt"
    save(STATE, whole, form)
    content = whole.read_bytes()
    for length in range(0, len(content), 37):
        cut.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"cut\.pt (cannot be read|refused)") as caught:
            read_tensors(cut)
        assert len(caught.value.problems) == 1 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html><html></html>", "a web page"),
        (b"\x13\x37garbage" * 9, "begins with"),
    ],
)
def test_what_a_wrong_file_looks_like(tmp_path, content, looks):
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=looks):
        read_tensors(tmp_path / "x.ckpt")


def test_a_pickle_that_unpacks_to_no_end_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MOST_PICKLE_BYTES", 5_000)
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"N0" * 5_000)
    with pytest.raises(CheckpointError, match="got a pickle of 0 MB, where tensors lie beside one"):
        read_tensors(tmp_path / "bomb.pt")
    torch.save(STATE, tmp_path / "whole.pt")
    assert read_tensors(tmp_path / "whole.pt").keys() == STATE.keys()
