"""Drawing under a limit: graphs are closed, the picture stays, too little is refused before anything opens."""

import gc
import shutil
from dataclasses import replace
from pathlib import Path
from weakref import WeakSet

import numpy as np
import pytest
from click.testing import CliRunner
from x2i.runtime import memory_limit
from x2i.runtime.bundle.preset import Preset
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError
from x2i.runtime.load import load
from x2i.runtime.memory_limit import MemoryLimit, RunShape, parsed_size
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.sessions.backends import BACKENDS

from tests.runtime.toy import Sessions, edit_manifest, plan, write_toy

ASKED = {"language": "French", "steps": 2, "sampler": "ddim"}


class Counted(Sessions):
    """Stand-ins that tell how many of them somebody still holds whenever another one is opened."""

    def __init__(self):
        super().__init__()
        self.pipeline: Pipeline | None = None
        self.alive: WeakSet = WeakSet()
        self.alive_then: list[int] = []

    def open(self, graph: str):
        assert self.pipeline is not None, "opened before it was needed"
        gc.collect()
        self.alive_then.append(len(self.alive))
        session = super().open(graph)
        self.alive.add(session)
        return session


def counted(folder: Path, limit: int) -> tuple[Pipeline, Counted]:
    bundle, sessions = open_bundle(folder), Counted()
    sessions.pipeline = Pipeline(bundle, sessions.open, limit=MemoryLimit(limit, bundle, "cpu"))
    return sessions.pipeline, sessions


def test_one_graph_is_open_at_a_time(tmp_path):
    pipeline, sessions = counted(write_toy(tmp_path / "toy"), 10**9)
    for _ in range(2):
        pipeline("pomme", **ASKED)
    order = ["encoder", "translator.French", "denoiser", "decoder"]
    assert sessions.opened == order * 2
    assert sessions.alive_then == [0] * 8
    assert pipeline._sessions.open == {"decoder"}


def test_a_preview_opens_the_decoder_and_the_loop_goes_on(tmp_path):
    free = Pipeline(open_bundle(write_toy(tmp_path / "free")), Sessions().open)
    pipeline, _ = counted(write_toy(tmp_path / "toy"), 10**9)
    for ours, theirs in zip(pipeline.steps("pomme", **ASKED), free.steps("pomme", **ASKED), strict=True):
        assert ours.preview()[0].tobytes() == theirs.preview()[0].tobytes()
        assert np.array_equal(ours.latents, theirs.latents)


def test_a_preview_never_has_the_decoder_beside_the_denoiser(tmp_path):
    """Not even as something that the denoiser has bound."""
    pipeline, sessions = counted(write_toy(tmp_path / "toy"), 10**9)
    for step in pipeline.steps("pomme", **ASKED):
        assert step.preview()
    assert sessions.opened == ["encoder", "translator.French", *["denoiser", "decoder"] * 2]
    assert set(sessions.alive_then) == {0}


def test_the_limit_counts_the_preset_of_the_call(tmp_path):
    """Two shapes of calls where guidance ends on the way: by the pipeline's preset, not where a call names none."""
    changed = replace(plan(), presets={"half": Preset(guidance_interval=(1000.0, 500.0))})
    bundle, counts = open_bundle(write_toy(tmp_path / "toy", plan=changed)), []

    class Noting(MemoryLimit):
        def first_that_fits(self, works, graphs):
            counts.append(works[0].calls)
            return super().first_that_fits(works, graphs)

    pipeline = Pipeline(bundle, Sessions().open, preset="half", limit=Noting(10**9, bundle, "cpu"))
    pipeline("pomme", **ASKED)
    pipeline("pomme", preset=None, **ASKED)
    assert counts == [2, 1]


def test_the_picture_is_the_same_byte_for_byte(tiny_bundle):
    free = load(tiny_bundle)
    pipeline = load(tiny_bundle, max_memory="8GB")
    assert not pipeline._sessions.open
    for seed in (0, 1):
        ours, theirs = (pipe("rot", language=_language(pipe), steps=2, seed=seed) for pipe in (pipeline, free))
        assert ours.images[0].tobytes() == theirs.images[0].tobytes()
        assert pipeline._sessions.open == {pipeline.bundle.manifest.plan.latents.decoder.graph}


def test_too_little_is_refused_in_words_before_anything_opens(tmp_path):
    pipeline, sessions = counted(write_toy(tmp_path / "toy"), 300_000_000)
    with pytest.raises(InputError, match=r"expected at least [\d.]+ GB, which denoiser needs .*, got 0.30 GB; raise"):
        pipeline("pomme", size=(512, 512), **ASKED)
    assert not sessions.opened
    pipeline("pomme", size=(64, 64), **ASKED)
    assert "decoder" in sessions.opened


def test_needs_grow_with_what_is_drawn(tmp_path):
    bundle = open_bundle(write_toy(tmp_path / "toy"))
    limit, graphs = MemoryLimit(1, bundle, "cpu"), ("encoder", "denoiser", "decoder")
    few = limit.peak_bytes(RunShape(64, 1, 1), graphs)
    for more in (RunShape(80, 1, 1), RunShape(64, 3, 1), RunShape(64, 1, 2)):
        assert limit.peak_bytes(more, graphs)["denoiser"] > few["denoiser"], more
    assert limit.peak_bytes(RunShape(64, 3, 1), graphs)["decoder"] > few["decoder"]
    assert limit.peak_bytes(RunShape(64, 3, 1), graphs)["encoder"] == few["encoder"]


