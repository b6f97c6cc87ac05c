"""LoRAs as inputs of a run: what folding draws, switched from call to call, and nothing left when they are off."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.runtime import InputError, Pipeline, load
from x2i.runtime.lora.choice import LoraChoice

from tests.bundles import tiny
from tests.made_once import made_once
from tests.numerics import assert_close
from tests.runtime.lora.forms import LAYERS, Halves, halves, written

NOISE = np.random.default_rng(5).standard_normal((2, 4, 9, 14), np.float32)
QUICK: dict[str, Any] = {"noise": NOISE, "steps": 3, "guidance": 4.0}
CROSS = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
pytestmark = pytest.mark.filterwarnings("ignore")


def pointwise(seed: int) -> dict[tuple[str, str], Halves]:
    """Changes of all layers but those with larger kernels, as large as the weights."""
    found = {}
    for (part, path), (down, up) in halves(seed).items():
        if all(size == 1 for size in LAYERS[part][path][2:]):
            found[part, path] = (down * down[0].size ** -0.5, up * 0.3)
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("loras")
    save_file(written("kohya", pointwise(1), alphas=True), folder / "a.safetensors")
    some = {place: each for place, each in pointwise(2).items() if place[1] != CROSS}
    save_file(written("diffusers", some), folder / "b.safetensors")
    return folder / "a.safetensors", folder / "b.safetensors"


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load(tiny("sd"), backend="cpu")


def drawn(pipeline: Pipeline, *loras: Any, prompt: str | None = "a red apple", **options: Any) -> np.ndarray:
    *_, last = pipeline.steps(prompt, **QUICK | options, **({"lora": list(loras)} if loras else {}))
    return last.latents


def folded(system: str, *loras: LoraChoice) -> Pipeline:
    def export(out: Path) -> None:
        export_bundle(ExportPlan(system, out, random_weights="tiny", loras=loras))

    names = "-".join(f"{lora.path.stem}{lora.weight:g}" for lora in loras)
    return load(made_once(f"folded-{system}-{names}", export, [lora.path for lora in loras]), backend="cpu")


def test_two_at_once_draw_what_folding_draws(pipeline, files):
    weights = (0.6, -0.4)
    expected = drawn(folded("sd", *map(LoraChoice, files, weights)))
    together = drawn(pipeline, *(f"{path}:{weight}" for path, weight in zip(files, weights, strict=True)))
    assert_close(together, expected, "latents")
    assert_close(drawn(pipeline, *zip(files, weights, strict=True)), together, "exact")
    plain = drawn(pipeline)
    for alone in files:
        assert np.abs(drawn(pipeline, alone) - together).max() > 0.05 * plain.std()


def test_switching_leaves_nothing_behind(pipeline, files):
    plain, first = drawn(pipeline), drawn(pipeline, files[0])
    second = drawn(pipeline, files[1])
    assert not np.array_equal(first, second)
    assert_close(drawn(pipeline, files[0]), first, "exact")
    assert_close(drawn(pipeline, files[1]), second, "exact")
    for off in ((), (f"{files[0]}:0",)):
        assert_close(drawn(pipeline, *off), plain, "exact")


def test_without_one_the_plain_graphs_are_opened_alone(files):
    pipeline = load(tiny("sd"), backend="cpu")
    output = pipeline("a red apple", **QUICK)
    assert set(output.graphs) == {"denoiser"}
    assert not any(graph.endswith(".lora") for graph in pipeline._sessions.open)
    assert set(pipeline("a red apple", lora=str(files[0]), **QUICK).graphs) == {"denoiser.lora"}


def test_keys_of_the_context_cost_the_loop_nothing(pipeline, tmp_path):
    """Only the projection's graph is another: once a picture."""
    save_file(written("kohya", {("unet", CROSS): pointwise(3)["unet", CROSS]}), tmp_path / "keys.safetensors")
    output = pipeline("a red apple", lora=tmp_path / "keys.safetensors", **QUICK)
    assert set(output.graphs) == {"denoiser"}
    assert pipeline.check("a red apple", lora=tmp_path / "keys.safetensors").inputs.lora.keys() == {"projection"}
    assert not np.array_equal(output.latents, drawn(pipeline))


