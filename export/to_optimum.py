"""A plain Stable Diffusion bundle as the folder that Optimum's ONNX Runtime pipelines load, from the bundle alone."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from x2i.runtime.bundle import open_bundle
from x2i.runtime.errors import InputError
from x2i.runtime.plan import Plan

from .composed_graphs import write_decoder, write_denoiser, write_text_encoder
from .errors import PlanError
from .optimum_configs import configurations
from .optimum_layout import DECODER, DENOISER, GRAPH, NEAREST, TEXT_ENCODER, scheduler_of
from .optimum_tokenizer import tokenizer_files

STAGES = ("text_encoder", "projection")


def export_folder(bundle: Path, out: Path, report: Callable[[str], None] = lambda line: None) -> None:
    """Writes the new folder `out`: the bundle's graphs with Optimum's inputs and outputs, and their configurations.

    The projection and the denoiser become one graph, which projects the prompt in every step. Raises InputError for a
    folder that is no bundle or an `out` that exists, PlanError for a bundle that a plain pipeline cannot run; then
    nothing is left behind.
    """
    opened = open_bundle(bundle)
    plan = opened.manifest.plan
    if problems := _problems(plan):
        raise PlanError(*problems)
    with _new_folder(out) as work:
        for name, content in configurations(opened.manifest).items():
            _write_json(work / name, content)
        for name, text in tokenizer_files(opened).items():
            (work / "tokenizer").mkdir(exist_ok=True)
            (work / "tokenizer" / name).write_text(text, encoding="utf-8")
        write_text_encoder(opened, work / TEXT_ENCODER / GRAPH)
        write_denoiser(opened, work / DENOISER / GRAPH)
        write_decoder(opened, work / DECODER / GRAPH)
    if plan.sampler.name in NEAREST:
        report(f"scheduler: {scheduler_of(plan.sampler.name)} is the nearest to {plan.sampler.name}, and not the same")
    report(f"{out}: ORTStableDiffusionPipeline.from_pretrained({str(out)!r})")


def _problems(plan: Plan) -> list[str]:
    """What a plain text-to-image pipeline does not know."""
    stages = [stage.graph for conditioner in plan.conditioners for stage in conditioner.stages]
    inputs = [given for conditioner in plan.conditioners for given in conditioner.inputs()]
    plain = tuple(stages) == STAGES and len(inputs) == 1 and plan.conditioners[0].text is not None
    if plain and len(plan.segments) == 1 and plan.injection is None:
        return []
    return [
        "bundle: expected plain Stable Diffusion as `x2i export sd` writes it, got one that runs "
        f"{', '.join(plan.graphs())}; Optimum has no pipeline for it"
    ]


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, which becomes it when all went well, and is gone otherwise."""
    if target.exists():
        raise InputError(f"{target}: expected a new folder, but it exists; choose another name or remove it first")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        yield work
        work.chmod(0o755)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
