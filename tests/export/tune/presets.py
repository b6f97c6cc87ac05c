"""Presets of every kind, written into a bundle as `x2i tune` does."""

from dataclasses import replace
from pathlib import Path

from x2i.export.reuse.checked_variants import with_variants
from x2i.export.tune.publish import bundle_copy, publish
from x2i.runtime.bundle.preset import Preset
from x2i.runtime.bundle.reader import Bundle, open_bundle

RUN = {"prompt": "a red cat", "language": "French", "steps": 7, "sampler": "ddim", "seed": 5}
PRESETS = {
    "plain": Preset(),
    "whole": Preset(guidance_interval=(1000, 0)),
    "unguided": Preset(guidance_interval=(0, 0)),
    "cached": Preset(cache_interval=3),
    "deeper": Preset(cache_interval=3, cache_depth=2),
    "frozen": Preset(tgate_from=600),
    "both": Preset(cache_interval=2, tgate_from=600),
    "few": Preset(sampler="euler", steps=3),
    "thinned": Preset(kv_downsample=2),
}


def add(folder: Path, name: str, preset: Preset) -> None:
    bundle = open_bundle(folder, check_files=False)
    with bundle_copy(bundle) as work:
        made = with_variants(work, preset.variants("denoiser"))
        plan = replace(made.manifest.plan, presets={name: preset})
        publish(bundle, Bundle(made.folder, replace(made.manifest, plan=plan)), name)


def files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
