"""One ONNX file: an engine with the plugin where it is registered, with the inlined function where it is not, and the
same function on ONNX Runtime. The engines are built without a GPU, and run under `make test-gpu` alone.
"""

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tensorrt_rtx as rtx
import torch
from torch import Tensor
from x2i.kernels.biased_attention.op import BIASED
from x2i.kernels.domain import DOMAIN, VERSION
from x2i.kernels.errors import KernelError
from x2i.kernels.gpu import cubins, parser_library, plugin
from x2i.kernels.gpu.engine_op import EngineOp
from x2i.kernels.gpu.kernel_op import KernelOp
from x2i.kernels.gpu_ops import GPU_OPS, register_ops
from x2i.kernels.injected_attention.op import INJECTED

from tests.kernels.biased import BiasedCase, assert_as_close_as_torch_biased
from tests.kernels.cases import Case, assert_as_close_as_torch
from tests.kernels.one_node import model
from tests.processes import run

pytest.importorskip("triton", reason="Triton, which compiles the kernels, is not installed")
pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed", exc_type=ImportError)
CASE = Case(256, 77, 257, 2, 40, (5, 0), (0.6, 0.0))
BIASED_CASE = BiasedCase(2, 256, 77, 2, 40)
PROGRAM = Path(__file__).with_name("engine.py")


@pytest.fixture(scope="module", params=GPU_OPS, ids=lambda op: op.name)
def op(request: pytest.FixtureRequest) -> KernelOp:
    return request.param


def one_node(op: KernelOp, dtype: str) -> bytes:
    return model(CASE, dtype) if op is INJECTED else BIASED_CASE.model(dtype)


def one_call(op: KernelOp, dtype: torch.dtype) -> tuple[Tensor, ...]:
    return CASE.inputs(dtype) if op is INJECTED else BIASED_CASE.inputs(dtype)


def assert_right(op: KernelOp, output: Tensor, inputs: tuple[Tensor, ...]) -> None:
    if op is INJECTED:
        assert_as_close_as_torch(output, inputs, CASE.heads)
    else:
        assert_as_close_as_torch_biased(output, inputs, BIASED_CASE.heads)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernels")
    build_kernels(folder, "sm_89", "float16", 40)
    return folder


@pytest.fixture(scope="module")
def onnx_file(op: KernelOp, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("model") / "model.onnx"
    file.write_bytes(one_node(op, "float16"))
    return file


def build_kernels(folder: Path, target: str, dtype: str, head_width: int) -> None:
    words = ("--out", folder, "--target", target, "--dtype", dtype, "--head-width", head_width)
    run(sys.executable, "-m", "x2i.kernels.build", *map(str, words), cwd=folder, TRITON_CACHE_DIR=str(folder))


def functions(plan: bytes) -> list[str]:
    """Names of the kernels that an engine's program calls, read from its text, since opening it takes a driver."""
    return [name.decode() for name in re.findall(rb"function=\{ name=(\w+) ", plan)]


def test_a_registered_plugin_goes_into_the_engine(op: KernelOp, kernels: Path, onnx_file: Path, tmp_path: Path) -> None:
    run(sys.executable, PROGRAM, "tensorrt_rtx", onnx_file, "plan", "--kernels", kernels, cwd=tmp_path)
    plan = (tmp_path / "plan").read_bytes()
    for name in (op.name, "x2i", "num_heads", "scale", "kernels"):
        assert name.encode() in plan, name
    for cubin in cubins.read_cubins(kernels):
        assert (cubin.image in plan) == (cubin.kernel in op.passes)
    assert not functions(plan)


def test_without_it_the_function_is_inlined(op: KernelOp, onnx_file: Path, tmp_path: Path) -> None:
    run(sys.executable, PROGRAM, "tensorrt_rtx", onnx_file, "plan", cwd=tmp_path)
    plan = (tmp_path / "plan").read_bytes()
    assert functions(plan) and b"num_heads" not in plan


def test_the_injected_function_is_fused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(one_node(INJECTED, "float16"))
    run(sys.executable, PROGRAM, "tensorrt_rtx", "model.onnx", "plan", cwd=tmp_path)
    plan = (tmp_path / "plan").read_bytes()
    assert functions(plan).count("_gemm_mha_v2") == 2, functions(plan)
    assert not any("Softmax" in name or "Exp" in name for name in functions(plan)), functions(plan)


def test_onnx_runtime_runs_the_same_file(op: KernelOp, onnx_file: Path) -> None:
    inputs = one_call(op, torch.float16)
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {name: tensor.numpy() for name, tensor in zip(op.inputs, inputs, strict=True)})
    assert_right(op, torch.from_numpy(output), inputs)


