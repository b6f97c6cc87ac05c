"""One engine, built by a process of its own, which can be stopped at any time and leaves nothing behind.

`python -P -m x2i.runtime.engines.builder FOLDER` reads a job as JSON from standard input, puts the engine with its
record into FOLDER, and prints how it went. It ends with the process that started it: its standard input is then closed.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..bundle.records import decode, encode
from ..errors import TOLD_BY_CHILDREN, InputError, problems_of
from ..machine import peak_memory
from ..sessions.session import Settings
from . import store
from .build_request import BuildJob, BuildResult

_TICK_SECONDS = 0.25
_RAISED = re.compile(r"Exception thrown from \w+\(\) \w+: (.+)")


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the process prints last: how it went, or what is wrong."""

    built: BuildResult | None = None
    problems: tuple[str, ...] = ()


def find_cached(job: BuildJob) -> Path | None:
    """The engine that a job would build, where the bundle has it; None where it has not, and for TensorRT, whose
    engines are told apart while they are built."""
    graph = job.graph(Path(job.engines))
    if job.library == "openvino":
        from ..sessions import openvino_device, openvino_engine

        device = openvino_device.choose_device(job.device)
        return openvino_engine.find_openvino_engine(graph, device, Settings(), job.usual())[0]
    if job.library == "onnxruntime":
        from ..sessions import onnxruntime_cpu

        return onnxruntime_cpu.find_onnxruntime_engine(graph)
    return None


def build_engine(job: BuildJob, folder: Path, tick: Callable[[float], None]) -> BuildResult:
    """Builds an engine into a bundle's folder of engines, calling `tick` with the seconds so far a few times a second;
    one that is there is not built again.

    Raises InputError where it cannot be built. Whatever ends this early, the process goes, and so does its work.
    """
    if (engine := find_cached(job)) is not None:
        return BuildResult(engine.name, 0.0, 0, cached=True)
    with store.staging_dir(folder) as scratch:
        code, output, complaints = _run(job, scratch, tick)
        if code != 0:
            raise InputError(_ended(job, code, complaints))
        answer = decode(_Answer, json.loads(output.splitlines()[-1]), "answer")
        if answer.built is None:
            raise InputError(*(_raised(job, complaints) or answer.problems))
        store.publish_engines(scratch, folder)
    return answer.built


def _run(job: BuildJob, scratch: Path, tick: Callable[[float], None]) -> tuple[int, str, str]:
    """Exit code, output and complaints of the process."""
    out, complaints = scratch / "out", scratch / "complaints"
    # Without -P a numpy.py or a json.py in the working folder would be run.
    command = (sys.executable, "-P", "-m", "x2i.runtime.engines.builder", str(scratch))
    start = time.perf_counter()
    with out.open("wb") as output, complaints.open("wb") as errors:
        # A session of its own: Ctrl-C reaches all of a terminal's group, and this process decides what it means.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=errors, start_new_session=True)
        try:
            assert process.stdin is not None
            # One that ends at once has no reader; how it ended is told below.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(encode(job)).encode() + b"\n")
                process.stdin.flush()
            while process.poll() is None:
                tick(time.perf_counter() - start)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_TICK_SECONDS)
        finally:
            process.kill()
            process.wait()
    return process.returncode, out.read_text("utf-8"), complaints.read_text("utf-8", errors="replace")


def _raised(job: BuildJob, complaints: str) -> list[str]:
    """What the plugin refused: TensorRT prints it, and itself says only that there was something."""
    return [f"{job.name}: {said}" for said in dict.fromkeys(_RAISED.findall(complaints))]


def _ended(job: BuildJob, code: int, complaints: str) -> str:
    """A process that ended without an answer: killed, or its library gave up."""
    said = next((line for line in reversed(complaints.splitlines()) if line.strip()), "it said nothing")
    if code == -9:
        return f"{job.name}: the build was killed, most likely for want of memory; close other programs, and try again"
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return f"{job.name}: {job.library} ended the build {how}: {said.strip()}; choose another backend, such as cpu"


def main(folder: str) -> None:
    """The process: one job, one answer."""
    job = decode(BuildJob, json.loads(sys.stdin.readline()), "job")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = _Answer(_build_job(job, Path(folder)))
    except TOLD_BY_CHILDREN as error:
        answer = _Answer(problems=problems_of(error))
    print(json.dumps(encode(answer)))


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def _build_job(job: BuildJob, folder: Path) -> BuildResult:
    if job.library == "openvino":
        return _openvino_job(job, folder)
    if job.library == "onnxruntime":
        return _onnxruntime_job(job, folder)
    from . import tensorrt_builder

    return tensorrt_builder.build_tensorrt_engine(job, folder)


def _openvino_job(job: BuildJob, folder: Path) -> BuildResult:
    from ..sessions import openvino_engine

    start = time.perf_counter()
    path = openvino_engine.build_openvino_engine(job.graph(folder), Settings(device=job.device), job.usual())
    return BuildResult(path.name, time.perf_counter() - start, peak_memory())


def _onnxruntime_job(job: BuildJob, folder: Path) -> BuildResult:
    from ..sessions import onnxruntime_cpu

    start = time.perf_counter()
    path = onnxruntime_cpu.build_onnxruntime_engine(job.graph(folder))
    return BuildResult(path.name, time.perf_counter() - start, peak_memory())


if __name__ == "__main__":
    main(sys.argv[1])
