import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from x2i.runtime.errors import InputError
from x2i.runtime.gate.metrics import psnr, relative_l2, ssim

from tests.numerics import assert_close


def picture(height, width, seed):
    """Blocks of colour under some noise, so that windows have structure."""
    rng = np.random.default_rng(seed)
    blocks = np.kron(rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3)), np.ones((8, 8, 1)))[:height, :width]
    return (blocks * 0.8 + rng.normal(20, 8, (height, width, 3))).clip(0, 255).astype(np.uint8)


def spoiled(picture, strength, seed=9):
    noise = np.random.default_rng(seed).normal(0, strength, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(48, 40), (11, 64), (64, 11), (37, 53)])
@pytest.mark.parametrize("strength", [0.5, 10, 120])
def test_pictures_are_as_alike_as_scikit_image_says(size, strength):
    expected = picture(*size, seed=1)
    actual = spoiled(expected, strength)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    assert_close(ssim(actual, expected), structural_similarity(expected, actual, channel_axis=-1, **settings), "metric")
    assert_close(psnr(actual, expected), peak_signal_noise_ratio(expected, actual, data_range=255), "metric")


def test_equal_pictures_are_equal_and_unrelated_ones_are_not():
    one, noise = picture(48, 40, seed=1), np.random.default_rng(0).integers(0, 256, (48, 40, 3)).astype(np.uint8)
    assert (psnr(one, one), ssim(one, one)) == (math.inf, 1.0)
    assert psnr(noise, one) < 10 and abs(ssim(noise, one)) < 0.1
    assert ssim(picture(48, 40, seed=2), one) < 0.4


@pytest.mark.parametrize("channel", range(3))
def test_every_channel_counts(channel):
    one = picture(16, 24, seed=1)
    other = one.copy()
    other[..., channel] = 255 - other[..., channel]
    assert ssim(other, one) < 0.8 and psnr(other, one) < 20


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (10, 11)])
def test_a_picture_smaller_than_the_window_is_refused(size):
    with pytest.raises(InputError, match=f"at least 11x11 pixels to compare, got {size[0]}x{size[1]}"):
        ssim(picture(*size, seed=1), picture(*size, seed=1))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_other_sizes_are_refused(metric):
    with pytest.raises(InputError, match=r"expected \[40, 48, 3\] as fp32 drew it, got \[48, 40, 3\]"):
        metric(picture(48, 40, seed=1), picture(40, 48, seed=1))


def test_latents_are_measured_by_their_norm():
    expected = np.random.default_rng(0).standard_normal((1, 4, 6, 5)).astype(np.float32)
    assert relative_l2(expected, expected) == 0
    assert_close(relative_l2(expected * np.float32(1.25), expected), 0.25, "metric")
    assert_close(relative_l2(np.zeros_like(expected), expected), 1.0, "metric")
    assert relative_l2(expected, np.zeros_like(expected)) == math.inf
    with pytest.raises(InputError, match="latents: expected"):
        relative_l2(expected[:, :3], expected)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_infinitely_far(value):
    expected = np.ones((1, 4, 6, 5), np.float32)
    spoilt = expected.copy()
    spoilt[0, 1, 2, 3] = value
    assert relative_l2(spoilt, expected) == relative_l2(expected, spoilt) == relative_l2(spoilt, spoilt) == math.inf
