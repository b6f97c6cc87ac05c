"""Presets in a bundle: what they draw, their graphs and engines, what is refused."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from x2i.export.reuse.checked_variants import with_variants
from x2i.export.tune.graph_calls import calls_of
from x2i.export.tune.publish import bundle_copy
from x2i.runtime import load, memory_limit
from x2i.runtime.bundle.preset import Preset
from x2i.runtime.bundle.reader import file_record, open_bundle
from x2i.runtime.cli import main
from x2i.runtime.engines.build_request import BuildRequest
from x2i.runtime.engines.shape_ranges import shape_ranges
from x2i.runtime.errors import InputError
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.profiling.recorder import Recorder
from x2i.runtime.sessions.backends import open_session

from tests.export.tune.presets import PRESETS, RUN, add, files
from tests.numerics import assert_close


@pytest.fixture(scope="session")
def drawn(preset_bundle):
    """The run under every preset, and without one."""
    pipeline = load(preset_bundle, "cpu")
    own = {name: value for name, value in RUN.items() if name not in ("steps", "sampler")}
    runs = {name: RUN if name != "few" else own for name in (None, *PRESETS)}
    return {name: pipeline(preset=name, **run) for name, run in runs.items()}


@pytest.mark.parametrize("name", ["plain", "whole"])
def test_what_leaves_nothing_out_draws_the_same(drawn, name):
    np.testing.assert_array_equal(drawn[name].latents, drawn[None].latents)


def test_guidance_nowhere_is_no_guidance(drawn, preset_bundle):
    unguided = load(preset_bundle, "cpu")(guidance=1.0, **RUN)
    np.testing.assert_array_equal(drawn["unguided"].latents, unguided.latents)


def test_every_preset_changes_something(drawn):
    named = {name: output.latents for name, output in drawn.items() if name not in ("plain", "whole")}
    for name, latents in named.items():
        assert np.isfinite(latents).all()
        for other, theirs in named.items():
            assert (name == other) == np.array_equal(latents, theirs), (name, other)


def test_calls_are_those_counted_beforehand(drawn, preset_bundle):
    plan = open_bundle(preset_bundle).manifest.plan
    process = replace(plan.latents, sampler=replace(plan.latents.sampler, name="ddim"))
    plan = replace(plan, processes=(process,))
    for name, preset in PRESETS.items():
        graphs = drawn[name].graphs
        assert {graph: graphs.count(graph) for graph in graphs} == _by_graph(calls_of(plan, preset, RUN["steps"]))
    assert drawn["cached"].graphs[:4] == (
        "denoiser.gives-deep.1",
        *("denoiser.takes-deep.1",) * 2,
        "denoiser.gives-deep.1",
    )


def _by_graph(counted) -> dict[str, int]:
    found: dict[str, int] = {}
    for (graph, _), times in counted.items():
        found[graph] = found.get(graph, 0) + times
    return found


def test_several_pictures_are_drawn_as_one_by_one(preset_bundle):
    pipeline = load(preset_bundle, "cpu", preset="both")
    run = {name: value for name, value in RUN.items() if name != "seed"}
    together = pipeline(count=2, seed=5, **run).latents
    for number in range(2):
        np.testing.assert_allclose(pipeline(seed=5 + number, **run).latents[0], together[number], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [None, *PRESETS])
def test_sides_of_the_guidance_called_apart_draw_the_same(drawn, preset_bundle, monkeypatch, name):
    """As under a limit that calls of both would break; each side takes what it gave itself."""
    monkeypatch.setitem(memory_limit.DENOISER_BYTES_PER_CELL, "cpu", 10**6)
    pipeline, recorder = load(preset_bundle, "cpu", max_memory="600MB"), Recorder()
    recorder.captured = []
    recording = recorder.opener(pipeline._sessions)
    recording.open = frozenset()
    monkeypatch.setattr(pipeline, "_sessions", recording)
    run = RUN if name != "few" else {option: RUN[option] for option in ("prompt", "language", "seed")}
    assert_close(pipeline(preset=name, **run).latents, drawn[name].latents, "batched-latents")
    calls = [called for called in recorder.captured if called.graph.startswith("denoiser")]
    assert {len(called.arrays["latents"]) for called in calls} == {1}
    plan = pipeline.bundle.manifest.plan
    process = replace(plan.latents, sampler=replace(plan.latents.sampler, name="ddim"))
    plan = replace(plan, processes=(process,))
    counted = calls_of(plan, PRESETS[name or "plain"], RUN["steps"])
    assert len(calls) == sum(rows * times for (_, rows), times in counted.items())


def test_a_bundle_with_presets_verifies_and_tells_of_them(preset_bundle):
    runner = CliRunner()
    assert runner.invoke(main, ["verify", str(preset_bundle), "--backend", "cpu"]).exit_code == 0
    told = runner.invoke(main, ["inspect", str(preset_bundle)]).output
    assert "preset cached: one call of 3 in full, the others from skip connection 1 on" in told
    assert "preset few: euler 3 steps" in told
    assert "keys and values of every 2. row and column" in told


def test_a_preset_alone_opens_only_its_graphs(preset_bundle):
    bundle, opened = open_bundle(preset_bundle), []

    def open_one(name: str):
        opened.append(name)
        return open_session("cpu", bundle.graph_file(name))

    Pipeline(bundle, open_one, preset="cached")
    denoisers = {name for name in opened if name.startswith("denoiser")}
    assert denoisers == {"denoiser.gives-deep.1", "denoiser.takes-deep.1"}


def test_an_unknown_preset_is_refused(preset_bundle, tiny_bundle):
    with pytest.raises(InputError, match=r"preset: expected one of plain, .*, got 'quick'; make one with x2i tune"):
        load(preset_bundle, "cpu", preset="quick")
    with pytest.raises(InputError, match="preset: this bundle has none, got 'fast'"):
        load(tiny_bundle, "cpu")(preset="fast", **RUN)


def test_what_is_there_is_never_written_again(preset_bundle, tmp_path):
    """Another CPU's features differ in their last bits; a bundle's files may be another's as well."""
    folder = tmp_path / "bundle"
    shutil.copytree(preset_bundle, folder)
    feature = "proof/denoiser.features/deep.2.npy"
    array = np.load(folder / feature)
    np.save(folder / feature, np.nextafter(array, np.inf))
    bundle = open_bundle(folder, check_files=False)
    known = bundle.manifest.files | {feature: file_record(folder / feature)}
    bundle, before = replace(bundle, manifest=replace(bundle.manifest, files=known)), files(folder)
    with bundle_copy(bundle) as work:
        made = with_variants(work, Preset(cache_interval=3, cache_depth=2, tgate_from=300).variants("denoiser"))
        assert len(made.manifest.graphs) > len(bundle.manifest.graphs)
    assert files(folder) == before


