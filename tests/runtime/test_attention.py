"""Which attention runs: by precision, by what is asked, by what was measured; and who is told."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from x2i.runtime import load
from x2i.runtime.attention import choice, measured
from x2i.runtime.attention.kernel import NODE_PREFIX, quiet_kernel
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.errors import EngineWarning, InputError
from x2i.runtime.sessions import openvino_device, openvino_engine
from x2i.runtime.sessions.openvino_session import OpenVinoSession
from x2i.runtime.sessions.session import GraphFile, Settings

from tests.cpu_kernel import forget
from tests.numerics import assert_close, assert_near
from tests.runtime.sessions.test_openvino_shapes import inputs

AUTO, LIBRARY = Settings(1), Settings(1, "library")


def graph_of(bundle: Path, precision: str, **changed: object) -> GraphFile:
    return replace(open_bundle(bundle, check_files=False).graph_file("denoiser"), precision=precision, **changed)


def kernels_in(graph: GraphFile, settings: Settings, shapes=None) -> int:
    compiled = openvino_device.compile_graph(graph, "CPU", settings, shapes)
    return sum(node.get_friendly_name().startswith(NODE_PREFIX) for node in compiled.get_runtime_model().get_ops())


@pytest.mark.parametrize(
    ("precision", "asked", "expected"),
    [
        ("int8", None, "bf16"),
        ("bf16", None, "bf16"),
        ("fp32", None, None),
        ("fp16", None, None),
        ("int8-weights", None, None),
        ("int8", "library", None),
        ("int8", "int8", "int8"),
        ("fp32", "int8", "int8"),
    ],
)
def test_by_precision_and_what_is_asked(
    installed_kernel: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, precision, asked, expected
) -> None:
    graph = graph_of(tiny_bundle, precision)
    for settings, told in ((Settings(1, asked), None), (Settings(1), asked)):
        monkeypatch.setenv("X2I_ATTENTION", told or "")
        chosen = choice.choose_attention(graph, "CPU", settings)
        assert (None if chosen is None else chosen.products) == expected
        assert choice.choose_attention(graph, "GPU", settings) is None


def test_by_what_was_measured(installed_kernel: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, arrays = graph_of(tiny_bundle, "int8"), inputs(open_bundle(tiny_bundle, check_files=False))
    shapes = {name: array.shape for name, array in arrays.items()}
    for ratios, free, fixed in (([2, 2, 2], 8, 0), ([2, 0.9, 2], 8, 0), ([2, 2, 0.9], 0, 0)):
        measured._RATIOS.clear()
        monkeypatch.setattr(measured, "_ratio", lambda *rest, left=[*ratios]: left.pop(0))
        forget_kept()
        # The tiny model's attention is smaller than anything that was measured, unless its sizes are free.
        assert (kernels_in(graph, AUTO), kernels_in(graph, AUTO, shapes)) == (free, fixed)
    assert kernels_in(graph, Settings(1, "bf16"), shapes) == 8


def forget_kept() -> None:
    (measured.cache_folder() / measured.KEPT).unlink(missing_ok=True)


def test_what_was_measured_is_kept(installed_kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the kernel was faster everywhere, or three processes have measured; the best of each size counts."""
    kernel, turns = quiet_kernel().kernel, []
    assert kernel is not None

    def least(*ratios: float) -> int | None:
        """What a new process finds, which measures these where it measures."""
        measured._RATIOS.clear()
        left = list(ratios)
        monkeypatch.setattr(measured, "_ratio", lambda *rest: turns.append(1) or left.pop(0))
        return measured.least_work(kernel, "int8", 1, openvino_device.core())

    works = [4 * heads * rows * rows * width for rows, heads, width in measured.SIZES]
    forget_kept()
    assert [least(2, 2, 0.9), least(0.5, 0.8, 1.1), least(0.5, 0.5, 0.5), least(2, 2, 2)] == [None, *works[:1] * 3]
    assert len(turns) == 2 * len(measured.SIZES), "measured again where the kernel was faster everywhere"
    forget_kept()
    assert [least(0.5, 0.5, 0.9) for _ in range(5)] == [None] * 5 and len(turns) == 5 * len(measured.SIZES)


@pytest.mark.parametrize(
    "kept", ["[]", "{", '{"%s": [[1, 2]]}', '{"%s": [[1, "a", 3]]}', '{"%s": 3}', '{"%s": [1, 2, 3]}']
)
def test_a_damaged_cache_is_forgotten(installed_kernel: Path, monkeypatch: pytest.MonkeyPatch, kept: str) -> None:
    kernel = quiet_kernel().kernel
    assert kernel is not None
    monkeypatch.setattr(measured, "_ratio", lambda *rest: 2)
    forget_kept()
    measured._RATIOS.clear()
    expected = measured.least_work(kernel, "int8", 1, openvino_device.core())
    (key,) = measured._RATIOS
    (measured.cache_folder() / measured.KEPT).write_text(kept % key if "%" in kept else kept, "utf-8")
    measured._RATIOS.clear()
    assert measured.least_work(kernel, "int8", 1, openvino_device.core()) == expected


def test_it_is_measured(installed_kernel: Path) -> None:
    kernel = quiet_kernel().kernel
    assert kernel is not None
    forget_kept()
    measured._RATIOS.clear()
    measured.least_work(kernel, "int8", 1, openvino_device.core())
    (rounds,) = json.loads((measured.cache_folder() / measured.KEPT).read_text("utf-8")).values()
    assert len(rounds) == 1 and all(0.05 < ratio < 50 for ratio in rounds[0])


