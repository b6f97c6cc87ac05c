"""What a bundle takes and gives, as a form or a client sees it."""

from dataclasses import replace
from typing import Any

from ...bundle.manifest import Manifest
from ...inputs.option import OWN_FILES_ONLY, Option
from ...inputs.registry import input_options, run_options
from ...inputs.sampling import LATENTS_OPTIONS
from ...inputs.text.items import ItemsInput
from ...inputs.text.prompt import TextInput
from ...samplers.registry import SAMPLERS
from ..settings import ServerLimits


def served_options(manifest: Manifest, limits: ServerLimits) -> dict[str, Option]:
    """The options that a bundle takes from a request, by name, in the order in which people read them.

    Arrays and weights are none of them: they are for tests, and for whoever owns the machine. Words that only the
    bundle knows, such as its languages, become choices, and what a server limits is bounded.
    """
    plan = manifest.plan
    left_out = {option.name for option in run_options().values() if option.form in OWN_FILES_ONLY} | {"mix"}
    left_out |= input_options() - plan.options()
    left_out |= {"language", "negative"} if prompt_need(manifest) == "none" else set()
    left_out |= set() if plan.walks_latents else {option.name for option in LATENTS_OPTIONS}
    left_out |= {"size"} if plan.process.canvas.fixed else set()
    left_out |= {"guidance"} if plan.main.guidance.fixed else set()
    choices = {"language": manifest.languages, "preset": tuple(plan.presets), "sampler": tuple(SAMPLERS)}
    left_out |= {name for name, words in choices.items() if not words}
    most = {"count": limits.pictures, "steps": limits.steps}
    found = {}
    for name, option in run_options().items():
        if name in left_out:
            continue
        if name in choices:
            option = replace(option, form="choice", choices=choices[name])
        found[name] = replace(option, most=min(most[name], option.most or most[name])) if name in most else option
    return found


def prompt_need(manifest: Manifest) -> str:
    """Whether a bundle reads a prompt: "required", "optional" or "none"."""
    text = manifest.plan.find(TextInput)
    if text is None:
        return "none" if manifest.plan.find(ItemsInput) is None else "optional"
    return "optional" if text.optional else "required"


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
        "prompt": prompt_need(manifest),
        "size": size if "picture" in process.gives else None,
        "steps": main.steps,
        "guidance": None if main.guidance.fixed else main.guidance.scale,
        "loaded": loaded,
        "options": {option.name: option.schema() | {"form": option.form} for option in options.values()},
    }
