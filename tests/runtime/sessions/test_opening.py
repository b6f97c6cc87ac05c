"""What is opened at load: several graphs at a time, each once, and on which backend where nobody names one."""

import time
from importlib import import_module
from pathlib import Path
from threading import Barrier, Thread

import pytest
from x2i.runtime import machine
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.errors import InputError
from x2i.runtime.sessions import onnxruntime_cpu
from x2i.runtime.sessions.backends import BACKENDS, on_cpu
from x2i.runtime.sessions.cache import SessionCache

from tests.runtime.toy import write_toy

loading = import_module("x2i.runtime.load")


def test_two_graphs_are_opened_at_a_time() -> None:
    """Each waits for the other: one after the other, they would wait for ever."""
    both = Barrier(2, timeout=20)

    def opened(graph: str) -> str:
        both.wait()
        return graph

    sessions = SessionCache(opened)
    sessions.preopen(["a", "b", "c", "d"], 2)
    assert sessions.open == {"a", "b", "c", "d"}


def test_a_graph_is_opened_once_whoever_asks() -> None:
    asked = []

    def opened(graph: str) -> str:
        asked.append(graph)
        time.sleep(0.05)
        return graph

    sessions = SessionCache(opened)
    threads = [Thread(target=sessions, args=("a",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == ["a"]


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_cannot_be_opened_is_told_at_once(at_once: int) -> None:
    asked = []

    def opened(graph: str) -> str:
        asked.append(graph)
        if graph == "a":
            raise InputError("a: no graph")
        time.sleep(0.2)
        return graph

    with pytest.raises(InputError, match="a: no graph"):
        SessionCache(opened).preopen(list("abcdefgh"), at_once)
    assert len(asked) <= 2 * at_once


def test_only_graphs_in_the_memory_of_the_process_are_opened_together() -> None:
    backends = ("cpu", "openvino", "openvino:CPU", "openvino:GPU", "openvino:AUTO:CPU", "rtx", "cuda")
    assert [name for name in backends if on_cpu(name)] == ["cpu", "openvino", "openvino:CPU"]


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """Backends and notes of what was opened, with OpenVINO and ONNX Runtime as all that is installed."""
    opened: list[tuple[str, tuple[str, ...]]] = []
    for name in list(BACKENDS):
        if name not in ("openvino", "cpu"):
            monkeypatch.delitem(BACKENDS, name)
    monkeypatch.delenv("X2I_BACKEND", raising=False)
    monkeypatch.setattr(
        loading,
        "pipeline_of",
        lambda bundle, name, threads, text, notes=(), *rest, **more: opened.append((name, notes)),
    )
    return opened


def test_a_small_bundle_without_engines_goes_to_onnx_runtime(tmp_path: Path, chosen: list) -> None:
    folder = write_toy(tmp_path / "toy")
    loading.load(folder)
    ((name, (note,)),) = chosen
    assert name == "cpu" and "x2i build BUNDLE --for openvino" in note
    (folder / "engines").mkdir()
    (folder / "engines" / "denoiser-openvino-0123456789abcdef.json").write_text("{}")
    loading.load(folder)
    assert chosen[1] == ("openvino", ())


def test_a_large_bundle_goes_to_openvino(tmp_path: Path, chosen: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "SMALL_BUNDLE_BYTES", 10)
    loading.load(write_toy(tmp_path / "toy"))
    assert chosen == [("openvino", ())]
    assert open_bundle(tmp_path / "toy").graph_bytes("denoiser") == len("denoiser")


def test_a_backend_that_is_named_is_never_left_out(tmp_path: Path, chosen: list) -> None:
    loading.load(write_toy(tmp_path / "toy"), "openvino")
    assert chosen == [("openvino", ())]


def test_what_a_graph_would_close_is_told_before_it_is_opened() -> None:
    """The loop's graphs stay together, any other is alone, and so a preview knows what must be dropped first."""
    loop = {"denoiser", "denoiser.takes-deep.3"}
    sessions = SessionCache(str, lambda graph, other: {graph, other} <= loop)
    for graph in ("encoder", "denoiser", "denoiser.takes-deep.3"):
        sessions(graph)
    assert sessions.open == loop
    assert sessions.closed_by("decoder") == loop and sessions.closed_by("denoiser") == frozenset()
    sessions("decoder")
    assert sessions.open == {"decoder"} and sessions.closed_by("denoiser") == {"decoder"}
    free = SessionCache(str)
    free.preopen(["encoder", "decoder"], 1)
    assert free.closed_by("denoiser") == frozenset()


@pytest.mark.parametrize(
    ("features", "exact"), [("avx2 avx512f", True), ("avx2 avx512_vnni", False), ("avx2 avx_vnni", False), ("", True)]
)
def test_products_of_bytes_are_made_exact_where_they_may_overflow(
    features: str, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cpu_features", lambda: tuple(features.split()))
    chosen = onnxruntime_cpu.session_options(1)
    if exact:
        assert chosen.get_session_config_entry(onnxruntime_cpu.EXACT_PRODUCTS) == "1"
    else:
        with pytest.raises(RuntimeError, match="does not have configuration"):
            chosen.get_session_config_entry(onnxruntime_cpu.EXACT_PRODUCTS)
