"""The graph that takes painted words, in every system on a Stable Diffusion base and in lower precisions."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from x2i.export.paint.variants import without_paint
from x2i.runtime import InputError, load
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.engines import builder
from x2i.runtime.engines.build_request import BuildRequest
from x2i.runtime.engines.shape_ranges import shape_ranges

from tests.bundles import tiny
from tests.numerics import assert_close, assert_near
from tests.processes import run
from tests.runtime.sessions.recorded import Recorded

NOISE = np.random.default_rng(5).standard_normal((1, 4, 9, 14), np.float32)
PICTURE = np.random.default_rng(6).integers(0, 255, (40, 30, 3), np.uint8)
QUICK: dict[str, Any] = {"noise": NOISE, "steps": 4, "guidance": 4.0}
OWN: dict[str, tuple[str, dict[str, Any]]] = {
    "sd": ("a cat on a boat", {}),
    "gluegen-text": ("a cat on a boat", {"language": "French"}),
    "elite": ("a S on a boat", {"subject": PICTURE}),
    "ip-adapter": ("a cat on a boat", {"image": PICTURE}),
    "fastcomposer": ("a cat <|image|> on a boat", {"subjects": [PICTURE], "alpha": 0.6}),
}
"""A prompt for each system, and what else it draws from."""


def region():
    inside = np.zeros((72, 112), np.uint8)
    inside[:, 60:] = 255
    return inside, "boat", 1.5


def drawn(bundle: Path, prompt: str, backend: str = "cpu", **options: Any) -> np.ndarray:
    *_, last = load(bundle, backend=backend).steps(prompt, **QUICK | options)
    return last.latents


@pytest.mark.parametrize("system", OWN)
def test_every_system_with_a_prompt_takes_it(system):
    """A second attention goes on beside it, and at strength 0 the plain bytes are drawn."""
    bundle, (prompt, own) = tiny(system), OWN[system]
    manifest = open_bundle(bundle).manifest
    variant, plain = manifest.graphs["denoiser.paint"], manifest.graphs["denoiser"]
    assert variant.measured.error <= plain.measured.gate and variant.data == (plain.file, *plain.data)
    assert manifest.files[variant.file].bytes < 1_500_000
    before = drawn(bundle, prompt, **own)
    assert drawn(bundle, prompt, regions=region(), paint_strength=0, **own).tobytes() == before.tobytes()
    after = drawn(bundle, prompt, regions=region(), paint_strength=1.0, **own)
    assert np.linalg.norm(after - before) > 1e-2 * np.linalg.norm(before)
    if manifest.plan.injection is not None:
        other = drawn(bundle, prompt, regions=region(), paint_strength=1.0, **own, strength=0.1)
        assert np.linalg.norm(after - other) > 1e-3 * np.linalg.norm(before)


def test_sounds_have_no_words_to_paint(sound_bundle):
    manifest = open_bundle(sound_bundle).manifest
    assert manifest.plan.paint is None and "denoiser.paint" not in manifest.graphs


def test_pictures_of_one_run_do_not_influence_each_other():
    pipeline, (prompt, _) = load(tiny("sd")), OWN["sd"]
    noise = np.concatenate([NOISE, NOISE[..., ::-1]])
    for form in ("max", "std_sq"):
        painted = {"regions": region(), "paint_strength": 0.4, "paint_form": form}
        both = pipeline(prompt, **QUICK | painted | {"noise": noise}).latents
        for row in range(2):
            alone = pipeline(prompt, **QUICK | painted | {"noise": noise[row : row + 1]}).latents
            assert_close(both[row : row + 1], alone, "batched-latents")


@pytest.mark.parametrize("sampler", ["ddim", "plms", "euler_a", "heun", "dpmpp_2m_karras", "unipc", "lcm"])
def test_every_kind_of_sampler_draws_it(sampler):
    prompt, _ = OWN["sd"]
    plain, painted = (
        drawn(tiny("sd"), prompt, sampler=sampler, steps=4, **more) for more in ({}, {"regions": region()})
    )
    assert np.isfinite(painted).all() and not np.array_equal(plain, painted)


def test_openvino_draws_the_same():
    prompt, _ = OWN["sd"]
    painted = {"regions": region(), "paint_strength": 0.4, "paint_form": "std"}
    runs = [drawn(tiny("sd"), prompt, backend, **painted) for backend in ("cpu", "openvino")]
    assert_near(runs[1], runs[0], "latents")


@pytest.mark.parametrize("precision", ["int8_bundle", "half_bundle"])
def test_as_close_to_fp32_as_the_plain_graph(request, tiny_bundle, precision):
    lowered = request.getfixturevalue(precision)
    manifest = open_bundle(lowered).manifest
    variant, plain = manifest.graphs["denoiser.paint"], manifest.graphs["denoiser"]
    assert variant.precision == plain.precision and variant.measured.error <= plain.measured.gate
    assert variant.data == (plain.file, *plain.data)
    assert manifest.files[variant.file].bytes < 1_500_000
    prompt, own = OWN["gluegen-text"]
    painted = own | {"regions": region(), "paint_strength": 0.4}
    expected, before = drawn(tiny_bundle, prompt, **painted), drawn(tiny_bundle, prompt, **own)
    truth = drawn(lowered, prompt, **own) - before + expected
    assert_near(drawn(lowered, prompt, **painted), expected, "half-run-latents", peer=truth, factor=3)


def test_a_preset_that_calls_other_graphs_is_refused(preset_bundle):
    pipeline, (prompt, own) = load(preset_bundle), OWN["gluegen-text"]
    with pytest.raises(InputError, match=r"paint: the preset \w+ calls denoiser\.\S+, which takes no painted words"):
        name = next(name for name, preset in pipeline.bundle.manifest.plan.presets.items() if preset.feature)
        pipeline.check(prompt, preset=name, regions=region(), **own)


def test_the_manifest_without_it():
    manifest = open_bundle(tiny("sd")).manifest
    plain = without_paint(manifest)
    assert plain.plan.paint is None and not plain.problems()
    assert manifest.graphs.keys() - plain.graphs.keys() == {"denoiser.paint"}


def test_a_graph_is_opened_where_it_is_drawn_with():
    """Unused, painted words cost no second graph; used, theirs lies beside the plain one."""
    prompt, _ = OWN["sd"]
    graphs = {}
    for name, given in {"plain": {}, "strength 0": {"paint_strength": 0}, "painted": {}}.items():
        pipeline = Recorded(tiny("sd"))
        pipeline(prompt, **QUICK, **given, **({} if name == "plain" else {"regions": region()}))
        graphs[name] = {graph for graph in pipeline.opened if graph.startswith("denoiser")}
    assert graphs == {"plain": {"denoiser"}, "strength 0": {"denoiser"}, "painted": {"denoiser", "denoiser.paint"}}


def test_tensorrt_is_given_the_kernels(half_bundle, tmp_path):
    """Built without a GPU, so not run: every layer is one node there, and without the kernels none is."""
    pytest.importorskip("triton", reason="Triton, which compiles the kernels, is not installed")
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed", exc_type=ImportError)
    kernels, layers = tmp_path / "kernels", open_bundle(half_bundle).manifest.plan.paint.of("denoiser").layers
    words = ("--out", kernels, "--target", "sm_89", "--dtype", "float16", "--head-width", "8", "--head-width", "16")
    run(sys.executable, "-m", "x2i.kernels.build", *map(str, words), cwd=tmp_path)
    remarks = []
    for given in (kernels, None):
        request = BuildRequest("rtx", targets=("sm_89",), graphs=("denoiser.paint",), kernels=given, paint=True)
        (job,) = request.jobs(open_bundle(half_bundle))
        folder = tmp_path / f"engines-{given is None}"
        remarks += builder.build_engine(replace(job, engines=str(folder)), folder, lambda seconds: None).remarks
    assert remarks == [
        f"{len(layers)} attentions run as the compiled kernels",
        "attentions run as the graph spells them out: no --kernels given",
    ]


def test_engines_are_built_where_they_are_asked_for():
    bundle = open_bundle(tiny("sd"))
    assert "denoiser.paint" not in shape_ranges(bundle.manifest)
    ranges = shape_ranges(bundle.manifest, [(72, 112)], paint=True)["denoiser.paint"]
    assert ranges["cells_1"] == (126, 126, 126) and ranges["tokens"][0] == 77
    with pytest.raises(InputError, match=r"--graph: denoiser\.paint takes painted words; add --paint"):
        BuildRequest("openvino", graphs=("denoiser.paint",)).jobs(bundle)
    jobs = BuildRequest("openvino", graphs=("denoiser.paint",), paint=True).jobs(bundle)
    assert [job.name for job in jobs] == ["denoiser.paint"]
