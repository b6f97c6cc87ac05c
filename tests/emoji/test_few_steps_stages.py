"""The stages that distil the embedded base and train its tiny decoder."""

from contextlib import nullcontext

import pytest
import torch
from diffusers import AutoencoderTiny
from x2i.emoji.embedded import LORA
from x2i.emoji.few_steps import lora_stage, tiny_vae_stage
from x2i.emoji.few_steps.publish import publish_few_steps

from tests.emoji.five_pictures import few_names
from tests.numerics import assert_close

STAGES = {"few_step": lora_stage, "tiny_vae": tiny_vae_stage}
__all__ = ["few_names"]


@pytest.fixture(scope="module")
def folder(few_names, tmp_path_factory):
    """State files of both stages behind two steps, the second of them by another call."""
    path = tmp_path_factory.mktemp("emoji")
    with pytest.MonkeyPatch.context() as patch:
        for name, stage in STAGES.items():
            patch.setattr(stage, "BATCH", 2)
            patch.setattr(stage, "low_precision", nullcontext)
            stage.train(path, minutes=1e6, steps=1)
            before = torch.load(path / f"{name}.pt", weights_only=True)["module"]
            stage.train(path, minutes=1e6, steps=2)
            after = torch.load(path / f"{name}.pt", weights_only=True)
            assert after["steps"] == 2
            moved = {key for key, value in before.items() if not torch.equal(value, after["module"][key])}
            assert len(moved) > 20 and (name != "few_step" or all("lora_" in key for key in moved))
    return path


def test_what_is_published_is_read_by_the_libraries(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("x2i.emoji.few_steps.publish.LORA", tmp_path / "lora" / LORA.name)
    monkeypatch.setattr("x2i.emoji.few_steps.publish.TINY_VAE", tmp_path / "tiny")
    publish_few_steps(folder, 0.0)
    tiny = AutoencoderTiny.from_pretrained(tmp_path / "tiny")
    expected = tiny_vae_stage.trained(folder).state_dict()
    for name, value in tiny.state_dict().items():
        assert_close(value.numpy(), expected[name].half().float().cpu().numpy(), "exact")
    assert sum(path.stat().st_size for path in (tmp_path / "lora").iterdir()) <= 1e6


def test_a_student_is_the_identity_where_there_is_no_noise():
    noise, noisy = torch.randn(2, 3, 4, 5, 5)
    timesteps = torch.tensor([0, 0, 999])
    clean = lora_stage.consistent(noise, noisy, timesteps)
    assert_close(clean[:2].numpy(), noisy[:2].numpy(), "exact")
    assert (clean[2] - noisy[2]).abs().max() > 1
