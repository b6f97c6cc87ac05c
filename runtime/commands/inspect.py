"""`x2i inspect`: what a bundle holds and what it does at which step; what a picture was drawn with."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..attention.choice import attention_text
from ..bundle.calls import Tensor
from ..bundle.manifest import Manifest
from ..bundle.plan import Plan
from ..bundle.reader import open_bundle
from ..bundle.sharing import shared_bytes
from ..errors import InputError, one_line
from ..gate.record import Gate
from ..inputs.option import Option
from ..inputs.registry import run_options
from ..media.parameters import Parameters
from ..media.picture_files import read_parameters, read_texts
from ..sessions.backends import PROVIDERS, backend_named, check_backend, open_session
from ..sessions.session import GraphFile, Settings
from .console import command, echo_json
from .plan_text import closeness_text, limits_line, plan_lines
from .progress import echo

MOST_NAMES = 6
"""Of the parts that stayed in a higher precision."""


@command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--backend", help="Also open every graph on it, and tell which nodes are left to the CPU.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest, or the parameters, as JSON.")
def inspect(path: Path, backend: str | None, as_json: bool) -> None:
    """Show the plan, graphs, errors and origin of the bundle in the folder PATH, or what the picture PATH was drawn
    with."""
    if backend is not None:
        if as_json:
            raise InputError("--backend: expected no --json with it, got both; leave one of the two out")
        check_backend(backend)
    # Unlike Path.is_file, it takes a name too long for one that is not there.
    if os.path.isfile(path):
        if backend is not None:
            raise InputError(f"--backend: expected the folder of a bundle, got a file, {path}; leave --backend out")
        _picture(path, as_json)
        return
    opened = open_bundle(path, check_files=False)
    manifest, shared = opened.manifest, shared_bytes(opened)
    if as_json:
        echo_json(manifest.as_json(), indent=1)
        return
    sharing = [f"  {shared / 1e6:.1f} MB of it are also other bundles' on this disk"] if shared else []
    lines = [
        *_summary(manifest),
        *sharing,
        "",
        *plan_lines(manifest.plan, set(manifest.graphs)),
        "",
        *_graphs(manifest),
    ]
    graphs = [opened.graph_file(name) for name in manifest.graphs]
    lines.append(f"  attention with --backend openvino, here: {_attention(graphs)}")
    for line in lines + ([] if manifest.gate is None else _gate(manifest.gate, manifest.plan)):
        echo(line)
    if backend is not None:
        opened.check_graphs(list(manifest.graphs))
        echo(f"on {backend}, here")
        for graph in graphs:
            echo(f"  {graph.name}: {_placed(graph, backend)}")


def _placed(graph: GraphFile, backend: str) -> str:
    """Where the nodes of a graph are on a backend, or why it cannot be opened there."""
    settings = Settings(rest_on_cpu=backend_named(backend)[0] in PROVIDERS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            placed = getattr(open_session(backend, graph, settings), "placement", None)
    except InputError as refused:
        return refused.problems[0]
    return "opens" if placed is None else placed.line()


def _attention(graphs: list[GraphFile]) -> str:
    """Which attention the graphs may get, or what is wrong with the environment's choice of it."""
    try:
        return attention_text(graphs, Settings())
    except InputError as error:
        return str(error)


def _picture(path: Path, as_json: bool) -> None:
    """What a picture says of itself, in x2i's own words, or as another program wrote it."""
    texts = read_texts(path)
    if texts.json is None and texts.text is not None:
        if as_json:
            echo_json({"parameters": texts.text}, indent=1)
            return
        lines = ["another program wrote of it:", *(f"  {line}" for line in texts.text.splitlines())]
    else:
        parameters = read_parameters(path)
        if as_json:
            echo_json(parameters.as_json(), indent=1)
            return
        lines = [*_parameter_lines(parameters)]
    for line in lines:
        # What others wrote may hold what a terminal would take for an order.
        echo(one_line(line))


