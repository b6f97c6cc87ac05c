"""The compiled attention in engines: where it is used, where the graph's own is, and what is refused."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from x2i.runtime.bundle.calls import Tensor
from x2i.runtime.engines import builder, store
from x2i.runtime.engines.build_request import BuildJob
from x2i.runtime.errors import InputError

from tests.kernels.biased import BiasedCase
from tests.kernels.cases import Case
from tests.kernels.one_node import INPUTS, model
from tests.processes import run

pytest.importorskip("triton", reason="Triton, which compiles the kernels, is not installed")
pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed", exc_type=ImportError)
CASE = Case(60, 77, 35, 2, 40, (5, 0), (0.6, 0.0))


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernels")
    words = ("--out", folder, "--target", "sm_89", "--dtype", "float16", "--head-width", "40")
    run(sys.executable, "-m", "x2i.kernels.build", *map(str, words), cwd=folder)
    return folder


def job(folder: Path, case: Case, dtype: str, precision: str, kernels: Path | None) -> BuildJob:
    file = folder / "node.onnx"
    file.write_bytes(model(case, dtype))
    channels = case.heads * case.head_width
    lengths = (case.queries, case.tokens, case.tokens, case.local_tokens, case.local_tokens)
    shapes = [("samples", length, channels) for length in lengths] + [("samples",)] * 2
    inputs = tuple(Tensor(name, dtype, shape) for name, shape in zip(INPUTS, shapes, strict=True))
    ranges = {"samples": (1, 2, 4)}
    folder = folder / "engines"
    given = "" if kernels is None else str(kernels)
    return BuildJob("tensorrt_rtx", "node", str(file), precision, "ab", str(folder), "", inputs, ranges, (), given)


def built(wanted: BuildJob) -> tuple[Path, tuple[str, ...]]:
    made = builder.build_engine(wanted, Path(wanted.engines), lambda seconds: None)
    return Path(wanted.engines) / made.engine, made.remarks


def test_a_half_precision_graph_takes_the_kernels(kernels: Path, tmp_path: Path) -> None:
    path, remarks = built(job(tmp_path, CASE, "float16", "fp16", kernels))
    assert remarks == ("1 attentions run as the compiled kernels",)
    assert set(store.read_record(path.with_suffix(".json")).key.options) == {"plugin"}
    assert (kernels / "global_pass-float16-40-sm_89.cubin").read_bytes() in path.read_bytes()


def test_so_does_a_graph_that_takes_painted_words(kernels: Path, tmp_path: Path) -> None:
    wanted = job(tmp_path, CASE, "float16", "fp16", kernels)
    case = BiasedCase(2, 60, 77, 2, 40)
    Path(wanted.path).write_bytes(case.model("float16"))
    single = {"bias": ("samples", 60, 77), "gain_max": ("samples",), "gain_deviation": ("samples",)}
    inputs = (
        Tensor("query", "float16", ("samples", 60, 80)),
        *(Tensor(name, "float16", ("samples", 77, 80)) for name in ("key", "value")),
        *(Tensor(name, "float32", shape) for name, shape in (single | {"key_bias": ("samples", 77)}).items()),
    )
    path, remarks = built(replace(wanted, inputs=inputs))
    assert remarks == ("1 attentions run as the compiled kernels",)
    assert (kernels / "raised_pass-float16-40-sm_89.cubin").read_bytes() in path.read_bytes()
    assert (kernels / "global_pass-float16-40-sm_89.cubin").read_bytes() not in path.read_bytes()


@pytest.mark.parametrize(("dtype", "precision"), [("float32", "fp32"), ("float16", "fp16")])
def test_any_other_takes_what_the_graph_spells_out(dtype: str, precision: str, kernels: Path, tmp_path: Path) -> None:
    path, (remark,) = built(job(tmp_path, CASE, dtype, precision, kernels if precision == "fp32" else None))
    why = "kernels are for float16, this graph is fp32" if precision == "fp32" else "no --kernels given"
    assert remark == f"attentions run as the graph spells them out: {why}"
    assert store.read_record(path.with_suffix(".json")).key.options == {}


def test_a_kernel_that_is_missing_is_named(kernels: Path, tmp_path: Path) -> None:
    wanted = job(tmp_path, replace(CASE, head_width=48), "float16", "fp16", kernels)
    with pytest.raises(InputError, match="expected kernels for float16 and heads of 48, got float16 40") as refused:
        built(wanted)
    assert len(refused.value.problems) == 1 and not Path(wanted.engines).exists()