def test_a_preset_that_replaces_another_takes_its_graphs_along(tiny_bundle, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    add(folder, "fast", Preset(cache_interval=2, cache_depth=2))
    add(folder, "fast", Preset(cache_interval=2))
    open_bundle(folder)
    names = sorted(
        path.name for path in folder.glob("denoiser*") if path.stem not in ("denoiser.lora", "denoiser.paint")
    )
    assert names == ["denoiser.gives-deep.1.onnx", "denoiser.onnx", "denoiser.takes-deep.1.onnx"]
    add(folder, "fast", Preset(steps=3))
    assert files(folder) == files(tiny_bundle), "a preset of few steps needs no graphs"


def test_engines_know_the_sizes_of_every_graph_of_a_preset(preset_bundle):
    manifest = open_bundle(preset_bundle).manifest
    profiles = shape_ranges(manifest, [(72, 40)])
    assert profiles.keys() == manifest.graphs.keys() - manifest.plan.side_graphs()
    for name in ("denoiser.takes-deep.1", "denoiser.takes-deep.2", "denoiser.takes-cross"):
        sizes = {size for tensor in manifest.graphs[name].inputs for size in tensor.shape if isinstance(size, str)}
        assert profiles[name].keys() == sizes
    deep = {tensor.name: tensor.shape for tensor in manifest.graphs["denoiser.takes-deep.2"].inputs}["deep.2"]
    height, width = (profiles["denoiser.takes-deep.2"][size][1] if isinstance(size, str) else size for size in deep[2:])
    assert (height, width) == (9, 5)


def test_engines_of_one_size_are_those_that_runs_call_for(preset_bundle):
    bundle = open_bundle(preset_bundle)
    jobs = BuildRequest("openvino", sizes=((72, 40), (64, 64))).jobs(bundle)
    built = {(job.name, job.usual()["latents"]) for job in jobs if job.name.startswith("denoiser")}
    called: set[tuple[str, tuple[int, ...]]] = set()

    class Noted:
        def __init__(self, name: str):
            self._name, self._session = name, open_session("cpu", bundle.graph_file(name))
            self.inputs, self.outputs = self._session.inputs, self._session.outputs

        def __call__(self, **arrays):
            return self._session(**arrays)

        def bind(self, **bound):
            return lambda **arrays: self._noted(self._session.bind(**bound), arrays)

        def _noted(self, call, arrays):
            called.add((self._name, arrays["latents"].shape))
            return call(**arrays)

    pipeline = Pipeline(bundle, Noted)
    run = {name: value for name, value in RUN.items() if name not in ("steps", "sampler")}
    for size in ((72, 40), (64, 64)):
        pipeline(size=size, steps=2, **run)
        for name in ("cached", "frozen", "unguided", "both"):
            pipeline(preset=name, size=size, steps=5, **run)
    assert called and called <= built
    assert {rows for name, (rows, *_) in built if name == "denoiser.takes-cross"} == {1}
    with pytest.raises(InputError, match="--size: OpenVINO's engines serve every size"):
        BuildRequest("openvino", device="GPU", sizes=((72, 40),)).jobs(bundle)
