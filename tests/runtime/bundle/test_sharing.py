"""Bundles of one base share files on the disk, and stay whole bundles."""

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from x2i.runtime.bundle import sharing
from x2i.runtime.bundle.reader import file_record, open_bundle
from x2i.runtime.bundle.records import encode
from x2i.runtime.bundle.sharing import share, shared_bytes
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError

from tests.runtime.toy import edit_manifest, write_toy

BIG = 10_000


@pytest.fixture
def bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two bundles that differ in one graph, and whose tokenizers are small."""
    monkeypatch.setattr(sharing, "SMALLEST", 6)
    folders = [write_toy(tmp_path / name) for name in ("text", "sound")]
    for number, folder in enumerate(folders):
        (folder / "encoder.onnx").write_text(f"encoder {number}" * 100)
        (folder / "denoiser.onnx").write_text("d" * BIG)
        record = {name: encode(file_record(folder / name)) for name in ("encoder.onnx", "denoiser.onnx")}
        edit_manifest(folder, lambda data, record=record: data["files"].update(record))
    return folders


def test_the_same_bytes_are_one_file(bundles: list[Path]) -> None:
    before = {folder: {path.name: path.read_bytes() for path in folder.iterdir()} for folder in bundles}
    opened = [open_bundle(folder) for folder in bundles]
    found = {one.path.name: one for one in share(opened)}
    assert "denoiser.onnx" in found and "encoder.onnx" not in found
    assert found["denoiser.onnx"].bytes == found["denoiser.onnx"].freed == BIG
    assert os.path.samefile(*(folder / "denoiser.onnx" for folder in bundles))
    assert not os.path.samefile(*(folder / "encoder.onnx" for folder in bundles))
    for folder in bundles:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before[folder]
        assert open_bundle(folder).manifest == open_bundle(folder, check_files=False).manifest
    assert shared_bytes(opened[0]) == sum(one.bytes for one in found.values())
    assert sum(one.freed for one in share(opened)) == 0, "a second time there is nothing to do"


def test_one_bundle_may_go(bundles: list[Path]) -> None:
    share([open_bundle(folder) for folder in bundles])
    shutil.rmtree(bundles[0])
    left = open_bundle(bundles[1])
    assert (bundles[1] / "denoiser.onnx").read_text() == "d" * BIG
    assert shared_bytes(left) == 0


def test_a_damaged_bundle_is_refused_and_shares_nothing(bundles: list[Path]) -> None:
    (bundles[0] / "denoiser.onnx").write_text("e" * BIG)
    result = CliRunner().invoke(main, ["share", *map(str, bundles)])
    assert result.exit_code == 2 and "denoiser.onnx: altered" in result.stderr
    assert (bundles[1] / "denoiser.onnx").read_text() == "d" * BIG


def test_a_disk_without_links_is_told(bundles: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(sharing.os, "link", refuse)
    opened = [open_bundle(folder) for folder in bundles]
    with pytest.raises(InputError, match=r"cannot be linked .*: Operation not permitted; share bundles on a disk with"):
        share(opened)
    assert (bundles[1] / "denoiser.onnx").read_text() == "d" * BIG
    assert not list(bundles[1].glob(".share.*"))


def test_the_commands_tell_what_is_shared(bundles: list[Path]) -> None:
    result = CliRunner().invoke(main, ["share", *map(str, bundles)])
    assert result.exit_code == 0, result.output
    assert "smaller ones" in result.stdout and "0.0 MB freed" in result.stdout
    shown = CliRunner().invoke(main, ["inspect", str(bundles[0])])
    assert "MB of it are also other bundles' on this disk" in shown.stdout, shown.output
    alone = CliRunner().invoke(main, ["share", str(bundles[0]), str(bundles[0])])
    assert alone.exit_code == 2 and "expected two bundles or more" in alone.stderr
