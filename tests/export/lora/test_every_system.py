"""Every system on a Stable Diffusion base takes LoRAs, on top of the weights that it replaces."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn
from x2i.export.errors import PlanError
from x2i.export.plan import ExportPlan
from x2i.export.system import Build
from x2i.export.systems.registry import SYSTEMS, system_spec
from x2i.runtime.lora.choice import LoraChoice

from tests.numerics import assert_close
from tests.runtime.lora.forms import halves, written

ON_A_BASE = [name for name in SYSTEMS if not system_spec(name).stands_alone]
CROSS = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
WEIGHT = -0.7


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lora") / "a.safetensors"
    save_file(written("kohya", halves()), path)
    return path


def built(system: str, *loras: LoraChoice, **options) -> Build:
    return system_spec(system).build(ExportPlan(system, Path("out"), random_weights="tiny", loras=loras, **options))


def weights(build: Build) -> dict[str, torch.Tensor]:
    """Every weight of the components by its graph and name; keys and values are those of the projection."""
    return {
        f"{component.name} {name}": value
        for component in build.components
        for name, value in component.module.state_dict().items()
    }


@pytest.mark.parametrize("system", ON_A_BASE)
@torch.no_grad()
def test_the_weights_that_are_traced(system, file):
    plain, build = weights(built(system)), built(system, LoraChoice(file, WEIGHT))
    folded = weights(build)
    reads_text = system_spec(system).reads_clip
    changed = {name for name, value in plain.items() if not torch.equal(value, folded[name])}
    for (part, path), (down, up) in halves().items():
        if part == "text_encoder" and not reads_text:
            continue
        graph = "denoiser unet" if part == "unet" else "text_encoder model"
        (name,) = (key for key in plain if key.startswith(graph) and key.endswith(f"{path}.weight"))
        rank = len(down)
        change = torch.from_numpy(up.reshape(-1, rank) @ down.reshape(rank, -1)).double() * WEIGHT
        expected = plain[name].double() + change.reshape(plain[name].shape)
        assert_close(folded[name].numpy(), expected.float().numpy(), "folded")
        changed -= {name}
        if path == CROSS:
            projected = "projection matrices.0"
            assert_close((folded[projected] - plain[projected]).numpy(), change.float().numpy(), "folded")
            changed -= {projected}
    assert not {name for name in changed if not name.startswith(("denoiser own_upsamplers", "denoiser unet.up"))}
    assert any("3 layers of CLIP's text encoder" in note for note in build.notes) == (not reads_text)


def test_the_weights_of_elite_are_those_that_a_lora_changes(file):
    """Its global keys and values take the place of the UNet's, so that a LoRA's change comes on top of them."""
    plain, folded = (weights(built("elite", *loras)) for loras in ((), (LoraChoice(file),)))
    base = weights(built("sd"))
    projected = "projection matrices.0"
    assert not torch.equal(plain[projected], base[projected])
    down, up = halves()["unet", CROSS]
    assert_close((folded[projected] - plain[projected]).numpy(), up @ down, "folded")
    assert torch.equal(plain["local_projection matrices.0"], folded["local_projection matrices.0"])


def test_several_are_rounded_once(file):
    """A change and its opposite leave the bytes that were."""
    plain = weights(built("sd"))
    both = weights(built("sd", LoraChoice(file, 3.7), LoraChoice(file, -3.7)))
    assert all(torch.equal(value, both[name]) for name, value in plain.items())


def test_layers_that_clip_skip_leaves_out(tmp_path):
    last = {place: each for place, each in halves().items() if "layers.1" in place[1]}
    save_file(written("kohya", last), tmp_path / "last.safetensors")
    save_file(written("kohya", halves()), tmp_path / "all.safetensors")
    build = built("sd", LoraChoice(tmp_path / "all.safetensors"), clip_skip=1)
    assert any("--clip-skip 1 leaves 1 of its layers out of the prompt" in note for note in build.notes)
    with pytest.raises(PlanError, match="those alone that --clip-skip 1 leaves out"):
        built("sd", LoraChoice(tmp_path / "last.safetensors"), clip_skip=1)


def test_a_lora_of_the_text_encoder_alone_is_none_for_a_system_without(tmp_path):
    text = {place: each for place, each in halves().items() if place[0] == "text_encoder"}
    save_file(written("diffusers", text), tmp_path / "text.safetensors")
    with pytest.raises(PlanError, match="got 3 layers of CLIP's text encoder alone, which this system lacks"):
        built("gluegen-text", LoraChoice(tmp_path / "text.safetensors"))


def test_convolutions_and_linears_alone_are_changed(file):
    build = built("sd", LoraChoice(file))
    kinds = {
        type(module)
        for component in build.components
        for module in component.module.modules()
        if isinstance(getattr(module, "weight", None), nn.Parameter)
    }
    assert nn.Linear in kinds and np.isfinite(sum(float(value.sum()) for value in weights(built("sd")).values()))
