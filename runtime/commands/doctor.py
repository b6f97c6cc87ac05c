"""`x2i doctor`: what this installation is made of, what it can run on, and what is wrong with it."""

import os
import platform
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import distributions

import click

from ..attention.choice import attention_line
from ..engines.gpu import driver
from ..errors import InputError
from ..machine import available_memory, cpu_features, package_version, package_versions, usable_cores
from ..sessions.backends import BACKENDS
from ..sessions.session import Settings
from ..telemetry import telemetry_state
from .console import Refusal, command, echo_json
from .progress import echo

PACKAGES = ("x2i-edge", "numpy", "onnxruntime", "tokenizers", "pillow", "click")
OPTIONAL = ("openvino", "tensorrt-rtx", "tensorrt", "cuda-bindings", "onnxruntime-gpu")
READY = "ready"
ON_ONNX_RUNTIME = ("cuda", "cpu")


@command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def doctor(as_json: bool) -> None:
    """Show versions, CPU, GPUs, and what each backend lacks; name what is broken, with exit code 2 if anything is."""
    problems = [*double_installs(), *_broken_onnxruntime()]
    facts: dict[str, object] = {
        "python": f"{platform.python_version()} ({sys.platform}, {platform.machine()})",
        "packages": {name: package_version(name) or "not installed" for name in PACKAGES} | package_versions(OPTIONAL),
        "cpu": " ".join([f"{usable_cores()} cores", *cpu_features()]),
        "memory": _memory(),
        "gpus": _gpus(),
        "attention on the CPU": _attention(),
        "telemetry of onnxruntime": telemetry_state(),
        "backends": {name: _backend(name, broken=bool(problems)) for name in BACKENDS},
    }
    if not problems:
        facts["onnxruntime providers"] = _providers()
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


def double_installs() -> Iterator[str]:
    """Distributions that installed the same onnxruntime/ folder: onnxruntime, onnxruntime-gpu and their kin.

    pip lets them overwrite each other's files, and uninstalling one takes the other's files along.
    """
    owners: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for found in distributions():
        for file in found.files or ():
            if file.as_posix() == "onnxruntime/__init__.py":
                owners[os.path.realpath(str(file.locate()))].add((found.metadata["Name"], found.version))
    for path, pair in sorted(owners.items()):
        if len(pair) > 1:
            who = " and ".join(f"{name} {version}" for name, version in sorted(pair))
            yield (
                f"{who} share the folder {os.path.dirname(path)} and have overwritten each other; "
                f"fix: pip uninstall -y {' '.join(sorted({name for name, _ in pair}))} && pip install onnxruntime"
            )


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
    if name == "backends" and isinstance(value, dict):
        return [f"backend {key}: {item}" for key, item in value.items()]
    if isinstance(value, dict):
        return [f"{name}: " + ", ".join(f"{key} {item}" for key, item in value.items())]
    return [f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}"]
