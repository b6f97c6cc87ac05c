"""Maps of regions at the sizes that a denoiser's attention has, and where a region's own noise goes.

All of it as the public Stable Diffusion port of paint-with-words computes it (cloneofsimo/paint-with-words-sd), the
arithmetic of torch's `interpolate` written out. Arrays are float32; a plane is [H, W], in pixels of the painted map.
"""

import math

import numpy as np

BLUR_REACH = 19
"""Pixels that a blur reaches to each side, however wide it is: the port's kernel has 39 taps."""


def latents_grid(grid: tuple[int, int], factor: int) -> tuple[int, int]:
    """(height, width) of latents [h, w] that were halved until a cell has `factor` of theirs: each time rounded up."""
    height, width = grid
    while factor > 1:
        height, width, factor = -(-height // 2), -(-width // 2), factor // 2
    return height, width


def blurred(plane: np.ndarray, sigma: float) -> np.ndarray:
    """A plane blurred by a Gaussian of this deviation in pixels, cut off at BLUR_REACH, its edges mirrored.

    Edges are mirrored around the outermost pixel, again and again where a plane is smaller than the kernel.
    """
    offsets = np.arange(-BLUR_REACH, BLUR_REACH + 1, dtype=np.float64)
    taps = np.exp(-(offsets**2) / (2 * sigma**2))
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        pads = [(0, 0), (0, 0)]
        pads[axis] = (BLUR_REACH, BLUR_REACH)
        padded = np.pad(plane, pads, mode="reflect")
        plane = np.zeros_like(plane, np.float32)
        for first, tap in enumerate(taps):
            plane += tap * padded.take(range(first, first + plane.shape[axis]), axis)
    return plane


def region_columns(plane: np.ndarray, queries: tuple[int, int], pixels: int) -> np.ndarray:
    """A region's weights [N] at a cross-attention with `queries` = (height, width) of them, of `pixels` a side.

    The port halves the picture's own size, halves rounded up, and takes the map with as many cells as the layer has
    queries. Where none has, for the latents' sizes round otherwise, it takes one of about that many and repeats some
    cells: neighbours, not quite in their places.
    """
    wanted, (height, width) = math.prod(queries), plane.shape
    grids = [(_rounded(height / side), _rounded(width / side)) for side in _sides(pixels)]
    # The port keeps maps by their numbers of cells, and of two with the same the coarser one.
    grid = next((each for each in reversed(grids) if math.prod(each) == wanted), None)
    if grid is not None:
        return corners_resized(plane, grid).reshape(-1)
    share = math.sqrt(height * width / wanted)
    near = corners_resized(plane, (max(1, int(height / share)), max(1, int(width / share)))).reshape(-1)
    step = np.float32(len(near) / wanted)
    return near[np.minimum((np.arange(wanted, dtype=np.float32) * step).astype(np.int64), len(near) - 1)]


def _sides(pixels: int) -> list[int]:
    """Pixels of a cell at each of the port's four sizes, of a denoiser whose latents have `pixels` a side."""
    return [pixels * factor for factor in (1, 2, 4, 8)]


def _rounded(size: float) -> int:
    """To the nearest whole number, a half upwards; 1 at least."""
    return max(1, math.floor(size + 0.5))


def corners_resized(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A plane at another (height, width), bilinear: its corner pixels stay at the corners, and none is averaged."""
    for axis, wanted in enumerate(size):
        have = plane.shape[axis]
        step = np.float32((have - 1) / (wanted - 1)) if wanted > 1 else np.float32(0)
        plane = _between(plane, axis, np.arange(wanted, dtype=np.float32) * step)
    return plane


def pixels_resized(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A plane at another (height, width), bilinear between the centres of pixels, and none is averaged."""
    for axis, wanted in enumerate(size):
        step = np.float32(plane.shape[axis] / wanted)
        places = (np.arange(wanted, dtype=np.float32) + np.float32(0.5)) * step - np.float32(0.5)
        plane = _between(plane, axis, np.maximum(places, 0))
    return plane


def nearest_resized(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An array [H, W, ...] at another (height, width), each pixel the one that its centre falls into."""
    for axis, wanted in enumerate(size):
        have = plane.shape[axis]
        plane = plane.take(((np.arange(wanted) + 0.5) * have / wanted).astype(np.int64), axis)
    return plane


def _between(plane: np.ndarray, axis: int, places: np.ndarray) -> np.ndarray:
    """A plane read at places along an axis, between two neighbours by their distance."""
    most = plane.shape[axis] - 1
    low = np.minimum(places.astype(np.int64), most)
    share = (places - low.astype(np.float32)).reshape((-1, 1) if axis == 0 else (1, -1))
    share = share.astype(np.float32)
    return (1 - share) * plane.take(low, axis) + share * plane.take(np.minimum(low + 1, most), axis)
