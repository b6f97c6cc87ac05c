"""Recorded noise: which draws a plan takes, by which names and shapes, and what size and count they are for."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..bundle.plan import Plan
from ..errors import reason
from ..inputs.option import Shape, is_same_size, short
from ..inputs.pictures.start_picture import FILLED_DRAW, START_DRAW, StartPicture
from ..inputs.sampling import MOST_PIXELS
from ..paint.noise import REGION_DRAW, region_draw
from .canvas import Canvas
from .start_noise import STEP_NOISE, draw_names
from .tokens import TokensProcess

RecordedNoise = np.ndarray | Mapping[str, np.ndarray]
"""Latents' start noise, or draws by their names."""


def drawn_shape(
    plan: Plan, noise: Any, size: tuple[int, int] | None, count: int | None
) -> tuple[RecordedNoise | None, tuple[int, int], int, list[str]]:
    """The noise as the loop takes it, size and count as the noise or the plan has them, and problems, a line each."""
    canvas = plan.process.canvas
    problems: list[str] = []
    cells = None
    if noise is not None and not isinstance(noise, Mapping) and plan.walks_latents:
        noise, cells, problems = _check_noise(noise, plan)
    elif noise is not None and plan.walks_latents:
        noise, cells, problems = _check_latents_draws(noise, plan)
    elif noise is not None:
        noise, problems = _check_draws(noise)
    if noise is not None and not problems:
        size, count, problems = _as_drawn(cells, noise, size, count, canvas)
    wanted = canvas.size if size is None else size
    count = 1 if count is None else count
    problems += canvas.problems(wanted)
    if problems:
        return noise, canvas.size, count, problems
    return noise, wanted, count, canvas.memory_problems(wanted, count)


def _as_drawn(
    cells: Shape | None, noise: Any, size: tuple[int, int] | None, count: int | None, canvas: Canvas
) -> tuple[tuple[int, int] | None, int | None, list[str]]:
    """Size and count as the noise has them, where its cells (height, width) say a size, and what disagrees."""
    from_noise = None if cells is None else (cells[0] * canvas.factor, cells[1] * canvas.factor)
    drawn = noise_count(noise)
    return size if from_noise is None else from_noise, drawn, _disagreements(from_noise, size, drawn, count)


def noise_count(noise: Any) -> int | None:
    """How many pictures recorded noise is for, None where there is none that says it. A region's is for all."""
    axis, arrays = (1, [*noise.values()]) if isinstance(noise, Mapping) else (0, [noise])
    counts = [draws.shape[axis] for draws in arrays if isinstance(draws, np.ndarray) and draws.ndim > axis]
    return max(counts, default=None)


def _check_draws(noise: Any) -> tuple[dict[str, np.ndarray], list[str]]:
    """Recorded draws by their names, and what is wrong with them."""
    if not isinstance(noise, Mapping) or not noise:
        return {}, [f"noise: expected draws by their names, as in an .npz file, got {short(noise)}"]
    found, problems = {}, []
    for name, draws in noise.items():
        if not isinstance(draws, np.ndarray) or draws.dtype.kind != "f" or draws.ndim < 2 or 0 in draws.shape:
            got = f"{draws.dtype} {list(draws.shape)}" if isinstance(draws, np.ndarray) else short(draws)
            problems.append(f"noise: expected {name} as float32 [draws, count, ...], got {got}")
        elif not np.isfinite(draws).all():
            problems.append(f"noise: expected finite numbers in {name}, got NaN or infinite values; draw it again")
        else:
            found[name] = draws
    counts = {name: draws.shape[1] for name, draws in found.items() if not REGION_DRAW.fullmatch(name)}
    if len(set(counts.values())) > 1:
        problems.append(f"noise: expected draws for one number of pictures, got {counts}")
    return found, problems