def test_the_first_way_to_draw_that_keeps_to_the_limit_is_taken(tmp_path):
    bundle, graphs = open_bundle(write_toy(tmp_path / "toy")), ("denoiser", "decoder")
    both, one = RunShape(10**6, 1, 2), RunShape(10**6, 1, 1)
    most = {work: max(MemoryLimit(1, bundle, "cpu").peak_bytes(work, graphs).values()) for work in (both, one)}
    for limit, chosen in ((most[both], both), (most[both] - 1, one), (most[one], one)):
        assert MemoryLimit(limit, bundle, "cpu").first_that_fits([both, one], graphs) == chosen
    with pytest.raises(InputError, match=f"at least {most[one] / 1e9:.2f} GB"):
        MemoryLimit(most[one] - 1, bundle, "cpu").first_that_fits([both, one], graphs)


def test_engines_spare_memory_where_they_serve(tiny_bundle, tmp_path, monkeypatch):
    """Those of int8 graphs on OpenVINO are for the plan's size, one picture, guidance on."""
    with_engine: set[str] = set()
    rows: set[int] = {2}

    def prepared(graph, shapes):
        return graph.name in with_engine and (shapes is None or shapes["latents"][0] in rows)

    for name in ("cpu", "openvino"):
        monkeypatch.setitem(BACKENDS, name, replace(BACKENDS[name], prepared=prepared))
    # As if OpenVINO held copies of int8 weights where there is no engine.
    monkeypatch.setitem(memory_limit.BYTES_PER_FILE_BYTE["openvino"], "int8", 2.3)
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    edit_manifest(folder, lambda data: data["graphs"]["denoiser"].update(precision="int8"))
    edit_manifest(folder, lambda data: data["files"]["denoiser.onnx"].update(bytes=10**9))
    bundle = open_bundle(folder, check_files=False)
    decoder = bundle.manifest.plan.latents.decoder
    usual = RunShape(decoder.size[0] * decoder.size[1] // decoder.factor**2, 1, 2)
    for backend in ("cpu", "openvino"):
        limit = MemoryLimit(10**8, bundle, backend)
        with_engine.clear()
        anew = limit.peak_bytes(usual, ("encoder", "denoiser", "decoder"))
        with_engine.add("denoiser")
        spared = limit.peak_bytes(usual, ("encoder", "denoiser", "decoder"))
        assert spared["denoiser"] < anew["denoiser"] - 9 * 10**8, backend
        assert spared["decoder"] == anew["decoder"]
        smaller = limit.peak_bytes(replace(usual, cells=usual.cells - 5), ("denoiser", "decoder"))["denoiser"]
        assert (smaller < anew["denoiser"] - 9 * 10**8) is (backend == "cpu")
        with pytest.raises(InputError, match=f"which denoiser needs at its peak, .*x2i build BUNDLE --for {backend}"):
            limit.first_that_fits([usual], ("denoiser", "decoder"))
        with pytest.raises(InputError, match="which the weights of denoiser need alone"):
            limit.first_that_fits([RunShape()], ("denoiser", "decoder"))


def test_a_guidance_that_ends_on_the_way_holds_the_weights_of_a_fixed_graph_twice(tmp_path, monkeypatch):
    folder = write_toy(tmp_path / "toy")
    edit_manifest(folder, lambda data: data["graphs"]["denoiser"].update(precision="int8"))
    edit_manifest(folder, lambda data: data["files"]["denoiser.onnx"].update(bytes=10**9))
    bundle = open_bundle(folder, check_files=False)
    for backend, more in (("cpu", 0), ("openvino", 13 * 10**8)):
        limit = MemoryLimit(10**8, bundle, backend)
        once, twice = (
            limit.peak_bytes(RunShape(64, 1, 2, calls), ("denoiser", "decoder"))["denoiser"] for calls in (1, 2)
        )
        assert twice - once == more, backend


def test_variants_of_the_denoiser_stay_together(tmp_path):
    limit = MemoryLimit(1, open_bundle(write_toy(tmp_path / "toy")), "cpu")
    assert limit.co_resident("denoiser", "denoiser.takes-deep.3")
    assert not limit.co_resident("denoiser", "decoder")


def test_sizes_in_words():
    assert [parsed_size(text) for text in ("4GB", "512 MiB", "1.5g", 70)] == [4 * 10**9, 512 * 2**20, 15 * 10**8, 70]
    for wrong in ("", "four", "-1GB", "0", "4TB", "nan", "0.5", "9" * 400, "9" * 30 + "GB", 10**400, None, True):
        with pytest.raises(InputError, match="max_memory: expected a size"):
            parsed_size(wrong)


def test_a_gpu_and_a_second_bundle_are_refused(tmp_path):
    bundle = open_bundle(write_toy(tmp_path / "toy"))
    for backend in ("rtx", "cuda", "openvino:GPU"):
        with pytest.raises(InputError, match=r"a backend in the CPU's memory"):
            MemoryLimit(10**9, bundle, backend)
    with pytest.raises(InputError, match="one bundle alone"):
        load(bundle.folder, "cpu", text_bundle=bundle.folder, max_memory="4GB")


def test_the_command_refuses_with_code_2(tiny_bundle, tmp_path):
    out = tmp_path / "a.png"
    arguments = ["run", str(tiny_bundle), "rot", "--backend", "cpu", "--max-memory", "1MB", "--out", str(out)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert "expected at least" in result.stderr
    assert not out.exists()


def _language(pipeline: Pipeline) -> str:
    names = pipeline.bundle.manifest.graphs
    return next(name.removeprefix("translator.") for name in names if name.startswith("translator."))
