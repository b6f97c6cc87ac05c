"""The files of the multinomial process: the network's logits, what is read, and what is refused by its name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from x2i.models.errors import CheckpointError
from x2i.models.token_transformers.layers import table_norms
from x2i.models.token_transformers.vq_ddm_checkpoint import UNIFORM_BUFFERS, VqDdm, read_vq_ddm

from tests.goldens import golden, golden_arrays
from tests.numerics import assert_close

FOLDER = "unid3/multinomial"
Change = Callable[[dict[str, Any]], object]


def read(checkpoint: Path | None = None, config: Path | None = None) -> VqDdm:
    return read_vq_ddm(checkpoint or golden(f"{FOLDER}/model.pth"), config or golden(f"{FOLDER}/config.json"))


def changed_config(tmp_path: Path, change: Change) -> Path:
    content = json.loads(golden(f"{FOLDER}/config.json").read_text(encoding="utf-8"))
    change(content)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def changed_checkpoint(tmp_path: Path, change: Change) -> Path:
    content = torch.load(golden(f"{FOLDER}/model.pth"), weights_only=True)
    change(content["state_dict"])
    path = tmp_path / "model.pth"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("tabled", [False, True])
@torch.no_grad()
def test_logits_are_the_authors(tabled: bool) -> None:
    arrays, transformer = golden_arrays(f"{FOLDER}/functions.npz"), read().transformer
    if tabled:
        table_norms(transformer)
    tokens = torch.from_numpy(arrays["net_ids"])
    made = [transformer(tokens, torch.full((len(tokens),), int(t))) for t in arrays["net_t"]]
    assert_close(torch.stack(made).transpose(2, 3).numpy(), arrays["net_logits"], "unid3-logits")


def test_the_last_row_of_the_embedding_is_never_read() -> None:
    """No token is a mask."""
    settings = read().transformer.settings
    arrays = golden_arrays(f"{FOLDER}/functions.npz")
    assert arrays["net_ids"].max() < settings.classes == arrays["net_logits"].shape[2]


def test_the_schedule_is_the_checkpoints() -> None:
    arrays, schedule = golden_arrays(f"{FOLDER}/functions.npz"), read().schedule
    assert all(np.array_equal(schedule[name].numpy(), arrays[f"buffer_{name}"]) for name in UNIFORM_BUFFERS)


BAD_CONFIGS: dict[str, Change] = {
    "num_classes": lambda content: content["diffusion"].update(num_classes=7),
    "timesteps": lambda content: content["diffusion"].update(timesteps=7),
    "schedule 'cosine'": lambda content: content["diffusion"].update(schedule="linear"),
    "parametrization 'x0'": lambda content: content["diffusion"].update(parametrization="direct"),
    "shape as the network's": lambda content: content["diffusion"].update(shape=[7]),
    "unknown 'noise'": lambda content: content["diffusion"].update(noise=1),
    "unknown 'codec'": lambda content: content.update(codec=1),
    "n_layer as a positive": lambda content: content["network"].pop("n_layer"),
    "block_activate 'GELU2'": lambda content: content["network"].update(block_activate="GELU"),
    "attn_type 'self', which reads tokens alone": lambda content: content["network"].update(
        attn_type="selfcross", condition_dim=8
    ),
    "diffusion as a section|a section of settings": lambda content: content.update(diffusion=3),
}
BAD_CHECKPOINTS: dict[str, Change] = {
    r"expected log_alpha \[\d+\], got none": lambda tensors: tensors.pop("log_alpha"),
    r"expected log_cumprod_alpha .*got \[3\]": lambda tensors: tensors.update(log_cumprod_alpha=torch.zeros(3)),
    r"missing _denoise_fn\.transformer\.content_emb\.emb\.weight": lambda tensors: tensors.pop(
        "_denoise_fn.transformer.content_emb.emb.weight"
    ),
    "unexpected model.x": lambda tensors: tensors.update({"model.x": torch.zeros(1)}),
}


@pytest.mark.parametrize("message", BAD_CONFIGS)
def test_a_bad_configuration_is_refused(message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        read(config=changed_config(tmp_path, BAD_CONFIGS[message]))


@pytest.mark.parametrize("message", BAD_CHECKPOINTS)
def test_a_bad_checkpoint_is_refused(message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        read(checkpoint=changed_checkpoint(tmp_path, BAD_CHECKPOINTS[message]))
