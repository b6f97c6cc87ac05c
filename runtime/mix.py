"""A sound and a prompt in one context: the mix of GlueGen's script, and the bundle that reads the prompt."""

import numpy as np

from .bundle import Bundle
from .errors import InputError
from .plan import Plan, Stage

MIX = 5
"""How many tokens each keeps when the caller says nothing; the authors draw with 3 to 7."""

TEXT_OPTIONS = ("language", "negative")
"""Those of a call's options that go with the prompt to the bundle that reads it."""


def mixed(sound: np.ndarray, text: np.ndarray, keep: int) -> np.ndarray:
    """Two contexts [B, tokens, D] in one: `keep` tokens of the sound's, `keep` of the text's, then the mean of both.

    The unconditional side is the text's alone. Source: GlueGen's script for sound and text (arXiv 2303.10056).
    """
    assert sound.shape[1:] == text.shape[1:], (sound.shape, text.shape)
    conditional, spoken = sound[-1:], text[-1:]
    rest = (conditional[:, 2 * keep :] + spoken[:, 2 * keep :]) / 2
    return np.concatenate([text[:-1], np.concatenate([conditional[:, :keep], spoken[:, :keep], rest], 1)])


def check_mixable(sound: Bundle, text: Bundle) -> None:
    """Raises InputError unless the first can mix in what the second writes: a context for the very same denoiser."""
    problems = []
    if not any(conditioner.mix for conditioner in sound.manifest.plan.conditioners):
        problems.append(f"{sound.folder}: expected a bundle that draws from a sound, got {sound.manifest.system}")
    inputs = [given for conditioner in text.manifest.plan.conditioners for given in conditioner.inputs()]
    if not inputs or any(given.options() for given in inputs) or context_slot(text.manifest.plan) is None:
        problems.append(
            f"{text.folder}: expected a bundle that draws from a prompt alone, got {text.manifest.system}; export "
            "sd or gluegen-text with the same base"
        )
    problems += [
        f"{text.folder}: expected prompts of {mix.tokens} tokens as {sound.folder} writes, got {window}"
        for mix in (conditioner.mix for conditioner in sound.manifest.plan.conditioners)
        for window in (conditioner.text.window for conditioner in text.manifest.plan.conditioners if conditioner.text)
        if mix is not None and window != mix.tokens
    ]
    if not problems and (parts := _different(sound, text)):
        problems.append(
            f"{text.folder}: expected the base of {sound.folder}, got another {' and '.join(parts)}; export both with "
            "the same --base"
        )
    if problems:
        raise InputError(*problems)


def context_slot(plan: Plan) -> str | None:
    """The slot that the keys and values of every step are projected from."""
    projection = _projection(plan)
    return None if projection is None else next(iter(projection.inputs.values()))


def _projection(plan: Plan) -> Stage | None:
    """The stage that leaves what the segments read."""
    read = {slot for segment in plan.segments for slot in segment.context.values()}
    stages = (stage for conditioner in plan.conditioners for stage in conditioner.stages)
    return next((stage for stage in stages if read & set(stage.outputs.values())), None)


def _different(sound: Bundle, text: Bundle) -> list[str]:
    """Those of the sound's graphs behind the context that the text's bundle has not just so."""
    projection, plan = _projection(sound.manifest.plan), sound.manifest.plan
    assert projection is not None, "a mix that nothing is projected from"
    shared = dict.fromkeys([projection.graph, *(segment.graph for segment in plan.segments)])
    return [name for name in shared if _digests(sound, name) != _digests(text, name)]


def _digests(bundle: Bundle, name: str) -> list[str] | None:
    graph = bundle.manifest.graphs.get(name)
    return None if graph is None else [bundle.manifest.files[file].sha256 for file in (graph.file, *graph.data)]
