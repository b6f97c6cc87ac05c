"""The stages that distil the embedded base and train its tiny decoder."""

from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from x2i.emoji.embedded import LORA
from x2i.emoji.few_steps import lora_stage, tiny_vae_stage, trajectories
from x2i.emoji.few_steps.publish import DOWN, UP, mean_lora, publish_few_steps
from x2i.emoji.world import scenes

from tests.emoji.five_pictures import few_names
from tests.numerics import assert_close

STAGES = {"few_step": lora_stage.train, "few_step_more": lora_stage.train_more, "tiny_vae": tiny_vae_stage.train}
__all__ = ["few_names"]


@pytest.fixture(scope="module")
def folder(few_names, tmp_path_factory):
    """State files of both stages behind two steps, the second of them by another call."""
    path = tmp_path_factory.mktemp("emoji")
    with pytest.MonkeyPatch.context() as patch:
        for stage in (lora_stage, tiny_vae_stage):
            patch.setattr(stage, "BATCH", 2)
            patch.setattr(stage, "low_precision", nullcontext)
        patch.setattr(lora_stage, "RUNS", 2)
        patch.setattr(lora_stage, "MORE_RUNS", 3)
        patch.setattr(trajectories, "SUBSTEPS", 1)
        for name, train in STAGES.items():
            train(path, minutes=1e6, steps=1)
            before = torch.load(path / f"{name}.pt", weights_only=True)["module"]
            train(path, minutes=1e6, steps=2)
            after = torch.load(path / f"{name}.pt", weights_only=True)
            assert after["steps"] == 2
            moved = {key for key, value in before.items() if not torch.equal(value, after["module"][key])}
            assert len(moved) > 20 and (name == "tiny_vae" or all("lora_" in key for key in moved))
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


def test_the_mean_of_two_is_between_them():
    """Exact where both changes together have the rank; of a kernel, too."""
    random = torch.Generator().manual_seed(3)
    shapes = {
        f"linear{DOWN}": (4, 6),
        f"linear{UP}": (5, 4),
        f"kernel{DOWN}": (4, 2, 3, 3),
        f"kernel{UP}": (5, 4, 1, 1),
    }
    one = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    for name in (f"linear{DOWN}", f"kernel{DOWN}"):
        one[name][2:] = 0
    other = {name: torch.randn(shape, generator=random) if UP in name else one[name] for name, shape in shapes.items()}
    mean = mean_lora([one, other])
    for layer in ("linear", "kernel"):
        changes = [each[layer + UP].flatten(1) @ each[layer + DOWN].flatten(1) for each in (one, other, mean)]
        assert mean[layer + DOWN].shape == one[layer + DOWN].shape
        assert_close(changes[2].numpy(), ((changes[0] + changes[1]) / 2).numpy(), "folded")


def test_a_student_is_the_identity_where_there_is_no_noise():
    noise, noisy = torch.randn(2, 3, 4, 5, 5)
    timesteps = torch.tensor([0, 0, 999])
    clean = lora_stage.consistent(noise, noisy, timesteps)
    assert_close(clean[:2].numpy(), noisy[:2].numpy(), "exact")
    assert (clean[2] - noisy[2]).abs().max() > 1


@pytest.fixture(scope="module")
def systems(few_names, tmp_path_factory):
    """The student and the three systems with two rows each, the LoRA's second factors drawn at random. They are shown
    subjects of the wide set."""
    if not scenes.FONT.exists():
        pytest.skip(f"needs {scenes.FONT}")
    student = lora_stage.build().eval()
    random = torch.Generator().manual_seed(1)
    for name, parameter in student.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=random)
    return student, lora_stage.systems(tmp_path_factory.mktemp("systems"), student, 2)


def _predicted(system, rows, timestep):
    noisy = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2)).expand(2, -1, -1, -1)
    timesteps = torch.tensor([timestep] * 2)
    context = system.context(None if rows is None else torch.tensor(rows), timesteps)
    return system.unet(noisy, timesteps, context).sample


@torch.no_grad()
def test_every_system_draws_its_rows_through_the_students_lora(systems):
    student, made = systems
    trained = {id(p) for p in student.parameters() if p.requires_grad}
    for system in made:
        assert {id(p) for p in system.unet.parameters() if p.requires_grad} == trained
        one, other = _predicted(system, [0, 1], 500)
        assert (one - other).abs().max() > 1e-3 < (one - _predicted(system, None, 500)[0]).abs().max()
        system.unet.disable_adapters()
        assert (one - _predicted(system, [0, 1], 500)[0]).abs().max() > 1e-2
        system.unet.enable_adapters()


def test_composed_pairs_see_their_subjects_late(systems):
    pairs = systems[1][2]
    rows = torch.tensor([0, 0])
    early, late = pairs.context(rows, torch.tensor([850, 750]))
    assert_close(early.numpy(), pairs._plain[0].numpy(), "exact")
    assert (early - late).abs().max() > 1e-2


@torch.no_grad()
def test_a_run_is_ddims(systems, monkeypatch):
    monkeypatch.setattr(trajectories, "low_precision", nullcontext)
    monkeypatch.setattr(trajectories, "SUBSTEPS", 1)
    system = systems[1][0]
    runs = trajectories.draw_runs(system, 2)
    steps = *trajectories.VISITED, -1
    alphas = np.append(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2), 1.0)
    system.unet.disable_adapters()
    for number, (at, below) in enumerate(pairwise(steps)):
        timesteps, noisy = torch.tensor([at] * 2), runs[:, number]
        asked, unasked = (
            system.unet(noisy, timesteps, system.context(rows, timesteps)).sample for rows in (torch.arange(2), None)
        )
        noise = unasked + system.guidance * (asked - unasked)
        clean = (noisy - (1 - alphas[at]) ** 0.5 * noise) / alphas[at] ** 0.5
        expected = alphas[below] ** 0.5 * clean + (1 - alphas[below]) ** 0.5 * noise
        assert_close(runs[:, number + 1].numpy(), expected.numpy(), "latents")
    system.unet.enable_adapters()