def _parameter_lines(parameters: Parameters) -> Iterator[str]:
    walked, known = parameters.walked, run_options()
    yield from [] if parameters.prompt is None else (parameters.prompt.splitlines() or [""])
    for what, mark in (("with", parameters.bundle), ("prompt read by", parameters.text_bundle)):
        if mark is not None:
            yield f"  {what} {mark.name}, {mark.system}, manifest sha256 {(mark.manifest or 'unknown')[:16]}"
    size = f"{walked.size[0]}x{walked.size[1]}"
    yield f"  on {parameters.backend}, by x2i {parameters.x2i}: {walked.sampler}, {walked.steps} steps, {size} pixels"
    for what, values in (("given", parameters.options.values), ("from preset or plan", parameters.defaults.values)):
        if values:
            settings = (f"{known[name].spelling} {_shown(known[name], value)}" for name, value in values.items())
            yield f"  {what}: {', '.join(settings)}"
    for name, files in parameters.files.items():
        for file in files:
            share = "" if file.share is None else f", number {file.share + 1} in it"
            yield f"  {known[name].spelling} {file.name or 'from memory'}  sha256 {file.sha256[:16]}{share}"
    yield from (f"  not to be drawn again: {line}" for line in parameters.missing)


def _shown(option: Option, value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, tuple | list):
        return ("x" if option.form == "size" else " ").join(_shown(option, each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _summary(manifest: Manifest) -> list[str]:
    megabytes = sum(file.bytes for file in manifest.files.values()) / 1e6
    lines = [f"{manifest.system}, revision {manifest.revision}, {len(manifest.files)} files, {megabytes:.1f} MB"]
    lines += [
        f"  from {source.part}: {source.name}  sha256 {source.sha256[:16] or 'none'}" for source in manifest.sources
    ]
    lines.append(f"  licences: {', '.join(manifest.licences) or 'not stated at export'}")
    lines.append("  made with " + ", ".join(f"{name} {version}" for name, version in manifest.producer.items()))
    return lines


def _graphs(manifest: Manifest) -> list[str]:
    lines = ["graphs"]
    for name, graph in manifest.graphs.items():
        size = sum(manifest.files[file].bytes for file in (graph.file, *graph.data)) / 1e6
        measured = graph.measured
        lines.append(
            f"  {name}: {graph.precision}, {size:.1f} MB, error {measured.error:.1e} (gate {measured.gate:.0e})"
        )
        lines.append(f"    {_tensors(graph.inputs)} -> {_tensors(graph.outputs)}")
        if graph.kept:
            lines.append(f"    in higher precision: {_shortened(graph.kept)}")
    return lines


def _gate(gate: Gate, plan: Plan) -> list[str]:
    lines = ["", "gate", f"  {limits_line(gate.limits, plan)}"]
    lines += [f"  case {number}: {closeness_text(found)}" for number, found in enumerate(gate.measured)]
    if gate.judged is not None:
        lines.append(f"  judge: {gate.judged.judge}")
        lines += [
            f"    {kind.name}: accuracy {kind.accuracy:.1%} (fp32 {kind.fp32_accuracy:.1%}), CLIP score "
            f"{kind.clip_score:.3f} (fp32 {kind.fp32_clip_score:.3f}), {kind.drawings} drawings"
            for kind in gate.judged.categories
        ]
    return lines + [f"  accepted: {problem}" for problem in gate.accepted]


def _shortened(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _tensors(tensors: tuple[Tensor, ...]) -> str:
    """One entry each, and one for all layers' tensors of a kind and of one number of axes."""
    families: dict[tuple[str, int], list[Tensor]] = {}
    for tensor in tensors:
        kind, dot, _ = tensor.name.partition(".")
        families.setdefault((kind + dot, len(tensor.shape)), []).append(tensor)
    return ", ".join(_family(kind, members) for (kind, _), members in families.items())


def _family(kind: str, members: list[Tensor]) -> str:
    name = f"{kind}*" if kind.endswith(".") else kind
    shape = ", ".join(_side(set(sides)) for sides in zip(*(m.shape for m in members), strict=True))
    count = f"{len(members)} x " if len(members) > 1 else ""
    return f"{count}{name} {members[0].dtype} [{shape}]"


def _side(sides: set[int | str]) -> str:
    return "|".join(map(str, sorted(sides, key=lambda side: (isinstance(side, str), side))))
