"""The one comparison of the tests and its one table of tolerances."""

from dataclasses import dataclass

import numpy as np

from tests.goldens import current_test


@dataclass(frozen=True)
class Tolerance:
    """`absolute` in the unit of the data; `relative` as a share of the expected array's standard deviation."""

    absolute: float = 0.0
    relative: float = 0.0
    source: str = ""


TOLERANCES = {
    "pixels": Tolerance(absolute=1e-6, source="elite SPEC 10: normalised pixels"),
    "antialias": Tolerance(absolute=5e-5, source="levels of 255, summed with or without fused multiplication"),
    "metric": Tolerance(absolute=1e-6, source="float64 in another order; in dB, and in shares of 1"),
    "cosine": Tolerance(absolute=1e-5, source="fp32 sums of a batch in another order"),
    "exact": Tolerance(source="integers and bytes"),
    "translator": Tolerance(relative=2e-5, source="gluegen SPEC 8 says 1e-5, which float64 misses by a tenth"),
    "xlmr": Tolerance(absolute=1e-5, source="gluegen SPEC 8"),
    "context": Tolerance(absolute=1e-4, source="gluegen SPEC 8"),
    "trajectory": Tolerance(absolute=2e-4, source="gluegen SPEC 8"),
    "clean-latents": Tolerance(absolute=2e-4, relative=1e-4, source="trajectory, enlarged by 1 / sqrt(alpha)"),
    "unet": Tolerance(absolute=1e-4, source="gluegen SPEC 8: UNet and VAE"),
    "latents": Tolerance(relative=1e-3, source="gluegen SPEC 8: final latents"),
    "elite-stage": Tolerance(relative=1e-5, source="elite SPEC 10, of the spread instead of the maximum"),
    "postfuse": Tolerance(absolute=1e-4, source="fastcomposer SPEC 11: fused embeddings"),
    "ip-adapter": Tolerance(relative=1e-5, source="equal to diffusers in float32"),
    "ip-adapter-latents": Tolerance(relative=1e-4, source="equal to diffusers in float32, over a run"),
    "elite-latents": Tolerance(relative=1e-4, source="elite SPEC 10: final latents"),
    "unclip-net": Tolerance(relative=1e-4, source="unclip SPEC 11: nets"),
    "unclip-run": Tolerance(relative=1e-3, source="unclip SPEC 11, in relative L2: embeddings, pictures"),
    "unclip-sampler": Tolerance(relative=2e-6, source="unclip SPEC 11: 1.1e-6 with the recorded predictions"),
    "frido-net": Tolerance(relative=1e-4, source="frido SPEC 8: nets"),
    "frido-run": Tolerance(relative=1e-3, source="frido SPEC 8, in relative L2: latents"),
    "frido-sampler": Tolerance(relative=2e-6, source="frido SPEC 8: 2e-7 with the recorded predictions"),
    "frido-picture": Tolerance(absolute=2, source="frido SPEC 8: where the codes agree"),
    "m-vader-context": Tolerance(absolute=1e-4, source="mvader SPEC 6: contexts"),
    "m-vader-net": Tolerance(relative=1e-4, source="mvader SPEC 6: nets"),
    "m-vader-run": Tolerance(relative=1e-3, source="mvader SPEC 6: latents, in relative L2"),
    "m-vader-picture": Tolerance(absolute=2, source="mvader SPEC 6: pictures, in levels of 255"),
    "bfloat16": Tolerance(relative=0.1, source="measured: 0.02 between two orders of sums with 8 bits of mantissa"),
    "split-shortcut": Tolerance(relative=1e-5, source="fp32 sums in another order"),
    "half-graph": Tolerance(relative=0.05, source="measured: 0.013, where XLM-R adds up its layers; 0.005 elsewhere"),
    "half-run-latents": Tolerance(relative=0.15, source="measured: 0.04 at guidance 20, 0.06 on the emoji model"),
    "half-run-picture": Tolerance(absolute=8, source="measured: 3 levels of 255 at guidance 20, 5 on the emoji model"),
    "elite-latents-half": Tolerance(relative=0.02, source="measured: 0.007, and 0.013 where torch sums in float16"),
    "elite-picture-half": Tolerance(absolute=2, source="measured: 1 level of 255, and 2 where torch sums in float16"),
    "fastcomposer-stage": Tolerance(absolute=1e-4, source="fastcomposer SPEC 11: object, text and fused vectors"),
    "fastcomposer-unet": Tolerance(relative=1e-4, source="fastcomposer SPEC 11"),
    "fastcomposer-latents": Tolerance(relative=1e-3, source="fastcomposer SPEC 11: final latents"),
    "waveform": Tolerance(absolute=1e-2, source="gluegen SPEC 8, of 32768"),
    "waveform-bits": Tolerance(absolute=5, source="two levels of 16 bits at nearly half the scale"),
    "waveform-float32": Tolerance(absolute=0.5, source="float32 at 60 times the sound's own scale"),
    "waveform-resampled": Tolerance(absolute=0.5, source="half a level of 16 bits"),
    "bits-16": Tolerance(absolute=1 / 32767, source="one level of 16 bits"),
    "bits-8": Tolerance(absolute=1 / 127, source="one level of 8 bits"),
    "fastcomposer-twin": Tolerance(relative=5e-5, source="measured: 1e-5 over a run; another picture makes 1e-3"),
    "batched": Tolerance(relative=1e-5, source="fp32 sums of a batch in another order"),
    "batched-latents": Tolerance(relative=1e-4, source="a batch's order of sums, over a run"),
    "injected-attention": Tolerance(relative=1e-5, source="fp32 sums in another order"),
    "injected-attention-openvino": Tolerance(relative=3e-5, source="measured: 1.1e-5, an exponential of its own"),
    "attention-bf16": Tolerance(relative=7e-3, source="twice OpenVINO's own in bfloat16 on random data"),
    "attention-int8": Tolerance(
        relative=3e-2, source="twice OpenVINO's own with int8 q and k on random data; 2.5e-2 seen at logits of 4"
    ),
    "attention-bf16-run": Tolerance(relative=0.04, source="measured: 0.02, which guidance of 7.5 makes of 3e-3"),
    "attention-int8-run": Tolerance(relative=0.12, source="measured: 0.06, which guidance of 7.5 makes of 1e-2"),
    "attention-extreme": Tolerance(relative=0.2, source="measured: 0.12 in int8, 0.05 in bfloat16, at logits of 200"),
    "codec-picture": Tolerance(absolute=2e-2 / 127.5, source="vq_diffusion SPEC 6: 0.02 of 255 levels"),
    "codec-raw": Tolerance(
        absolute=5e-5, source="vq_diffusion SPEC 6: measured 4e-6 against float64, before the clamp"
    ),
    "mel": Tolerance(absolute=2e-4, source="diffsound SPEC 5"),
    "wave": Tolerance(absolute=5e-4, source="diffsound SPEC 5"),
    "folded-range": Tolerance(relative=5e-5, source="measured: 1e-5 through a codec, fp32 sums in another order"),
    "folded": Tolerance(absolute=1e-6, source="one division in float32"),
    "music-wave": Tolerance(absolute=1e-5, source="cdcd SPEC 6: measured 3e-7; one changed token moves it by 0.2"),
    "dance": Tolerance(absolute=2e-5, source="measured: 1e-6; float32 sums in another order"),
    "spectrogram": Tolerance(absolute=1e-5, source="gluegen SPEC 8"),
    "decibels": Tolerance(absolute=0.05, source="gluegen SPEC 8: where above -80 dB"),
    "sound-stage": Tolerance(absolute=1e-5, relative=1e-5, source="gluegen SPEC 8: features of one spectrogram"),
    "sound-features": Tolerance(absolute=1e-5, source="gluegen SPEC 8: features of one spectrogram"),
    "heard-features": Tolerance(absolute=1e-4, source="gluegen SPEC 8: a third of what float64 changes"),
    "attention-share": Tolerance(absolute=1e-5, source="fp32 sums of probabilities"),
    "weights-8": Tolerance(relative=0.1, source="measured: 0.057 where OpenVINO runs XLM-R; 0.052 elsewhere"),
    "weights-4": Tolerance(relative=1.0, source="measured: 0.54 on the largest number, a seventh of the norm"),
    "token-logits": Tolerance(absolute=1e-4, source="vq_diffusion SPEC 6, cdcd SPEC 4: suggested for logits"),
    "token-context": Tolerance(absolute=2e-6, source="vq_diffusion SPEC 6: 3e-7 in float64, seven times as much here"),
    "content-embedding": Tolerance(absolute=1e-6, source="one float32 sum"),
    "sampler-step": Tolerance(absolute=1e-5, relative=1e-5, source="equal per step to diffusers"),
    "scheduler-timesteps": Tolerance(absolute=0.01, source="logarithms of float32 levels, in timesteps of 1000"),
    "scheduler-timesteps-silent": Tolerance(absolute=1, source="a level without signal, by betas alone: 0.39 seen"),
    "scheduler-step-rooted": Tolerance(relative=1e-2, source="measured: 6e-3, one bit of a square root in two steps"),
    "muse-text": Tolerance(absolute=1e-4, source="muse SPEC 7: text"),
    "muse-logits": Tolerance(absolute=1e-4, source="muse SPEC 7: logits"),
    "muse-decoded": Tolerance(absolute=1e-4, source="muse SPEC 7: decoded"),
    "mask-ratio": Tolerance(absolute=6e-8, source="muse SPEC 4: one bit of a float32 cosine"),
    "unid3-schedule": Tolerance(
        absolute=5e-7, source="float32 of the same float64; at most one unit in the last place"
    ),
    "unid3-logits": Tolerance(absolute=1e-4, source="unid3 SPEC 7: logits"),
    "unid3-picture": Tolerance(absolute=1e-4, source="unid3 SPEC 7: decoded, of 0..1"),
    "unid3-posterior": Tolerance(absolute=1e-4, source="unid3 SPEC 7: posterior"),
    "schedule": Tolerance(absolute=1e-15, source="float64 in the original's order"),
    "schedule-logs": Tolerance(absolute=5e-6, source="one bit of float32 at -30"),
    "posterior": Tolerance(absolute=1e-4, source="vq_diffusion SPEC 6"),
    "scheduler-step": Tolerance(relative=1e-4, source="measured: 2e-5, coefficients of float32 in diffusers"),
    "ddcap": Tolerance(absolute=1e-4, source="ddcap SPEC 6: vision tower and logits, with its own timesteps"),
    "ddcap-times": Tolerance(absolute=1e-4, source="two CPUs are 3e-5 apart; other arithmetic 5e-4 (ddcap SPEC 3)"),
    "ddcap-pixels": Tolerance(absolute=1e-5, source="ddcap SPEC 6"),
    "one-level": Tolerance(absolute=0.02, source="a level of 255, of normalised pixels"),
    "ddcap-probabilities": Tolerance(absolute=1e-5, source="ddcap SPEC 6: the smallest gap of a token is 1e-3"),
    "painted-map": Tolerance(absolute=1e-4, source="ediffi SPEC 1.8: maps"),
    "painted-noise": Tolerance(absolute=1e-5, source="one float32 product"),
    "painted-scores": Tolerance(absolute=1e-3, source="ediffi SPEC 1.8: qk_max"),
    "painted-unet": Tolerance(relative=1e-4, source="ediffi SPEC 1.8: of the latents, for one prediction"),
    "painted-latents": Tolerance(relative=1e-4, source="ediffi SPEC 1.8: latents, relative L2"),
    "painted-picture": Tolerance(absolute=2, source="ediffi SPEC 1.8: pictures"),
    "ediffi-net": Tolerance(relative=1e-4, source="ediffi SPEC 2.4: nets"),
    "ediffi-run": Tolerance(relative=1e-3, source="ediffi SPEC 2.4: runs"),
    "ediffi-step": Tolerance(relative=1e-5, source="ediffi SPEC 2.4: 2e-6 in float64 with the recorded predictions"),
    "ddcap-confidence": Tolerance(absolute=1e-7, source="ddcap SPEC 4: order is decided from 1.4e-4 of a probability"),
}


