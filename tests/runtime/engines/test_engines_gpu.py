"""Every backend of a GPU draws the CPU's picture: engines built on it, plain and bound calls, and whole runs."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from x2i.runtime import load
from x2i.runtime.bundle.calls import Tensor
from x2i.runtime.commands.build import build
from x2i.runtime.engines.shape_ranges import shape_ranges
from x2i.runtime.sessions.backends import BACKENDS
from x2i.runtime.sessions.session import Settings

from tests.numerics import assert_close

pytestmark = pytest.mark.gpu
GPU_BACKENDS = ("tensorrt", "rtx", "cuda")


@pytest.fixture(params=GPU_BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not BACKENDS[name].present():
        pytest.skip(f"{name} is not installed")
    if problem := BACKENDS[name].problem(None, Settings()):
        pytest.skip(problem)
    return name


@pytest.fixture
def bundle(elite_bundle: Path, backend: str, tmp_path: Path) -> Path:
    made = shutil.copytree(elite_bundle, tmp_path / "bundle")
    result = CliRunner().invoke(build, [str(made), "--for", backend, "--count", "2"])
    assert result.exit_code == 0, result.output
    return made


def test_every_graph_computes_what_the_cpu_does(bundle: Path, backend: str) -> None:
    device, cpu = load(bundle, backend), load(bundle, "cpu")
    manifest, rng = device.bundle.manifest, np.random.default_rng(1)
    for name, free in shape_ranges(manifest, count=2).items():
        for place in (2, 0, 2, 2, 1):
            sizes = {size: bounds[place] for size, bounds in free.items()}
            inputs = {tensor.name: drawn(tensor, sizes, rng) for tensor in manifest.graphs[name].inputs}
            expected = cpu.session(name)(**inputs)
            plain = device.session(name)(**inputs)
            fixed = {key: array for key, array in inputs.items() if key not in ("latents", "timestep")}
            rest = {key: array for key, array in inputs.items() if key not in fixed}
            bound = device.session(name).bind(**fixed)
            for made in (plain, *(bound(**rest) for _ in range(3))):
                for output, array in made.items():
                    assert_close(array, expected[output], "latents")


def test_a_run_draws_the_cpus_latents(bundle: Path, backend: str) -> None:
    subject = Image.fromarray(np.random.default_rng(2).integers(0, 256, (50, 40, 3), np.uint8))
    options = {"subject": subject, "steps": 4, "count": 2, "seed": 3}
    expected = load(bundle, "cpu")("a photo of a S", **options)
    pipeline = load(bundle, backend)
    for _ in range(2):
        assert_close(pipeline("a photo of a S", **options).latents, expected.latents, "latents")


def drawn(tensor: Tensor, sizes: dict[str, int], rng: np.random.Generator) -> np.ndarray:
    shape = [size if isinstance(size, int) else sizes[size] for size in tensor.shape]
    if tensor.dtype == "int64":
        return rng.integers(0, 5, shape)
    return rng.normal(size=shape).astype(tensor.dtype)
