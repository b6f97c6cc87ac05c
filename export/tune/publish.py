"""A stand-in for a bundle while it is tuned, and the way of what was found into the bundle."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from x2i.runtime.bundle.manifest import FILE_NAME, REVISION, Manifest, graph_files
from x2i.runtime.bundle.preset import Preset
from x2i.runtime.bundle.reader import ENGINES, Bundle
from x2i.runtime.bundle.writer import write_manifest
from x2i.runtime.files.staging import staging_folder


@contextmanager
def bundle_copy(bundle: Bundle) -> Iterator[Bundle]:
    """The bundle in a folder that is gone afterwards; files are linked where the disk can, else copied."""
    home = bundle.folder.absolute()
    with staging_folder(home.parent, "tuning") as work:
        for name in bundle.manifest.files:
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            _link(home / name, work / name)
        if (home / ENGINES).is_dir():
            (work / ENGINES).symlink_to(home / ENGINES)
        yield Bundle(work, bundle.manifest)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Not every disk has links, and not every folder is on one disk.
        shutil.copyfile(source, target)


def publish(bundle: Bundle, tuned: Bundle, name: str) -> Preset:
    """Adds the preset `name` of `tuned`, a stand-in of `bundle` on the same disk; one of that name is replaced.

    Graphs come first and the manifest last, by renaming: the bundle is whole at every moment. Graphs that no preset
    needs any more go in the end.
    """
    manifest = _merged_manifest(bundle.manifest, tuned.manifest, name)
    added = [file for file in manifest.files if file not in bundle.manifest.files]
    try:
        for file in added:
            bundle.path(file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(tuned.path(file), bundle.path(file))
        with staging_folder(bundle.folder, "tuned") as work:
            written = replace(tuned, folder=work)
            write_manifest(written.folder, manifest)
            os.replace(written.path(FILE_NAME), bundle.path(FILE_NAME))
    except OSError:
        for file in added:
            bundle.path(file).unlink(missing_ok=True)
        raise
    for file in bundle.manifest.files.keys() - manifest.files.keys():
        bundle.path(file).unlink()
    return manifest.plan.presets[name]


def without_presets(manifest: Manifest) -> Manifest:
    """The manifest without presets, the graphs that they alone need, and those graphs' files."""
    kept = manifest.without(_variants(manifest, manifest.plan.presets.values()))
    return replace(kept, plan=replace(manifest.plan, presets={}))


def _merged_manifest(old: Manifest, tuned: Manifest, name: str) -> Manifest:
    presets = old.plan.presets | {name: tuned.plan.presets[name]}
    plan = replace(old.plan, presets=presets)
    needed = _variants(old, presets.values())
    dropped = _variants(old, old.plan.presets.values()) - needed
    known = old.graphs | {graph: made for graph, made in tuned.graphs.items() if graph in needed}
    graphs = {graph: made for graph, made in known.items() if graph not in dropped}
    used = graph_files(graphs.values())
    unused = graph_files((old.graphs | tuned.graphs).values()) - used
    files = {file: record for file, record in (old.files | tuned.files).items() if file not in unused}
    return replace(old, plan=plan, graphs=graphs, files=files, revision=REVISION)


def _variants(manifest: Manifest, presets: Iterable[Preset]) -> set[str]:
    """The graphs that these presets need beyond the denoisers themselves."""
    segments = set(manifest.plan.denoisers())
    return {variant.name for preset in presets for graph in segments for variant in preset.variants(graph)} - segments