def _check_latents_draws(noise: Mapping[str, Any], plan: Plan) -> tuple[dict[str, np.ndarray], Shape | None, list[str]]:
    """Recorded draws of a walk through latents by their names, [n, count, C, h, w], their cells (height, width) where
    these are free, and what is wrong with them."""
    found, problems = _check_draws(noise)
    known = _draw_shapes(plan)
    regions = [name for name in found if plan.paint is not None and REGION_DRAW.fullmatch(name)]
    listed = [*known, *([region_draw(0)] if plan.paint is not None else [])]
    known |= dict.fromkeys(regions, (plan.latents.decoder.channels, None, None))
    problems += [
        f"noise: expected one draw for all pictures in {name}, got {found[name].shape[1]}"
        for name in sorted(regions)
        if found[name].shape[1] != 1
    ]
    if strange := [short(name) for name in found if name not in known]:
        problems.append(f"noise: expected draws named {', '.join(listed)}, got {', '.join(strange)}; leave them out")
    free: dict[Shape, Shape] = {}
    for name, draws in found.items():
        shape, one = draws.shape, not name.endswith(STEP_NOISE)
        if not (expected := known.get(name)):
            continue
        fits = len(shape) == len(expected) + 2 and max(shape[1:]) <= MOST_PIXELS
        fits = fits and all(side in (None, given) for side, given in zip(expected, shape[2:], strict=True))
        if not fits or (one and shape[0] != 1):
            sides = [str(side) for side in expected if side is not None] + ["height", "width"] * (None in expected)
            what = f"[{'1' if one else 'draws'}, count, {', '.join(sides)}]"
            problems.append(f"noise: expected draws of shape {what} for {name}, got {list(shape)}")
        elif None in expected:
            free.setdefault(shape[3:], shape[2:])
    if len(free) > 1 and not problems:
        listed = list(map(str, map(list, free.values())))
        problems.append(f"noise: expected draws of one shape, got {', '.join(listed)}")
    problems += _lacking(plan, found)
    cells = next(iter(free), None)
    return {name: np.ascontiguousarray(draws, np.float32) for name, draws in found.items()}, cells, problems


def _draw_shapes(plan: Plan) -> dict[str, tuple[int | None, ...]]:
    """The names of the draws of a walk through latents, each with the shape of a picture's; a free side is None."""
    found: dict[str, tuple[int | None, ...]] = {}
    for process in plan.processes:
        if not isinstance(process, TokensProcess) and (plan.is_level(process) or process.stage is not None):
            canvas = process.canvas
            shape: tuple[int | None, ...] = process.state_shape(canvas.cells(canvas.size))
            shape = shape if canvas.fixed else (shape[0], None, None)
            found |= {name: shape for name in draw_names(plan.draw_prefix(process))}
    free = (plan.latents.decoder.channels, None, None)
    return found | ({START_DRAW: free, FILLED_DRAW: free} if plan.find(StartPicture) else {})


def _lacking(plan: Plan, found: Mapping[str, np.ndarray]) -> Iterator[str]:
    """One line where some of the levels' draws are there, and others of the same kind are not: a picture that is told
    by its draws is told by all of them."""
    for names in zip(*(draw_names(plan.draw_prefix(level)) for level in plan.levels), strict=True):
        lacking = [name for name in names if name not in found]
        if lacking and len(lacking) < len(names):
            given = ", ".join(name for name in names if name in found)
            yield f"noise: expected {', '.join(lacking)} beside {given}, got none; give them all, or leave them out"


def _check_noise(noise: Any, plan: Plan) -> tuple[RecordedNoise, Shape | None, list[str]]:
    """Start noise of latents, of several levels the draws of each; its cells (height, width) where these are free, and
    what is wrong with it. The channels of levels follow one another, the coarsest first."""
    levels, canvas = plan.latent_levels, plan.latents.canvas
    channels = sum(level.decoder.channels for level in levels)
    try:
        noise = np.asarray(noise)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        told = f"noise: expected an array of float32, got {short(noise)}, which is none ({reason(error)})"
        return np.empty(0), None, [told]
    problem = ""
    if noise.ndim != 4 or noise.shape[1] != channels or 0 in noise.shape or noise.dtype.kind != "f":
        problem = f"float32 [count, {channels}, height, width], got {noise.dtype} {list(noise.shape)}"
    elif canvas.fixed and noise.shape[2:] != canvas.size:
        problem = f"float32 [count, {channels}, {canvas.size[0]}, {canvas.size[1]}], got {list(noise.shape)}"
    elif max(noise.shape) > MOST_PIXELS:
        problem = f"at most {MOST_PIXELS} along each axis, got {list(noise.shape)}; draw less"
    elif not np.isfinite(noise).all():
        bad = int((~np.isfinite(noise)).sum())
        problem = f"finite numbers, got {bad} NaN or infinite values; draw it again"
    if problem:
        return noise, None, [f"noise: expected {problem}"]
    cells = None if canvas.fixed else noise.shape[2:]
    whole = np.ascontiguousarray(noise, np.float32)
    if len(levels) == 1:
        return whole, cells, []
    drawn, first = {}, 0
    for level in levels:
        last = first + level.decoder.channels
        drawn[draw_names(plan.draw_prefix(level))[0]] = np.ascontiguousarray(whole[None, :, first:last])
        first = last
    return drawn, cells, []


def _disagreements(from_noise: tuple | None, size: tuple | None, pictures: int | None, count: int | None) -> list[str]:
    problems = []
    if from_noise is not None and size is not None and not is_same_size(size, from_noise):
        problems.append(f"size: the noise is for {from_noise[0]}x{from_noise[1]}, got {short(size)}; leave size out")
    if count is not None and count != pictures:
        problems.append(f"count: the noise holds {pictures} pictures, got {short(count)}; leave count out")
    return problems
