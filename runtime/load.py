"""Opens a bundle on a backend: the one that the caller names, or the best that can be used."""

import os
from pathlib import Path

from .bundle.reader import Bundle, open_bundle
from .engines.store import has_engines
from .errors import InputError, collect_problems
from .inputs.option import is_count, short
from .machine import usable_cores
from .memory_limit import MemoryLimit, RunShape, parsed_size
from .pipeline import Pipeline
from .request import check_preset
from .sessions.backends import BACKENDS, USUAL, Wrap, backend_named, check_backend, graph_opener, on_cpu, unwrapped
from .sessions.session import MOST_THREADS, Settings, checked_attention
from .text_bundle import TextBundle, check_mixable

BACKEND_VARIABLE = "X2I_BACKEND"
"""Environment variable that names the backend where the caller does not."""
SMALL_BUNDLE_BYTES = 100_000_000
"""Bytes of graphs. The embedded models have 28 MB: their first picture takes 1.9 s on OpenVINO without engines, 1.0 s
with them, and 0.9 s on ONNX Runtime, whose steps take a little longer."""


def load(
    folder: str | Path,
    backend: str | None = None,
    threads: int | None = None,
    *,
    text_bundle: str | Path | None = None,
    preset: str | None = None,
    max_memory: str | int | None = None,
    attention: str | None = None,
    rest_on_cpu: bool = False,
) -> Pipeline:
    """A Pipeline for a bundle folder, every file checked against its digest.

    `backend` is one of `x2i.runtime.sessions.backends.BACKENDS`, with a device behind a colon where the backend has
    several (`openvino:GPU`) and a provider behind `ep`; left out, it is the environment's X2I_BACKEND, and else the
    first that is installed and can open all graphs, and `Pipeline.notes` says why those before it could not. `threads`
    limits the CPU threads of one call; `text_bundle` is the folder of a bundle with the same base that reads the
    prompts a sound is mixed with; `preset` is one of the bundle's, and what calls use that name none. `max_memory`, in
    bytes or as in `4GB`, is the memory that drawing may take: graphs are then opened and closed in turns, and what
    needs more is refused. `attention` on the CPU is `auto` (the kernel where it is installed, faster, and no less
    precise than the graph), `library` (OpenVINO's own), or the kernel with products in `bf16` or `int8`; left out, it
    is the environment's X2I_ATTENTION, and else `auto`. `rest_on_cpu` lets the CPU run what `webgpu` or `ep:NAME` do
    not take of a graph.
    Raises InputError when a folder is no bundle, is damaged or newer than this x2i, when two do not fit, or when the
    backend named is unknown or cannot be used.
    """
    if threads is not None and not is_count(threads, MOST_THREADS):
        raise InputError(f"threads: expected a whole number from 1 to {MOST_THREADS}, got {short(threads)}")
    for name, place in (("folder", folder), ("text_bundle", text_bundle)):
        if not isinstance(place, str | os.PathLike) and (name == "folder" or place is not None):
            raise InputError(f"{name}: expected the path of a bundle's folder, got {short(place)}")
    if not isinstance(rest_on_cpu, bool):
        raise InputError(f"rest_on_cpu: expected True or False, got {short(rest_on_cpu)}")
    settings = Settings(threads, checked_attention(attention), rest_on_cpu=rest_on_cpu)
    named = backend_of_environment() if backend is None or (isinstance(backend, str) and not backend) else backend
    if named is not None:
        backend_named(named)
    most = None if max_memory is None else parsed_size(max_memory)
    if most is not None and text_bundle is not None:
        raise InputError("max_memory: expected one bundle alone, got a text_bundle with it; leave one of the two out")
    bundle, text = _bundles(folder, text_bundle)
    check_preset(bundle.manifest.plan, preset)
    if named is not None:
        return pipeline_of(bundle, named, settings, text, preset=preset, most=most)
    return best_pipeline(bundle, text, settings, preset, most)


def backend_of_environment() -> str | None:
    """What X2I_BACKEND says, None where it says nothing."""
    return os.environ.get(BACKEND_VARIABLE) or None


def _bundles(folder: str | Path, text_bundle: str | Path | None) -> tuple[Bundle, Bundle | None]:
    if text_bundle is None:
        return open_bundle(folder), None
    bundle, text = collect_problems(lambda: open_bundle(folder), lambda: open_bundle(text_bundle))
    check_mixable(bundle, text)
    return bundle, text


def best_pipeline(
    bundle: Bundle,
    text: Bundle | None = None,
    settings: Settings = USUAL,
    preset: str | None = None,
    most: int | None = None,
    wrap: Wrap = unwrapped,
) -> Pipeline:
    """`pipeline_of` on the first backend that is installed and opens every graph; the last one's problem is the
    caller's."""
    notes: list[str] = []
    present = [name for name, backend in BACKENDS.items() if backend.tried and backend.present()]
    for name in present[:-1]:
        if name == "openvino" and _opens_slowly(bundle, preset):
            notes.append(
                "not on openvino: it would compile this small bundle anew, which takes longer than drawing with it; "
                "x2i build BUNDLE --for openvino, or --backend openvino"
            )
            continue
        try:
            return pipeline_of(bundle, name, settings, text, tuple(notes), preset, most, wrap)
        except InputError as error:
            notes.append(f"not on {name}: {error.problems[0].removeprefix(f'backend {name}: ')}")
    return pipeline_of(bundle, present[-1], settings, text, tuple(notes), preset, most, wrap)


def _opens_slowly(bundle: Bundle, preset: str | None) -> bool:
    """Whether OpenVINO would spend more on a bundle than it saves: a small one that it has no engines of."""
    wanted = bundle.manifest.plan.needed_graphs(preset)
    graphs = [bundle.graph_file(name) for name in bundle.manifest.graphs if name in wanted]
    small = sum(bundle.graph_bytes(graph.name) for graph in graphs) < SMALL_BUNDLE_BYTES
    return small and not any(has_engines(graph.engines, graph.name, "openvino") for graph in graphs)


def pipeline_of(
    bundle: Bundle,
    backend: str,
    settings: Settings = USUAL,
    text: Bundle | None = None,
    notes: tuple[str, ...] = (),
    preset: str | None = None,
    most: int | None = None,
    wrap: Wrap = unwrapped,
) -> Pipeline:
    """A Pipeline for bundles that are open already, on the backend named, with `most` bytes of memory; `wrap` may put
    something of its own around each of the first one's sessions."""
    side = None if text is None else TextBundle(text, graph_opener(backend, text, settings))
    limit = None if most is None else _limit(bundle, backend, settings, preset, most)
    openers = (settings.threads or usable_cores()) if on_cpu(backend) else 1
    opener = graph_opener(backend, bundle, settings, wrap)
    return Pipeline(bundle, opener, side, backend, notes, preset, limit, openers, settings.threads)


def _limit(bundle: Bundle, backend: str, settings: Settings, preset: str | None, most: int) -> MemoryLimit:
    """Raises InputError where the backend cannot be used, or the weights alone need more."""
    limit = MemoryLimit(most, bundle, backend)
    graphs = [graph for graph in bundle.manifest.plan.needed_graphs(preset) if graph in bundle.manifest.graphs]
    for graph in graphs:
        check_backend(backend, bundle.graph_file(graph), settings)
    limit.first_that_fits([RunShape()], graphs)
    return limit
