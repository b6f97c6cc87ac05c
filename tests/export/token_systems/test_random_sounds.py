"""Systems that end in a sound with random weights: their graphs fit their plans, and one another, at every size."""

import pytest
import torch
from x2i.export.plan import ExportPlan
from x2i.export.systems.registry import system_spec
from x2i.models.errors import CheckpointError
from x2i.models.random.dance_music import DANCE_MUSIC_SIZES
from x2i.models.random.sound_tokens import SOUND_TOKEN_SIZES

SYSTEMS = ("diffsound", "cdcd-music")


def built(system, tmp_path, variant="tiny"):
    return system_spec(system).build(ExportPlan(system, tmp_path / "out", random_weights=variant))


@torch.no_grad()
@pytest.mark.parametrize("system", SYSTEMS)
def test_graphs_fit_the_plan(system, tmp_path):
    build = built(system, tmp_path)
    components = {component.name: component for component in build.components}
    assert len(components) == build.count and not build.plan.problems(set(components))
    made = {}
    for name, component in components.items():
        returned = component.module(*component.example(component.proof).values())
        outputs = returned if isinstance(returned, tuple) else (returned,)
        made |= {(name, output): value for output, value in zip(component.outputs, outputs, strict=True)}
        assert all(value.isfinite().all() and value.float().std() > 1e-3 for value in outputs), name
    (tail,) = build.plan.process.tails
    first, last = tail.stages[0].graph, tail.stages[-1].graph
    sounds = components[last].module(made[first, "mel"]) if last != first else made[last, "waveform"]
    assert sounds.shape[1] % build.plan.process.grid[1] == 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_another_name(system, tmp_path):
    with pytest.raises(CheckpointError, match=r"random weights: expected .* or tiny, got 'sd15'"):
        built(system, tmp_path, "sd15")


def test_released_sizes_are_whole():
    sound, music = SOUND_TOKEN_SIZES["audiocaps"], DANCE_MUSIC_SIZES["top"]
    assert sound.grid[0] * sound.codec.factor == sound.vocoder.mels
    assert sound.grid[1] * sound.codec.factor * sound.vocoder.hop == 217088
    assert music.codec.hop == 128 and music.transformer.length * music.codec.hop / 22050 == pytest.approx(6, abs=0.01)
    for sizes in (*SOUND_TOKEN_SIZES.values(), *DANCE_MUSIC_SIZES.values()):
        assert sizes.transformer.classes == sizes.codec.codes
