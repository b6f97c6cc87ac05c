"""A plan in words: what goes where, and what happens at which step."""

from ..inputs import Injection, Input, MarkerInput, MixInput, PictureInput, SoundInput, TextInput, WordInput
from ..plan import Conditioner, Plan, Segment, matches
from .preset_lines import preset_lines


def plan_lines(plan: Plan, graphs: set[str]) -> list[str]:
    """One line for each input, graph call, segment and choice, in the order of a run."""
    lines = ["plan, once a picture"]
    for conditioner in plan.conditioners:
        lines += _conditioner(conditioner, graphs)
    if plan.injection is not None:
        lines.append(f"  {_injection(plan.injection)} -> {', '.join(plan.injection.slots())}")
    lines.append(
        f"plan, at every step: {plan.sampler.name}, {plan.sampler.steps} steps, guidance {plan.guidance.scale:g}"
    )
    several = any(segment.delay is not None for segment in plan.segments)
    for segment in plan.segments:
        lines += _segment(segment, several, plan.sampler.steps)
    decoder = plan.decoder
    height, width = decoder.size
    lines.append("plan, at the end")
    lines.append(
        f"  latents -> {decoder.graph} -> {height}x{width} pixels, {decoder.factor} per latent, "
        f"{decoder.to_uint8} to bytes"
    )
    return lines + [line for name, preset in plan.presets.items() for line in preset_lines(name, preset)]


def _conditioner(conditioner: Conditioner, graphs: set[str]) -> list[str]:
    lines = [
        f"  {_input(given)}" + (f" -> {', '.join(given.slots())}" if given.slots() else "")
        for given in conditioner.inputs()
    ]
    for stage in conditioner.stages:
        lines.append(f"  {', '.join(stage.inputs.values())} -> {stage.graph} -> {', '.join(stage.outputs.values())}")
        if "{" in stage.graph:
            lines.append(f"    one of: {', '.join(matches(stage.graph, graphs))}")
    return lines


def _segment(segment: Segment, several: bool, steps: int) -> list[str]:
    """When the segment is in charge, by the bundle's own defaults, and what it reads."""
    when = f"from timestep {segment.from_timestep:g}"
    if several and segment.delay is None:
        when += ", UNet call 0 and on"
    lines = [f"  {when}: {segment.graph}, reading {', '.join(segment.context.values())}"]
    if segment.delay is not None:
        start = segment.delay.last_call(steps, None, None)
        lines = [
            f"  {when}, UNet call {start + 1:g} and on: {segment.graph}, reading {', '.join(segment.context.values())}",
            "    or as start_merge_step says (the last call before), or alpha ((1 - alpha) * steps is the last before)",
        ]
    return lines


def _input(given: Input) -> str:
    match given:
        case TextInput():
            return f"prompt, {given.tokenizer}, window of {given.window} tokens"
        case WordInput():
            return f"word ({given.default!r}), up to {given.most} embeddings"
        case MarkerInput(marks=True):
            return f"the prompt's nouns before the marker ({given.default!r})"
        case MarkerInput():
            return f"the prompt without the marker ({given.default!r})"
        case SoundInput():
            seconds = given.frames / given.rate
            return f"sound, {seconds:g} s at {given.rate} Hz"
        case MixInput():
            return f"{given.slot}, mixed with a text bundle's where a prompt is given"
        case PictureInput():
            grid = f", {given.grid}x{given.grid} patches" if given.grid else ""
            first = f", scaled to {given.resolution}x{given.resolution} first" if given.resolution else ""
            return f"{given.kind}, {given.size}x{given.size} pixels{first}{grid}"


def _injection(given: Injection) -> str:
    where = "where the word is attended to" if given.at_word else "everywhere"
    return f"strength ({given.strength:g}), {where}, {'both sides' if given.unconditional else 'conditional side'}"