def test_the_rank_is_filled_up(pipeline, files):
    """To a power of two, so that files of like ranks share what a backend compiled."""
    arrays = pipeline.check("x", lora=str(files[0])).inputs.lora["denoiser"]
    ranks = [len(pointwise(1)[place][0]) for place in pointwise(1) if place[0] == "unet" and place[1] != CROSS]
    assert arrays["lora_down"].shape[1] == arrays["lora_up"].shape[0] == 1 << (max(ranks) - 1).bit_length()
    thrice = pipeline.check("x", lora=[str(files[0])] * 3).inputs.lora["denoiser"]
    assert thrice["lora_down"].shape[1] == 1 << (3 * max(ranks) - 1).bit_length()


def test_on_openvino(files):
    pytest.importorskip("openvino")
    pipeline, peer = (load(tiny("sd"), backend=name) for name in ("openvino", "cpu"))
    assert_close(drawn(pipeline, files[0]), drawn(peer, files[0]), "latents")
    assert_close(drawn(pipeline), drawn(peer), "latents")


def test_elite_changes_its_own_keys_and_values(files):
    """The factors come on top of the weights that it brings."""
    subject = np.random.default_rng(9).integers(0, 256, (50, 40, 3), np.uint8)
    options = {"subject": subject, "prompt": "a S on the moon"}
    whole = drawn(folded("elite", LoraChoice(files[0], 0.5)), **options)
    pipeline = load(tiny("elite"), backend="cpu")
    assert_close(drawn(pipeline, (files[0], 0.5), **options), whole, "elite-latents")
    assert np.abs(drawn(pipeline, **options) - whole).max() > 0.05 * whole.std()


def test_a_system_without_clip_leaves_the_text_out(tiny_bundle, files):
    pipeline = load(tiny_bundle, backend="cpu")
    request = pipeline.check("un chat", language="French", lora=str(files[0]))
    assert request.inputs.lora.keys() == {"projection", "denoiser"}
    assert any("3 layers of CLIP's text encoder are left out" in note for note in request.notes)


@pytest.mark.parametrize("form", ["loha", "lokr"])
def test_products_of_factors_are_factors(pipeline, tmp_path, form):
    random = np.random.default_rng(4)
    query = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32) * 0.5

    tensors = {
        "loha": {f"hada_w{n}_a": normal(32, 2) for n in (1, 2)} | {f"hada_w{n}_b": normal(2, 32) for n in (1, 2)},
        "lokr": {"lokr_w1": normal(4, 4), "lokr_w2_a": normal(8, 2), "lokr_w2_b": normal(2, 8)},
    }[form]
    path = tmp_path / f"{form}.safetensors"
    save_file({f"{query}.{role}": array for role, array in tensors.items()}, path)
    assert_close(drawn(pipeline, path), drawn(folded("sd", LoraChoice(path))), "latents")


def refusal(pipeline: Pipeline, given: Any, **options: Any) -> str:
    with pytest.raises(InputError) as refused:
        pipeline.check("x", lora=given, **options)
    return str(refused.value)


def test_refusals(pipeline, files, tmp_path):
    save_file(written("kohya", halves()), tmp_path / "kernels.safetensors")
    full = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    whole = {f"{full}.lokr_w1": np.ones((8, 8), np.float32), f"{full}.lokr_w2": np.ones((4, 4), np.float32)}
    save_file(whole, tmp_path / "full.safetensors")
    assert "larger kernels" in refusal(pipeline, str(tmp_path / "kernels.safetensors"))
    assert "fold it with x2i export --lora" in refusal(pipeline, str(tmp_path / "full.safetensors"))
    for name in ("nowhere.safetensors:0.5", "n" * 1000, "n\0.safetensors", "/".join(["d" * 200] * 30)):
        assert "expected a LoRA's file" in refusal(pipeline, name)
    assert "with a number as the weight" in refusal(pipeline, f"{files[0]}:x")
    for value in (3, [3], [(files[0], "1")], (3, 0.5), [["a", 1]]):
        assert "lora: expected a path such as" in refusal(pipeline, value)
    both = refusal(pipeline, ["one.safetensors", "two.safetensors"], steps=0)
    assert all(word in both for word in ("one.safetensors", "two.safetensors", "steps"))
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04")
    assert "a safetensors file" in refusal(pipeline, str(tmp_path / "a.pt"))


def test_bundles_from_before_take_none(pipeline, files):
    manifest = pipeline.bundle.manifest
    old = replace(manifest, plan=replace(manifest.plan, lora=None))
    plain = Pipeline(replace(pipeline.bundle, manifest=old), pipeline.session)
    assert "lora: this bundle takes none" in refusal(plain, str(files[0]))
