"""Where a bundle's weights came from."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from x2i.runtime.bundle.manifest import Source
from x2i.runtime.bundle.reader import file_record

if TYPE_CHECKING:
    from .plan import ExportPlan


def sources(plan: "ExportPlan") -> tuple[Source, ...]:
    """Every checkpoint of the plan with its digest, and LoRAs with their weights behind a colon; names carry no folder,
    so that no local path travels."""
    loras = tuple(Source("lora", str(choice), digest(choice.path)) for choice in plan.loras)
    if plan.random_weights is not None:
        return (Source("random-weights", plan.random_weights, ""), *loras)
    base = {} if plan.base is None else {"base": Path(plan.base)}
    checkpoints = (
        Source(part, _name(path, plan.base or "" if part == "base" else ""), digest(path))
        for part, path in (base | plan.parts).items()
    )
    return (*checkpoints, *loras)


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the sorted (name, digest) lines of a folder; "" for a hub name."""
    if path.is_file():
        return file_record(path).sha256
    if not path.is_dir():
        return ""
    lines = [
        f"{file.relative_to(path).as_posix()} {file_record(file).sha256}"
        for file in sorted(path.rglob("*"))
        if file.is_file() and not file.name.startswith(".")
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _name(path: Path, base: str) -> str:
    return path.name if path.exists() else base
