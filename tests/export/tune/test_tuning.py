"""`x2i tune`: what is tried, written and refused; a refusal leaves the bundle as it was."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from x2i.export.errors import GateError, PlanError
from x2i.export.tune.candidates import Tuning, candidates, preset_families
from x2i.export.tune.graph_calls import calls_of
from x2i.export.tune.tune import tune
from x2i.runtime.bundle.preset import Preset
from x2i.runtime.bundle.reader import open_bundle

from tests.export.tune.presets import files


def test_tuning_measures_and_writes_a_preset(tiny_bundle, preset_bundle, tmp_path, monkeypatch):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    # As on a command line: by a name that holds only here.
    monkeypatch.chdir(tmp_path)
    found = tune(
        Path("bundle"), Tuning(steps=4, quality=1.0, backend="cpu", runs=1, like=(preset_bundle, "cached"), accept=True)
    )
    assert open_bundle(folder).manifest.plan.presets == {"fast": found}
    assert (found.cache_interval, found.cache_depth) == (3, 1)
    assert found.tuned is not None and len(found.tuned.measured) == 2 and found.tuned.seconds > 0
    assert found.tuned.plain == "plms, 4 steps"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"], "nothing is left beside it"


def test_what_is_too_far_is_refused_and_nothing_is_written(tiny_bundle, preset_bundle, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    before = files(folder)
    with pytest.raises(GateError, match=r"fast: PSNR [\d.]+ dB, at least 99.0 dB are asked; nothing was written"):
        tune(folder, Tuning(steps=4, quality=99.0, backend="cpu", runs=1, like=(preset_bundle, "cached")))
    assert files(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_polite_kill_leaves_nothing(tiny_bundle, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    before = files(folder)
    words = ("tune", str(folder), "--steps", "20", "--backend", "cpu")
    command = (sys.executable, "-c", "from x2i.runtime.cli import main; main()", *words)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not list(tmp_path.glob(".tuning.*/denoiser.onnx")) and process.poll() is None:
        time.sleep(0.02)
    process.terminate()
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 1, told
    assert told.strip().endswith("Aborted!"), told
    assert files(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_what_is_slower_is_refused(tiny_bundle, preset_bundle, tmp_path, monkeypatch):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    before = files(folder)
    monkeypatch.setattr("x2i.export.tune.tune._timed", lambda *given: (2.0, 2.0))
    with pytest.raises(GateError, match=r"fast: 2.00 s a run, the plain loop takes 2.00 s; nothing was written"):
        tune(folder, Tuning(steps=4, quality=1.0, backend="cpu", runs=1, like=(preset_bundle, "cached")))
    assert files(folder) == before


def test_bad_options_are_told_together(tiny_bundle):
    with pytest.raises(PlanError) as refused:
        tune(tiny_bundle, Tuning(name="a/b", quality=0, ways=("steps", "luck"), runs=0))
    assert len(refused.value.problems) == 4
    with pytest.raises(PlanError, match=r"--like: expected a preset of .* \(it has none\), got 'fast'"):
        tune(tiny_bundle, Tuning(steps=2, like=(tiny_bundle, "fast"), backend="cpu"))


def test_only_what_may_change_is_tried(preset_bundle):
    plan = open_bundle(preset_bundle).manifest.plan
    everything = list(candidates(plan, 20))
    assert len(everything) == len(set(everything))
    assert Preset(plan.latents.sampler.name, 20) not in everything
    assert list(candidates(plan, 20, ways=("thinning",))) == [Preset(plan.latents.sampler.name, 20, kv_downsample=2)]
    cached = list(candidates(plan, 20, ways=("caching",)))
    assert {(preset.cache_interval, preset.cache_depth) for preset in cached} == {
        (every, d) for every in (2, 3, 5) for d in (1, 2)
    }
    assert all(
        preset == Preset(plan.latents.sampler.name, 20, preset.cache_interval, preset.cache_depth) for preset in cached
    )


def test_the_probe_makes_every_call_that_its_family_makes(preset_bundle):
    plan = open_bundle(preset_bundle).manifest.plan
    for family in preset_families(plan, candidates(plan, 20)):
        probed = calls_of(plan, family.probe)
        for preset in family.members:
            assert calls_of(plan, preset).keys() <= probed.keys(), preset
