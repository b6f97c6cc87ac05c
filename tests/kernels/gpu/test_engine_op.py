"""What reaches the CUDA driver, seen through one that only takes notes: its calls, their order and their failures."""

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest
from x2i.kernels.biased_attention.op import BIASED
from x2i.kernels.errors import KernelError
from x2i.kernels.gpu import cuda_driver
from x2i.kernels.gpu.cubins import Cubin
from x2i.kernels.gpu.engine_op import EngineOp
from x2i.kernels.injected_attention.op import INJECTED

POINTERS = {name: 0x1000 * number for number, name in enumerate((*INJECTED.inputs, "output"), 1)}
WORKSPACE, STREAM = 0x100000, 7


def shapes(samples: int, queries: int, tokens: int, local_tokens: int) -> dict[str, tuple[int, ...]]:
    """Those of the injected attention's inputs."""
    lengths = (queries, tokens, tokens, local_tokens, local_tokens)
    return {name: (samples, length, 320) for name, length in zip(INJECTED.inputs, lengths, strict=False)} | {
        "token_index": (samples,),
        "strength": (samples,),
    }


def cubin(kernel: str, shared: int, arguments: dict[str, str]) -> Cubin:
    return Cubin(
        kernel=kernel,
        target="sm_86",
        dtype="float16",
        head_width=40,
        symbol=f"{kernel}_symbol",
        arguments=tuple(arguments.items()),
        rows=64,
        columns=32,
        warps=4,
        shared=shared,
        source="",
        sha256="",
        image=kernel.encode(),
    )


KERNELS = (
    cubin("global_pass", 16384, {"query": "*fp16", "heads": "i32", "tokens": "i32", "scale": "fp32", "peaks": "*fp32"}),
    cubin("local_pass", 51200, {"strength": "*fp32", "queries": "i32", "columns": "*fp32", "output": "*fp16"}),
)


class Notes:
    """A CUDA driver for a device of capability 8.9."""

    CUdevice_attribute = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=8, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR=9
    )
    CUfunction_attribute = SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES="shared")

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.context = 1
        self.failing = ""

    def __getattr__(self, name: str) -> Any:
        answers = {
            "cuCtxGetDevice": lambda: ("device",),
            "cuDeviceGetAttribute": lambda part, device: (part,),
            "cuCtxGetCurrent": lambda: (f"context {self.context}",),
            "cuCtxGetId": lambda context: (self.context,),
            "cuModuleLoadData": lambda image: (image,),
            "cuModuleGetFunction": lambda module, symbol: (f"function {symbol.decode()}",),
        }

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, *arguments))
            status = 700 if name == self.failing else 0
            return (status, *answers.get(name, lambda *_: ())(*arguments))

        return call

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for found, *arguments in self.calls if found == name]


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    taken = Notes()
    monkeypatch.setattr(cuda_driver, "_driver", lambda: taken)
    cuda_driver._load_once.cache_clear()
    return taken


def test_both_passes_are_queued_after_the_peaks_are_cleared(notes: Notes) -> None:
    op = EngineOp(INJECTED, 8, 0.5, KERNELS).attached()
    notes.calls.clear()
    op.enqueue(shapes(3, 100, 77, 257), POINTERS, WORKSPACE, STREAM)
    assert [name for name, *_ in notes.calls] == ["cuMemsetD32Async", "cuLaunchKernel", "cuLaunchKernel"]
    assert notes.named("cuMemsetD32Async") == [[WORKSPACE, 0, 3, STREAM]]
    first, second = notes.named("cuLaunchKernel")
    assert first[:9] == ["function global_pass_symbol", 2, 24, 1, 128, 1, 1, 16384, STREAM]
    assert second[:9] == ["function local_pass_symbol", 2, 24, 1, 128, 1, 1, 51200, STREAM]
    pointer, whole = ctypes.c_void_p, ctypes.c_int32
    values, kinds = first[9]
    assert values == (POINTERS["query"], 8, 77, 0.5, WORKSPACE, 0, 0)
    assert kinds == (pointer, whole, whole, ctypes.c_float, pointer, pointer, pointer)
    values, kinds = second[9]
    assert values == (POINTERS["strength"], 100, WORKSPACE + 256, POINTERS["output"], 0, 0)
    assert kinds == (pointer, whole, pointer, pointer, pointer, pointer)


