"""Recorded noise as a caller gives it: an array for the start, or draws by their names."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import reason
from ..paint.noise import REGION_DRAW
from .option import short
from .sampling import MOST_PIXELS


def noise_count(noise: Any) -> int | None:
    """How many pictures recorded noise is for, None where there is none that says it. A region's is for all."""
    axis, arrays = (1, [*noise.values()]) if isinstance(noise, Mapping) else (0, [noise])
    counts = [draws.shape[axis] for draws in arrays if isinstance(draws, np.ndarray) and draws.ndim > axis]
    return max(counts, default=None)


def checked_draws(noise: Any) -> tuple[dict[str, np.ndarray], list[str]]:
    """Recorded draws by their names, float [draws, count, ...], and what is wrong with them."""
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


def checked_latents_draws(
    noise: Mapping[str, Any], channels: int, names: Sequence[str], of_regions: bool
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Recorded draws of a walk through latents, each [1, count, C, h, w], and what is wrong with them.

    They have these names, and with `of_regions` those of painted regions, which are [1, 1, C, h, w].
    """
    found, problems = checked_draws(noise)
    regions = {name for name in found if of_regions and REGION_DRAW.fullmatch(name)}
    if strange := [short(name) for name in found.keys() - {*names} - regions]:
        problems.append(f"noise: expected draws named {', '.join(names)}, got {', '.join(strange)}; leave them out")
    count = noise_count({name: draws for name, draws in found.items() if name not in regions}) or 1
    shapes = {(1, count, *draws.shape[2:]) if name in regions else draws.shape for name, draws in found.items()}
    problems += [
        f"noise: expected one draw for all pictures in {name}, got {found[name].shape[1]}"
        for name in sorted(regions)
        if found[name].shape[1] != 1
    ]
    for shape in shapes:
        if len(shape) != 5 or shape[::2][:2] != (1, channels) or 0 in shape or max(shape) > MOST_PIXELS:
            problems.append(f"noise: expected draws of shape [1, count, {channels}, height, width], got {list(shape)}")
    if len(shapes) > 1 and not problems:
        problems.append(f"noise: expected draws of one shape, got {', '.join(map(str, map(list, shapes)))}")
    return {name: np.ascontiguousarray(draws, np.float32) for name, draws in found.items()}, problems


def checked_noise(noise: Any, channels: int) -> tuple[np.ndarray, list[str]]:
    """Start noise as float32 [count, channels, h, w], and what is wrong with it."""
    try:
        noise = np.asarray(noise)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        return np.empty(0), [
            f"noise: expected an array of float32, got {short(noise)}, which is none ({reason(error)})"
        ]
    if noise.ndim != 4 or noise.shape[1] != channels or 0 in noise.shape or noise.dtype.kind != "f":
        return noise, [
            f"noise: expected float32 [count, {channels}, height, width], got {noise.dtype} {list(noise.shape)}"
        ]
    if max(noise.shape) > MOST_PIXELS:
        return noise, [f"noise: expected at most {MOST_PIXELS} along each axis, got {list(noise.shape)}; draw less"]
    if not np.isfinite(noise).all():
        bad = int((~np.isfinite(noise)).sum())
        return noise, [f"noise: expected finite numbers, got {bad} NaN or infinite values; draw it again"]
    return np.ascontiguousarray(noise, np.float32), []
