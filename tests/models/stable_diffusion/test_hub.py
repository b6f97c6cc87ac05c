"""Hub names: only the needed files are asked for, and every failure is one line with its reason."""

from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from x2i.models.errors import CheckpointError
from x2i.models.stable_diffusion.base import read_stable_diffusion
from x2i.models.stable_diffusion.hub import fetch_stable_diffusion, is_hub_name

FILES = ("scheduler/scheduler_config.json", "unet/config.json", "vae/config.json", "text_encoder/config.json")


@pytest.mark.parametrize("name", ["org/name", "runwayml/stable-diffusion-v1-5", "a_b/c.d-e"])
def test_hub_names(name):
    assert is_hub_name(name)


@pytest.mark.parametrize("name", ["name", "/org/name", "a/b/c", "../up", "./here", "org/", "a b/c", ""])
def test_what_is_no_hub_name(name):
    assert not is_hub_name(name)


def serve(folder: Path, stock: list[str], monkeypatch) -> list[str]:
    """A hub with one model, for the client's `snapshot_download`; the files it was asked to deliver."""
    from fnmatch import fnmatch

    delivered: list[str] = []

    def snapshot_download(name, allow_patterns):
        for file in stock:
            if any(fnmatch(file, pattern) for pattern in allow_patterns) and file not in delivered:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(b"{}")
                delivered.append(file)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return delivered


def weights(suffix: str) -> list[str]:
    return [
        f"unet/diffusion_pytorch_model{suffix}",
        f"vae/diffusion_pytorch_model{suffix}",
        f"text_encoder/{'pytorch_model' if 'bin' in suffix else 'model'}{suffix}",
    ]


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".fp16.safetensors", ".fp16.bin"])
def test_the_best_weights_there_are_and_no_others(tmp_path, monkeypatch, suffix):
    better = [".safetensors", ".bin", ".fp16.safetensors", ".fp16.bin"]
    offered = better[better.index(suffix) :]
    others = [
        "v1-5-pruned.ckpt",
        "safety_checker/model.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
    ]
    stock = [*FILES, *others, *(file for each in offered for file in weights(each))]
    delivered = serve(tmp_path, stock, monkeypatch)
    assert fetch_stable_diffusion("org/name") == tmp_path
    assert sorted(delivered) == sorted([*FILES, *weights(suffix)])


def test_shards(tmp_path, monkeypatch):
    shards = [f"unet/diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = "unet/diffusion_pytorch_model.safetensors.index.json"
    stock = [*FILES, *shards, index, *weights(".safetensors")[1:]]
    assert sorted(serve(tmp_path, stock, monkeypatch)) == []
    fetch_stable_diffusion("org/name")
    assert all((tmp_path / file).is_file() for file in stock)


@pytest.mark.parametrize(
    "error", [LocalEntryNotFoundError("nothing cached,\n and no way out"), OSError("disk full"), ValueError("bad name")]
)
def test_every_failure_is_one_line(monkeypatch, tmp_path, error):
    def snapshot_download(name, allow_patterns):
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(CheckpointError, match=r"org/name: expected a folder, a file or a hub model.*fix: ") as caught:
        read_stable_diffusion("org/name")
    assert "\n" not in str(caught.value)


def test_offline(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"org/name: expected .* from the hub: .*fix: check the name"):
        read_stable_diffusion("org/name")