@pytest.mark.parametrize(
    ("dtype", "head_width", "complaint"),
    [
        ("float32", 40, "expected float16 or bfloat16, got float32; build this graph without the plugin"),
        ("float16", 24, "expected kernels for float16 and heads of 24, got float16 40; add them with"),
    ],
)
def test_what_it_cannot_do_it_says(dtype: str, head_width: int, complaint: str, kernels: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(model(Case(20, 9, 6, 2, head_width), dtype))
    words = (PROGRAM, "tensorrt_rtx", "model.onnx", "plan", "--kernels", kernels)
    with pytest.raises(AssertionError, match=complaint):
        run(sys.executable, *words, cwd=tmp_path)
    assert not (tmp_path / "plan").exists()


def test_kernels_of_another_op_do_not_do(kernels: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(one_node(BIASED, "float16"))
    cubins.write_index(
        tmp_path, injected := [each for each in cubins.read_cubins(kernels) if each.kernel in INJECTED.passes]
    )
    for cubin in injected:
        (tmp_path / f"{cubin.stem}.cubin").write_bytes(cubin.image)
    words = (PROGRAM, "tensorrt_rtx", "model.onnx", "plan", "--kernels", tmp_path)
    with pytest.raises(AssertionError, match="BiasedAttention: expected kernels for float16 and heads of 40, got none"):
        run(sys.executable, *words, cwd=tmp_path)


def test_the_runtime_needs_only_what_the_engine_holds(op: KernelOp, kernels: Path) -> None:
    """What the build serializes makes an equal plugin in a process that was given no kernels."""
    register_ops(rtx, cubins.read_cubins(kernels))
    creator = rtx.get_plugin_registry().get_creator(op.name, str(VERSION), DOMAIN)
    attributes = {"num_heads": np.array([2], np.int32), "scale": np.array([0.125], np.float32)}
    node = EngineOp.from_fields(op, attributes, cubins.read_cubins(kernels)).configured("float16", 80)
    built = plugin._plugin_class(rtx, op)(node)
    serialized = built.get_fields_to_serialize()
    register_ops(rtx)
    opened = creator.create_plugin("node", serialized, rtx.TensorRTPhase.RUNTIME)
    assert opened.node == node and opened.clone().node == node
    assert [cubin.kernel for cubin in node.kernels] == list(op.passes)


def test_the_plugin_imports_neither_triton_nor_torch(tmp_path: Path) -> None:
    code = "import sys, x2i.kernels.gpu_ops as p; print(*sorted(sys.modules))"
    modules = run(sys.executable, "-c", code, cwd=tmp_path).stdout.split()
    assert "numpy" in modules
    assert not {"torch", "triton", "cuda", "onnx", "tensorrt", "tensorrt_rtx"} & set(modules)


# Without core files: the process is meant to abort.
FLAWED = """
import resource, runpy, sys
from x2i.kernels.gpu import plugin
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
plugin.let_parser_find_library = lambda tensorrt: None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_parser_still_needs_help(kernels: Path, onnx_file: Path, tmp_path: Path) -> None:
    words = (PROGRAM, "tensorrt_rtx", onnx_file, "plan", "--kernels", kernels)
    process = subprocess.run([sys.executable, "-c", FLAWED, *words], cwd=tmp_path, capture_output=True)
    assert process.returncode == -signal.SIGABRT, "the flaw is gone: drop parser_library.py"


def test_a_parser_beyond_help_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser_library, "_opens", lambda: False)
    monkeypatch.setattr(parser_library, "_machine", lambda library: 8)
    with pytest.raises(KernelError, match=r"expected its parser to find libtensorrt_rtx.so, but .*; make the link"):
        parser_library.let_parser_find_library(rtx)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("module", ["tensorrt_rtx", "tensorrt"])
def test_the_engine_runs(op: KernelOp, module: str, dtype: str, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    pytest.importorskip(module, reason=f"{module} is not installed", exc_type=ImportError)
    pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed", exc_type=ImportError)
    major, minor = torch.cuda.get_device_capability()
    if (module, major) == ("tensorrt_rtx", 9):
        pytest.skip("TensorRT-RTX does not support compute capability 9.0")
    build_kernels(tmp_path, f"sm_{major}{minor}", dtype, 40)
    (tmp_path / "model.onnx").write_bytes(one_node(op, dtype))
    inputs = one_call(op, getattr(torch, dtype))
    torch.save(dict(zip(op.inputs, inputs, strict=True)), tmp_path / "tensors.pt")
    words = (PROGRAM, module, "model.onnx", "plan", "--kernels", tmp_path, "--run", "tensors.pt")
    run(sys.executable, *words, cwd=tmp_path)
    output = torch.load(tmp_path / "tensors.pt", weights_only=True)
    assert_right(op, output, inputs)