def test_another_shape_keeps_the_loaded_kernels(notes: Notes) -> None:
    op = EngineOp(INJECTED, 8, 0.5, KERNELS).attached()
    loads = len(notes.calls)
    op.configured("float16", 320).enqueue(shapes(1, 1, 1, 1), POINTERS, WORKSPACE, STREAM)
    assert [name for name, *_ in notes.calls[loads:]] == ["cuMemsetD32Async", "cuLaunchKernel", "cuLaunchKernel"]


def test_the_workspace_holds_peaks_and_columns() -> None:
    op = EngineOp(INJECTED, 8, 0.5, KERNELS)
    assert op.workspace_size(3, 100) == 256 + 38 * 256
    assert op.workspace_size(65, 1) == 512 + 9 * 256


def test_the_biased_attention_is_queued_with_its_parts(notes: Notes) -> None:
    """The statistics of each 64 queries of a head go through the workspace, which nothing has to clear."""
    first = {"query": "*fp16", "gain_max": "*fp32", "heads": "i32", "tokens": "i32", "scale": "fp32", "parts": "*fp32"}
    second = {"bias": "*fp32", "parts": "*fp32", "queries": "i32", "output": "*fp16"}
    kernels = (cubin("statistics_pass", 12304, first), cubin("raised_pass", 24704, second))
    pointers = {name: 0x1000 * number for number, name in enumerate((*BIASED.inputs, "output"), 1)}
    sizes = {"B": 3, "N": 100, "T": 77, "C": 320}
    given = {name: tuple(sizes[letter] for letter in letters) for name, letters in BIASED.shapes.items()}
    op = EngineOp.from_fields(BIASED, {"num_heads": [8], "scale": [0.5]}, (*KERNELS, *kernels))  # type: ignore
    assert op.kernels == kernels and op.workspace_size(3, 100) == 3 * 3 * 8 * 2 * 4 + 192
    op = op.attached()
    notes.calls.clear()
    op.enqueue(given, pointers, WORKSPACE, STREAM)
    statistics, raised = notes.named("cuLaunchKernel")
    assert len(notes.calls) == 2
    assert statistics[:9] == ["function statistics_pass_symbol", 2, 24, 1, 128, 1, 1, 12304, STREAM]
    assert statistics[9][0] == (pointers["query"], pointers["gain_max"], 8, 77, 0.5, WORKSPACE, 0, 0)
    assert raised[9][0] == (pointers["bias"], WORKSPACE, 100, pointers["output"], 0, 0)


def test_a_context_loads_a_kernel_once(notes: Notes) -> None:
    for context in (1, 1, 2, 1):
        notes.context = context
        EngineOp(INJECTED, 8, 0.5, KERNELS).attached()
    assert notes.named("cuModuleLoadData") == [[b"global_pass"], [b"local_pass"]] * 2
    assert notes.named("cuFuncSetAttribute") == [["function local_pass_symbol", "shared", 51200]] * 2


@pytest.mark.parametrize("call", ["cuCtxGetDevice", "cuModuleLoadData", "cuModuleGetFunction", "cuFuncSetAttribute"])
def test_no_failure_passes_unseen_when_loading(notes: Notes, call: str) -> None:
    notes.failing = call
    with pytest.raises(KernelError, match=f"{call}: expected CUDA_SUCCESS, got 700"):
        EngineOp(INJECTED, 8, 0.5, KERNELS).attached()


@pytest.mark.parametrize("call", ["cuMemsetD32Async", "cuLaunchKernel"])
def test_no_failure_passes_unseen_when_running(notes: Notes, call: str) -> None:
    op = EngineOp(INJECTED, 8, 0.5, KERNELS).attached()
    notes.failing = call
    with pytest.raises(KernelError, match=f"{call}: expected CUDA_SUCCESS, got 700"):
        op.enqueue(shapes(3, 100, 77, 257), POINTERS, WORKSPACE, STREAM)


def test_inputs_are_refused_in_words() -> None:
    op = EngineOp(INJECTED, 8, 0.5, KERNELS)
    assert op.configured("float16", 320).kernels == KERNELS
    with pytest.raises(KernelError) as caught:
        op.configured("int8", 100)
    assert [problem.partition(";")[0] for problem in caught.value.problems] == [
        "InjectedAttention: expected float16 or bfloat16, got int8",
        "InjectedAttention: expected a multiple of 8 heads, got 100 channels",
    ]
    with pytest.raises(KernelError, match="expected the attribute scale, got none"):
        EngineOp.from_fields(INJECTED, {"num_heads": KERNELS}, KERNELS)  # type: ignore[dict-item]
