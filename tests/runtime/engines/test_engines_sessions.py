"""The logic of sessions on a GPU, on a fake one: what is uploaded when, what is captured, and what is refused.

What real GPUs make of it is tested by those marked `gpu`.
"""

import gc
from pathlib import Path
from threading import Thread

import numpy as np
import onnxruntime
import pytest
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.engines import gpu
from x2i.runtime.errors import InputError
from x2i.runtime.sessions import onnxruntime_cuda, tensorrt_session
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.cuda_stream import CudaStream
from x2i.runtime.sessions.onnxruntime_cuda import OnnxRuntimeCudaSession
from x2i.runtime.sessions.session import Session, Settings
from x2i.runtime.sessions.tensorrt_session import TensorRtSession

from tests.numerics import assert_close
from tests.runtime.sessions.fake_cuda import FakeCuda, FakeEngine, fake_tensorrt

rng = np.random.default_rng(5)


def rows(batch: int) -> np.ndarray:
    return rng.normal(size=(batch, 3)).astype(np.float32)


def opened(cuda: FakeCuda, captures_itself: bool = False) -> tuple[TensorRtSession, FakeEngine]:
    engine = FakeEngine(cuda)
    stream = CudaStream(cuda)  # type: ignore[arg-type]
    return TensorRtSession(fake_tensorrt(captures_itself), engine, stream), engine


def test_a_call_of_any_shape_that_was_built_for() -> None:
    cuda = FakeCuda()
    session, engine = opened(cuda)
    assert [tensor.name for tensor in session.inputs] == ["x", "factor"]
    assert session.outputs[0].shape == ("y.0", 3) and session.outputs[0].dtype == "float32"
    for batch in (1, 4, 2, 2, 2, 3):
        x, factor = rows(batch), rows(batch)
        assert_close(session(x=x, factor=factor)["y"], x * factor, "exact")
    assert engine.contexts == 1 and cuda.captures == 1 and cuda.replays == 2


def test_what_is_bound_is_uploaded_once() -> None:
    cuda = FakeCuda()
    session, _ = opened(cuda)
    factor = rows(2)
    call = session.bind(factor=factor)
    assert len(cuda.uploads) == 1
    for number in range(5):
        x = rows(2)
        assert_close(call(x=x)["y"], x * factor, "exact")
        assert len(cuda.uploads) == 2 + number
    assert (cuda.captures, cuda.replays) == (1, 4)


def test_two_runs_at_once_keep_what_they_bound_and_the_next_takes_over_their_buffers() -> None:
    cuda = FakeCuda()
    session, engine = opened(cuda)
    factors = [rows(2), rows(2)]
    calls = [session.bind(factor=factor) for factor in factors]
    x = rows(2)
    for call, factor in zip(calls * 3, factors * 3, strict=True):
        assert_close(call(x=x)["y"], x * factor, "exact")
    assert engine.contexts == 2 and len(cuda.memory) == 6
    del call, calls
    gc.collect()
    factor = rows(2)
    assert_close(session.bind(factor=factor)(x=x)["y"], x * factor, "exact")
    assert engine.contexts == 2 and len(cuda.memory) == 6 and cuda.captures == 2


def test_tensorrt_rtx_captures_by_itself() -> None:
    cuda = FakeCuda()
    session, _ = opened(cuda, captures_itself=True)
    call = session.bind(factor=rows(1))
    assert [call(x=rows(1))["y"].shape for _ in range(3)] == [(1, 3)] * 3
    assert cuda.captures == 0


def test_what_cannot_be_captured_is_launched_and_told_once() -> None:
    cuda = FakeCuda()
    cuda.refuses_capture = True
    session, _ = opened(cuda)
    x, factor = rows(1), rows(1)
    session(x=x, factor=factor)
    with pytest.warns(UserWarning, match="cannot be captured"):
        session(x=x, factor=factor)
    assert_close(session(x=x, factor=factor)["y"], x * factor, "exact")


def test_outputs_are_not_written_over_by_the_next_call() -> None:
    session, _ = opened(FakeCuda())
    x, factor = rows(2), rows(2)
    first = session(x=x, factor=factor)["y"]
    session(x=rows(2), factor=factor)
    assert_close(first, x * factor, "exact")


def test_threads_do_not_mix_their_calls() -> None:
    session, _ = opened(FakeCuda())
    wrong: list[int] = []

    def work(batch: int) -> None:
        factor = rows_of(batch)
        call = session.bind(factor=factor)
        for number in range(50):
            x = np.full((batch, 3), number, np.float32)
            if not np.array_equal(call(x=x)["y"], x * factor):
                wrong.append(batch)

    def rows_of(batch: int) -> np.ndarray:
        return np.random.default_rng(batch).normal(size=(batch, 3)).astype(np.float32)

    threads = [Thread(target=work, args=(batch,)) for batch in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_all_that_a_session_holds_is_given_back_with_it() -> None:
    cuda = FakeCuda()
    session, _ = opened(cuda)
    for _ in range(2):
        session(x=rows(2), factor=rows(2))
    assert cuda.memory and (cuda.instances, cuda.streams) == (1, 1)
    del session
    gc.collect()
    assert not cuda.memory and (cuda.instances, cuda.streams) == (0, 0)


def test_what_a_gpu_refuses_is_told_with_the_fix() -> None:
    session, engine = opened(FakeCuda(room=30))
    with pytest.raises(
        InputError, match=r"built for \[1, 3\] to \[4, 3\], got \[5, 3\]; build it again with the --size"
    ):
        session(x=rows(5), factor=rows(5))
    with pytest.raises(InputError, match=r"memory is full.*smaller size or count"):
        session(x=rows(4), factor=rows(4))
    other, engine = opened(FakeCuda())
    engine.out_of_memory = True
    with pytest.raises(InputError, match="no room on the GPU for this engine, which works in 5 MB"):
        other(x=rows(1), factor=rows(1))


def test_without_a_driver_every_gpu_backend_says_so() -> None:
    if gpu.gpu_problem() is None:
        pytest.skip("there is a GPU")
    for library in ("tensorrt_rtx", "tensorrt"):
        problem = tensorrt_session.tensorrt_problem(library, None, Settings())
        assert problem is not None and ("driver" in problem or "pip install 'x2i-edge[" in problem)
    problem = onnxruntime_cuda.cuda_problem(None, Settings())
    assert problem is not None and "pip install" in problem


def test_bound_inputs_through_onnx_runtime(tiny_bundle: Path) -> None:
    """On ONNX Runtime's CPU provider, whose bindings work as CUDA's do."""
    graph = open_bundle(tiny_bundle, check_files=False).graph_file("projection")
    plain = onnxruntime.InferenceSession(str(graph.path), providers=["CPUExecutionProvider"])
    session: Session = OnnxRuntimeCudaSession(plain, captures=True, device="cpu")
    truth = open_session("cpu", graph)
    assert session.inputs == truth.inputs and session.outputs == truth.outputs
    given = [rng.normal(size=(batch, tokens, 48)).astype(np.float32) for batch, tokens in ((2, 7), (2, 7), (1, 5))]
    call = session.bind()
    # A value on the CPU lies in the caller's array itself, and is written over by the next.
    made = [call(context=context.copy()) for context in given] + [session(context=given[0].copy())]
    for outputs, context in zip(made, [*given, given[0]], strict=True):
        expected = truth(context=context)
        assert outputs.keys() == expected.keys()
        for name, array in outputs.items():
            assert_close(array, expected[name], "exact")