@dataclass(frozen=True)
class Measurement:
    """One comparison: the test it was made in, its tolerance, the largest error and what was allowed."""

    test: str
    tolerance: str
    error: float
    bound: float


MEASURED: list[Measurement] = []


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: str) -> None:
    """Fails unless every |actual - expected| <= absolute + relative * std(expected), with equal shapes and no NaN."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    limit = TOLERANCES[tolerance]
    bound = limit.absolute + limit.relative * float(np.std(expected, dtype=np.float64))
    error = np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0)
    MEASURED.append(Measurement(current_test(), tolerance, error, bound))
    assert error <= bound, f"{tolerance}: largest error {error:.3g} > {bound:.3g} ({limit.source})"


def assert_as_close(actual: np.ndarray, peer: np.ndarray, expected: np.ndarray, factor: float = 2.0) -> None:
    """The largest error is at most `factor` times that of `peer`, torch in the same precision."""
    actual, peer, expected = (np.asarray(array, np.float64) for array in (actual, peer, expected))
    assert actual.shape == peer.shape == expected.shape, f"shapes {actual.shape}, {peer.shape}, {expected.shape}"
    error, bound = (np.abs(array - expected).max(initial=0.0) for array in (actual, peer))
    MEASURED.append(Measurement(current_test(), "torch in the same precision", error, factor * bound))
    assert error <= factor * bound, f"largest error {error:.3g} > {factor} x {bound:.3g} of torch in the same precision"


def assert_near(
    actual: np.ndarray, expected: np.ndarray, tolerance: str, peer: np.ndarray | None = None, factor: float = 2.0
) -> None:
    """Relative L2 to `expected`: at most the tolerance's `relative`, or `factor` times a peer's own."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"

    def distance(array: np.ndarray) -> float:
        return float(np.linalg.norm(array - expected) / np.linalg.norm(expected))

    error = distance(actual)
    bound = TOLERANCES[tolerance].relative if peer is None else factor * distance(np.asarray(peer, np.float64))
    MEASURED.append(Measurement(current_test(), tolerance, error, bound))
    assert error <= bound, f"{tolerance}: relative L2 {error:.3g} > {bound:.3g}"


def assert_same_picture(actual: np.ndarray, expected: np.ndarray, share: float = 0.01) -> None:
    """uint8 pictures: off by at most one level, on at most `share` of the values (gluegen SPEC 8)."""
    assert actual.shape == expected.shape and actual.dtype == expected.dtype == np.uint8
    error = np.abs(actual.astype(np.int16) - expected.astype(np.int16))
    MEASURED.append(Measurement(current_test(), "picture, levels of 255", float(error.max(initial=0)), 1.0))
    assert error.max(initial=0) <= 1, f"a value is off by {error.max()} levels"
    assert (error > 0).mean() <= share, f"{(error > 0).mean():.2%} of the values differ"
