"""The two readings of a noise prediction: the clean latents it implies, and the way to another noise level."""

import math

import numpy as np


def pred_x0(x: np.ndarray, noise: np.ndarray, alpha: float) -> np.ndarray:
    """Clean latents that `x` at cumulative alpha `alpha` holds if `noise` is its noise; not clipped."""
    return (x - math.sqrt(1 - alpha) * noise) / math.sqrt(alpha)


def transfer(x: np.ndarray, noise: np.ndarray, alpha: float, alpha_next: float) -> np.ndarray:
    """`x` moved from one cumulative alpha to another while its noise and clean latents stay what they are.

    The DDIM step with eta 0 (Song et al. 2020, arXiv 2010.02502, equation 12) and PNDM's transfer (Liu et al. 2022,
    arXiv 2202.09778, equation 9) are this same map.
    """
    keep = math.sqrt(alpha_next / alpha)
    return keep * x + (math.sqrt(1 - alpha_next) - keep * math.sqrt(1 - alpha)) * noise