def test_a_run_draws_with_it_and_without_it(installed_kernel: Path, tiny_bundle: Path) -> None:
    drawn = {
        asked: load(tiny_bundle, "openvino", 1, attention=asked)(
            "x", language="French", steps=2, seed=3, size=(24, 16)
        ).latents
        for asked in ("library", "bf16", "int8", "auto")
    }
    assert_close(drawn["auto"], drawn["library"], "exact")
    for asked in ("bf16", "int8"):
        assert np.any(drawn[asked] != drawn["library"])
        assert_near(drawn[asked], drawn["library"], f"attention-{asked}-run")


def test_an_engine_is_of_its_attention(
    installed_kernel: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    graph, arrays = graph_of(tmp_path / "bundle", "int8"), inputs(open_bundle(tiny_bundle, check_files=False))
    shapes = {name: array.shape for name, array in arrays.items()}
    engine = openvino_engine.build_openvino_engine(graph, Settings(1, "bf16"), shapes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = OpenVinoSession(replace(graph, inputs=(), outputs=()), Settings(1, "bf16"))
        assert openvino_engine.find_openvino_engine(graph, "CPU", Settings(1, "bf16"), shapes)[0] == engine
        session(**arrays)
    for settings in (LIBRARY, Settings(1, "int8")):
        path, why = openvino_engine.find_openvino_engine(graph, "CPU", settings, shapes)
        assert path is None and "attention" in why[0]
    # Without the kernel nothing opens what holds it.
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))
    forget()
    with pytest.warns(EngineWarning, match="attention"):
        OpenVinoSession(graph, AUTO)(**arrays)


def test_a_kernel_that_cannot_be_used_is_told_once(
    installed_kernel: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("x2i.runtime.machine._CPUINFO", write_cpuinfo(tmp_path))
    forget()
    with pytest.warns(EngineWarning, match="this CPU lacks avx512_bf16, with which the kernel is written") as told:
        assert kernels_in(graph_of(tiny_bundle, "int8"), AUTO) == 0
        assert kernels_in(graph_of(tiny_bundle, "bf16"), AUTO) == 0
    assert len(told) == 1
    with pytest.raises(InputError, match="attention int8: the kernel cannot be used: this CPU lacks avx512_bf16"):
        load(tiny_bundle, "openvino", attention="int8")("x", language="French", steps=1)


def write_cpuinfo(folder: Path, *more: str) -> Path:
    flags = " ".join(["avx2 avx512f avx512bw avx512dq avx512vl avx512_vnni", *more])
    (folder / "cpuinfo").write_text(f"model name\t: Some CPU\nflags\t\t: {flags}\n", encoding="utf-8")
    return folder / "cpuinfo"


def test_what_only_shows_it_warns_of_nothing(
    installed_kernel: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("x2i.runtime.machine._CPUINFO", write_cpuinfo(tmp_path))
    forget()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choice.attention_line() == "OpenVINO's own: this CPU lacks avx512_bf16, with which the kernel is written"
        assert choice.attention_text([graph_of(tiny_bundle, "int8")], AUTO) == "OpenVINO's own"


@pytest.mark.parametrize("error", [ImportError("libtbb.so.12"), OSError("no room"), RuntimeError("an extension")])
def test_a_broken_openvino_is_a_reason(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class Plugin:
        def load(self) -> None:
            raise error

    monkeypatch.setattr("x2i.runtime.attention.kernel.entry_points", lambda **group: [Plugin()])
    forget()
    assert choice.attention_line() == f"OpenVINO's own: openvino or the kernel cannot be opened: {error}"
    forget()


def test_nothing_is_told_where_nothing_is_installed(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("x2i.runtime.machine._CPUINFO", write_cpuinfo(tmp_path, "avx512_bf16"))
    forget()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kernels_in(graph_of(tiny_bundle, "int8"), AUTO) == 0
    assert "pip install 'x2i-edge[cpu-kernels]'" in choice.attention_line()


def test_what_is_asked_wrongly(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="attention: expected one of auto, library, bf16, int8, got 'fast'"):
        load(tiny_bundle, attention="fast")
    with pytest.raises(InputError, match="attention bf16: expected backend openvino on the CPU, got cpu"):
        load(tiny_bundle, "cpu", attention="bf16")("x", language="French", steps=1)
    monkeypatch.setenv("X2I_ATTENTION", "fast")
    with pytest.raises(InputError, match="X2I_ATTENTION: expected one of"):
        load(tiny_bundle, "openvino")("x", language="French", steps=1)


def test_it_is_shown(installed_kernel: Path, tiny_bundle: Path) -> None:
    assert "for AVX-512, in int8 and bf16 graphs" in choice.attention_line()
    assert "as asked" in choice.attention_line(LIBRARY)
    graphs = [graph_of(tiny_bundle, "int8"), replace(graph_of(tiny_bundle, "bf16"), name="decoder")]
    text = choice.attention_text(graphs, AUTO)
    assert text == "the kernel, products in bf16, where it is faster in denoiser, decoder"
    assert choice.attention_text(graphs, LIBRARY) == "OpenVINO's own"
    assert choice.attention_text(graphs, Settings(1, "bf16")) == "the kernel, products in bf16, in denoiser, decoder"
