"""Bundles that are made again when what makes them has changed: weights, exporter, or the libraries below it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from x2i.export.provenance import digest
from x2i.runtime.commands.console import Refusal

ROOMS = ("models", "kernels", "export", "runtime")
PACKAGES = ("torch", "diffusers", "transformers", "onnx", "onnx-ir", "onnxscript", "numpy", "safetensors", "tokenizers")
Report = Callable[[str], None]


def source_digest(*paths: Path, settings: str = "") -> str:
    """SHA-256 of what makes a bundle: files and folders, `settings`, every Python file of the product's rooms, and the
    versions of the libraries that they export with."""
    import onnxruntime

    lines = [settings, f"onnxruntime {onnxruntime.__version__}", *(f"{name} {version(name)}" for name in PACKAGES)]
    lines += [f"{path.name} {digest(path)}" for path in paths]
    for room in ROOMS:
        spec = find_spec(f"x2i.{room}")
        assert spec is not None and spec.origin is not None, room
        home = Path(spec.origin).parent
        lines += [f"{room}/{path.relative_to(home).as_posix()} {digest(path)}" for path in sorted(home.rglob("*.py"))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def up_to_date(bundle: Path, source: str, make: Callable[[], object], report: Report) -> Path:
    """The folder `bundle`, made now by `make` unless it is there and was made from the same `source`.

    Raises Refusal as `remake` does where it is out of date.
    """
    if not bundle.exists() or _record(bundle).get("source") != source:
        remake(bundle, source, make, report)
    return bundle


def remake(bundle: Path, source: str, make: Callable[[], object], report: Report) -> None:
    """Makes the folder `bundle` by `make`, in the place of what an earlier call made there, and notes its `source` in
    the file `.NAME.source` beside it.

    Raises Refusal, and leaves everything as it is, where the folder was not made so, or was changed since.
    """
    if bundle.exists():
        _discard(bundle, report)
    make()
    record = {"source": source, "manifest": digest(bundle / "manifest.json")}
    record_file(bundle).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def record_file(bundle: Path) -> Path:
    """The file that says what a bundle was made from: JSON, the digests of its sources and of its manifest."""
    return bundle.with_name(f".{bundle.name}.source")


def _record(bundle: Path) -> dict[str, str]:
    path = record_file(bundle)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _discard(bundle: Path, report: Report) -> None:
    """Removes a folder that `remake` made and nobody has changed; a kill in between leaves no record for a new one."""
    record = _record(bundle)
    if record.get("manifest") != digest(bundle / "manifest.json"):
        how = "changed since it was made" if record else "not made by this command"
        raise Refusal(
            f"{bundle}: expected a bundle of these weights and this exporter, got one that is {how}; "
            "remove it, or name another folder with --out"
        )
    report(f"{bundle}: its weights, the exporter or a library changed since; making it again")
    stale = bundle.with_name(f".{bundle.name}.stale")
    shutil.rmtree(stale, ignore_errors=True)
    bundle.rename(stale)
    record_file(bundle).unlink()
    shutil.rmtree(stale)
