"""`x2i doctor`: what this installation is made of, what it can run on, and what is wrong with it."""

import platform
import sys
from collections.abc import Iterator

import click

from ..attention.choice import attention_line
from ..engines.gpu import driver
from ..errors import InputError
from ..machine import available_memory, cpu_features, package_version, package_versions, usable_cores
from ..sessions.backends import BACKENDS
from ..sessions.providers.owners import double_installs
from ..sessions.session import Settings
from ..telemetry import telemetry_state
from .console import Refusal, command, echo_json
from .progress import echo
from .trial import backend_trials

PACKAGES = ("x2i-edge", "numpy", "onnxruntime", "tokenizers", "pillow", "click")
OPTIONAL = ("openvino", "tensorrt-rtx", "tensorrt", "cuda-bindings", "onnxruntime-gpu")
READY = "ready"
ON_ONNX_RUNTIME = ("cuda", "webgpu", "ep", "cpu")
ONE_EACH = {"backends": "backend", "ran": "ran on"}
"""Facts of which every item gets a line, and how it begins."""


@command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def doctor(as_json: bool) -> None:
    """Show versions, CPU, GPUs, what each backend lacks, and what it computes of one small graph, and where; name what
    is broken, with exit code 2 if anything is."""
    problems = [*double_installs(), *_broken_onnxruntime()]
    backends = {name: _backend(name, broken=bool(problems)) for name in BACKENDS}
    facts: dict[str, object] = {
        "python": f"{platform.python_version()} ({sys.platform}, {platform.machine()})",
        "packages": {name: package_version(name) or "not installed" for name in PACKAGES} | package_versions(OPTIONAL),
        "cpu": " ".join([f"{usable_cores()} cores", *cpu_features()]),
        "memory": _memory(),
        "gpus": _gpus(),
        "attention on the CPU": _attention(),
        "telemetry of onnxruntime": telemetry_state(),
        "backends": backends,
    }
    if not problems:
        facts["onnxruntime providers"] = _providers()
        trials = dict(backend_trials(name for name, said in backends.items() if said == READY))
        facts["ran"] = {name: trial.said for name, trial in trials.items()}
        problems += [f"backend {name}: {trial.said}" for name, trial in trials.items() if trial.wrong]
    if as_json:
        echo_json(facts | {"problems": problems})
    else:
        for name, value in facts.items():
            for line in _lines(name, value):
                echo(line)
        echo("no problems found" if not problems else f"{len(problems)} problem(s) found")
    if problems:
        raise Refusal(*problems)


def _backend(name: str, broken: bool) -> str:
    """What keeps a backend from being used here, with the fix; whether a bundle has engines is not asked."""
    if broken and name in ON_ONNX_RUNTIME:
        return "needs an onnxruntime that works"
    return BACKENDS[name].problem(None, Settings()) or READY


def _attention() -> str:
    """Which attention runs, or what is wrong with the environment's choice of it."""
    try:
        return attention_line()
    except InputError as error:
        return str(error)


def _gpus() -> list[str] | str:
    """The GPUs and the newest CUDA of their driver, or why there is none."""
    try:
        found = driver()
    except InputError as error:
        return str(error)
    major, minor = found.cuda
    served = f"driver for CUDA {major}.{minor}"
    return [f"{gpu.name}, {gpu.target}, {gpu.memory / 1e9:.1f} GB, {served}" for gpu in found.gpus] or "none"


def _memory() -> str:
    free = available_memory()
    return "not told by this system" if free is None else f"{free / 1e9:.1f} GB free"


def _broken_onnxruntime() -> Iterator[str]:
    """A folder that an uninstalled twin has emptied imports as a namespace with nothing in it."""
    try:
        _providers()
    except (ImportError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        yield f"onnxruntime does not work: {reason}; fix: pip install --force-reinstall --no-deps onnxruntime"


def _providers() -> list[str]:
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def _lines(name: str, value: object) -> list[str]:
    """One line, or one for each backend, since what they lack takes a sentence."""
    if name in ONE_EACH and isinstance(value, dict):
        return [f"{ONE_EACH[name]} {key}: {item}" for key, item in value.items()]
    if isinstance(value, dict):
        return [f"{name}: " + ", ".join(f"{key} {item}" for key, item in value.items())]
    return [f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}"]
