"""From a mono recording to what the audio encoder hears, by the preparation that GlueGen's recordings get."""

import numpy as np


def prepared(samples: np.ndarray, frames: int) -> np.ndarray:
    """Mono samples at the encoder's rate, [n] -> float32 [2, frames], from -32768 to 32767 and padded on both sides.

    A recording that is longer keeps its start. The scale makes loudness meaningless, and the padding repeats the
    first and the last sample.
    """
    kept = np.asarray(samples, np.float32)[:frames]
    low, high = kept.min(), kept.max()
    assert high > low, "a constant recording has no scale"
    scaled = (kept - low) / (high - low) * np.float32(65535) - np.float32(32768)
    missing = frames - len(scaled)
    left = round(0.5 * missing)
    return np.repeat(np.pad(scaled, (left, missing - left), mode="edge")[None], 2, axis=0)
