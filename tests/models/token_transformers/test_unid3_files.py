"""What is read of UniD3's files, and what is refused by its name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from x2i.models.errors import CheckpointError
from x2i.models.token_transformers.unid3_checkpoint import SCHEDULE, UniD3, read_unid3, read_unid3_settings

from tests.goldens import golden_arrays
from tests.models.token_transformers import unid3_goldens as goldens

NETWORK = "model._denoise_fn"
Change = Callable[[dict[str, Any]], object]


def changed_options(tmp_path: Path, change: Change) -> Path:
    content = json.loads(goldens.options_file().read_text(encoding="utf-8"))
    change(content)
    path = tmp_path / "args.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def changed_checkpoint(tmp_path: Path, change: Change) -> UniD3:
    content = torch.load(goldens.checkpoint_file(), weights_only=True)
    change(content["state_dict"])
    path = tmp_path / "checkpoint.pth"
    torch.save(content, path)
    return read_unid3(path, goldens.settings())


def test_everything_is_float32_but_the_codec() -> None:
    read = goldens.read()
    assert {tensor.dtype for tensor in (*read.transformer.parameters(), *read.schedule.values())} == {torch.float32}
    assert not read.transformer.training
    assert read.codec and all(key.startswith(("enc.", "dec.")) for key in read.codec)


def test_the_schedule_is_the_checkpoints() -> None:
    arrays, schedule = golden_arrays("unid3/functions.npz"), goldens.read().schedule
    assert set(schedule) == set(SCHEDULE) == {name[7:] for name in arrays if name.startswith("buffer_")}
    assert all(np.array_equal(values.numpy(), arrays[f"buffer_{name}"]) for name, values in schedule.items())


def test_a_checkpoint_may_be_without_codec_and_masks(tmp_path: Path) -> None:
    def change(tensors: dict[str, Any]) -> None:
        for key in [key for key in tensors if key.startswith("model.image_tokenizer.") or key.endswith(".mask")]:
            del tensors[key]

    assert changed_checkpoint(tmp_path, change).codec == {}


def test_options_of_training_are_passed_over(tmp_path: Path) -> None:
    path = changed_options(tmp_path, lambda options: options.update(lr=1e-4, gpus=8, diffusion_sharing=True))
    assert read_unid3_settings(path) == goldens.settings()


BAD_CHECKPOINTS = {
    r"missing model\._denoise_fn\.rezero\.alpha": lambda tensors: tensors.pop(f"{NETWORK}.rezero.alpha"),
    r"missing model\._denoise_fn\.transformer\.norm\.weight": lambda t: t.pop(f"{NETWORK}.transformer.norm.weight"),
    r"unexpected model\._denoise_fn\.transformer\.blocks\.0\.x": lambda tensors: tensors.update(
        {f"{NETWORK}.transformer.blocks.0.x": torch.zeros(3)}
    ),
    r"unexpected module\.x": lambda tensors: tensors.update({"module.x": torch.zeros(3)}),
    r"wrong model\._denoise_fn\.transformer\.to_logits_txt\.bias": lambda tensors: tensors.update(
        {f"{NETWORK}.transformer.to_logits_txt.bias": torch.zeros(3)}
    ),
    r"expected model\.log_cumprod_bt_txt .*got none": lambda tensors: tensors.pop("model.log_cumprod_bt_txt"),
    r"expected model\.log_at .*got \[3\]": lambda tensors: tensors.update({"model.log_at": torch.zeros(3)}),
    r"missing model\._denoise_fn.*": lambda tensors: [
        tensors.update({key[6:]: tensors.pop(key)}) for key in [*tensors]
    ],
}
BAD_OPTIONS = {
    "transformer_dim as a positive": lambda options: options.pop("transformer_dim"),
    "txt_emb as the caption's classes": lambda options: options.update(txt_emb=-256),
    "txt_emb as .*'7936'": lambda options: options.update(txt_emb="7936"),
    "attention_type 'selfcross'": lambda options: options.update(attention_type="self"),
    "diffusion_parametrization 'x0'": lambda options: options.update(diffusion_parametrization="direct"),
    "VQ_Type 'TamingGumbelVQVAE'": lambda options: options.update(VQ_Type="LDMF4"),
    "tokenizer 'SimpleTokenizer'": lambda options: options.update(tokenizer="cub"),
    "heads divide": lambda options: options.update(transformer_heads=options["transformer_dim"] + 1),
}


@pytest.mark.parametrize("message", BAD_CHECKPOINTS)
def test_a_bad_checkpoint_is_refused(message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        changed_checkpoint(tmp_path, BAD_CHECKPOINTS[message])


@pytest.mark.parametrize("message", BAD_OPTIONS)
def test_bad_options_are_refused(message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_unid3_settings(changed_options(tmp_path, BAD_OPTIONS[message]))


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    def change(tensors: dict[str, Any]) -> None:
        del tensors["model.log_at"], tensors[f"{NETWORK}.rezero.alpha"]
        tensors["model.more"] = torch.zeros(1)

    with pytest.raises(CheckpointError) as refused:
        changed_checkpoint(tmp_path, change)
    told = str(refused.value)
    assert all(name in told for name in ("model.log_at", "rezero.alpha", "model.more"))
    with pytest.raises(CheckpointError) as refused:
        read_unid3_settings(changed_options(tmp_path, lambda options: options.clear()))
    assert len(refused.value.problems) == 8
