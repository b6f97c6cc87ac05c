"""What a bundle takes and gives, as a form or a client sees it."""

from dataclasses import replace
from typing import Any

from ...bundle.manifest import Manifest
from ...inputs.option import OWN_FILES_ONLY, Option
from ..settings import ServerLimits


def served_options(manifest: Manifest, limits: ServerLimits) -> dict[str, Option]:
    """The options that a bundle takes from a request, by name, in the order in which people read them.

    Arrays and weights are none of them: they are for tests, and for whoever owns the machine. What a server limits is
    bounded.
    """
    most = {"count": limits.pictures, "steps": limits.steps}
    return {
        name: replace(option, most=min(most[name], option.most or most[name])) if name in most else option
        for name, option in manifest.options().items()
        if option.form not in OWN_FILES_ONLY and name != "mix"
    }


def pictures_option(manifest: Manifest) -> str | None:
    """The option by which a bundle reads pictures, for interfaces that have one field for them; None where it reads
    none."""
    takes = manifest.plan.options()
    return next((name for name in ("subjects", "subject", "image", "start") if name in takes), None)


def mask_option(pictures: str | None) -> str:
    """The option by which a bundle reads a mask of the pictures that it reads so."""
    return "inpaint" if pictures == "start" else "mask"


def bundle_capabilities(name: str, manifest: Manifest, limits: ServerLimits, loaded: bool) -> dict[str, Any]:
    """One bundle as JSON: see docs/serving.md."""
    process, main = manifest.plan.process, manifest.plan.main
    canvas = process.canvas
    height, width = canvas.size
    size = {"height": height, "width": width, "multiple": canvas.multiple, "fixed": canvas.fixed}
    options = served_options(manifest, limits)
    return {
        "name": name,
        "system": manifest.system,
        "gives": list(process.gives),
        "prompt": manifest.prompt_need,
        "size": size if "picture" in process.gives else None,
        "steps": main.steps,
        "guidance": None if main.guidance.fixed else main.guidance.scale,
        "loaded": loaded,
        "options": {option.name: option.schema() | {"form": option.form} for option in options.values()},
    }
