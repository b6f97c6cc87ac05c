"""What `x2i export` refuses of ELITE and IP-Adapter: exit code 2, a line for each problem, nothing left behind."""

import shutil

import pytest
import torch
from click.testing import CliRunner
from x2i.runtime.cli import main

from tests.goldens import golden
from tests.models.subjects.ip_adapter_files import published, tower, write

ELITE = {
    "encoder": "elite/model/image_encoder",
    "global": "elite/checkpoints/global_mapper.pt",
    "local": "elite/checkpoints/local_mapper.pt",
}


def refused(folder, system, base, parts):
    """The lines on stderr."""
    before = sorted(folder.iterdir())
    words = [word for name, path in parts.items() for word in ("--part", f"{name}={path}")]
    words += ["--base", str(base)] if base is not None else []
    result = CliRunner().invoke(main, ["export", system, str(folder / "out"), *words])
    assert result.exit_code == 2, result.output
    assert sorted(folder.iterdir()) == before
    lines = result.stderr.splitlines()
    assert all(line.startswith("x2i: error: ") for line in lines)
    return lines


@pytest.mark.parametrize(("system", "parts"), [("elite", ("encoder", "global", "local")), ("ip-adapter", ("adapter",))])
def test_what_is_missing(tmp_path, system, parts):
    lines = refused(tmp_path, system, None, {"colour": tmp_path})
    assert "--base: expected" in lines[0] and "--part colour: unknown for this system" in lines[1]
    for part in parts:
        assert any(f"--part {part}: expected " in line and line.endswith("got nothing") for line in lines)


def test_a_mapper_of_another_width(tmp_path):
    tensors = torch.load(golden(ELITE["local"]), weights_only=True)
    for key, value in tensors.items():
        if key.startswith("mapping_") and ".6." in key:
            tensors[key] = value[:48].clone()
    torch.save(tensors, tmp_path / "local.pt")
    parts = {name: golden(path) for name, path in ELITE.items()} | {"local": tmp_path / "local.pt"}
    (line, *_) = refused(tmp_path, "elite", golden("elite/model"), parts)
    assert "local.pt: expected a mapper to the UNet's context, 64 wide, got one of width 48" in line and "fix:" in line


def test_mappers_and_adapters_in_each_others_place(tmp_path):
    tower().save_pretrained(tmp_path / "tower")
    adapter = write(tmp_path / "ip.safetensors", published())
    parts = {name: golden(path) for name, path in ELITE.items()}
    (line,) = refused(tmp_path, "elite", golden("elite/model"), parts | {"global": adapter})
    assert "expected ELITE's global mapper" in line
    parts = {"encoder": tmp_path / "tower", "adapter": parts["global"]}
    (line,) = refused(tmp_path, "ip-adapter", golden("elite/model"), parts)
    assert "expected IP-Adapter or IP-Adapter Plus" in line


def test_an_adapter_to_another_base(tmp_path):
    tower().save_pretrained(tmp_path / "tower")
    parts = {"encoder": tmp_path / "tower", "adapter": write(tmp_path / "ip.safetensors", published())}
    (line, *_) = refused(tmp_path, "ip-adapter", golden("elite/model"), parts)
    assert "expected an adapter to the UNet's context, 64 wide, got one of width 48" in line


@pytest.mark.parametrize(("folder", "said"), [("text_encoder", "text encoder"), ("tokenizer", "tokenizer")])
def test_a_base_without_its_text_side(tmp_path, folder, said):
    base = shutil.copytree(golden("elite/model"), tmp_path / "base", ignore=shutil.ignore_patterns(folder))
    (line,) = refused(tmp_path, "elite", base, {name: golden(path) for name, path in ELITE.items()})
    assert f"expected a base with its text encoder and tokenizer, got one without a {said}; " in line


def test_one_file_as_both_mappers(tmp_path):
    parts = {name: golden(path) for name, path in ELITE.items()}
    (line,) = refused(tmp_path, "elite", golden("elite/model"), parts | {"local": parts["global"]})
    assert "--part local: expected local_mapper.pt, got" in line and "which is the global one too" in line
