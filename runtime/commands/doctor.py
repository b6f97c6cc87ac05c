"""`x2i doctor`: what this installation is made of, what it can run on, and what is wrong with it."""

import json
import os
import platform
import sys
from importlib.metadata import distributions

import click

from ..sessions.session import BACKENDS
from .refusal import Refusal

PACKAGES = ("x2i-edge", "numpy", "onnxruntime", "tokenizers", "pillow", "click")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def doctor(as_json: bool) -> None:
    """Show versions, backends and CPU, and name what is broken; exit code 2 if anything is."""
    problems = onnxruntime_problems()
    facts = {
        "python": f"{platform.python_version()} ({sys.platform}, {platform.machine()})",
        "packages": {name: version for name, version in _versions().items() if name in PACKAGES},
        "backends": list(BACKENDS),
        "cpu": f"{os.cpu_count()} cores{_cpu_features()}",
    }
    if not problems:
        facts["onnxruntime providers"] = _providers()
    if as_json:
        click.echo(json.dumps(facts | {"problems": problems}))
    else:
        for name, value in facts.items():
            click.echo(f"{name}: {_line(value)}")
        click.echo("no problems found" if not problems else f"{len(problems)} problem(s) found")
    if problems:
        raise Refusal("\n".join(problems))


def onnxruntime_problems() -> list[str]:
    """onnxruntime, onnxruntime-gpu and their kin all install the folder `onnxruntime`, and two overwrite each other."""
    owners = sorted(
        f"{found.metadata['Name']} {found.version}"
        for found in distributions()
        if any(file.as_posix() == "onnxruntime/__init__.py" for file in found.files or ())
    )
    if len(owners) < 2:
        return []
    names = " ".join(owner.split()[0] for owner in owners)
    return [
        f"{' and '.join(owners)} share the folder onnxruntime/ and have overwritten each other; "
        f"fix: pip uninstall -y {names} && pip install onnxruntime"
    ]


def _versions() -> dict[str, str]:
    return {found.metadata["Name"].lower(): found.version for found in distributions()}


def _providers() -> list[str]:
    import onnxruntime

    return onnxruntime.get_available_providers()


def _cpu_features() -> str:
    """The instruction sets that decide which CPU kernels run, where the system tells them."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            flags = next((line.split(":")[1].split() for line in stream if line.startswith(("flags", "Features"))), [])
    except OSError:
        return ""
    known = [
        name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "i8mm") if name in flags
    ]
    return f", {' '.join(known)}" if known else ""


def _line(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
