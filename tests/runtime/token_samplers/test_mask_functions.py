"""The functions of mask-and-replace diffusion against every array of them that the originals left, and what would pass
in silence if one were done wrong."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from x2i.runtime.token_samplers.log_probabilities import (
    LEAST,
    draw,
    guided_log_probabilities,
    log_one_hot,
    log_softmax,
    truncated,
    with_mask_class,
)
from x2i.runtime.token_samplers.mask_replace import MaskReplace
from x2i.runtime.token_samplers.mask_transitions import MaskTransitions, transition_shares
from x2i.runtime.token_samplers.row_blocks import on_cores

from tests.goldens import golden_arrays
from tests.numerics import TOLERANCES, assert_close
from tests.runtime.token_samplers.mask_goldens import FAMILIES, classes_last, sampler_of, uniform

BUFFERS = {
    "log_at": ("one", "kept"),
    "log_bt": ("one", "replaced"),
    "log_ct": ("one", "masked"),
    "log_1_min_ct": ("one", "unmasked"),
    "log_cumprod_at": ("whole", "kept"),
    "log_cumprod_bt": ("whole", "replaced"),
    "log_cumprod_ct": ("whole", "masked"),
    "log_1_min_cumprod_ct": ("whole", "unmasked"),
}
"""Where a checkpoint's buffers are in the schedule."""
SHARES = {"at": "kept", "bt": "replaced", "ct": "masked"}
FUNCTIONS = [family for family in FAMILIES if family != "cdcd"]
"""The families that have arrays of functions; CDCD's pictures are drawn by VQ-Diffusion's."""


def schedule_of(sampler: MaskReplace) -> MaskTransitions:
    return MaskTransitions.of(*sampler._shares(), sampler.classes, sampler.older_posterior)


class Functions:
    """One family's arrays, classes last, and its schedule. Reading an array marks it as compared."""

    def __init__(self, family: str):
        self.arrays = golden_arrays(f"{family}/functions.npz")
        self.left = set(self.arrays)
        self.classes = self.arrays["log_x0"].shape[1] - 1
        self.steps = len(self.arrays["buffer_log_at"])
        self.schedule = schedule_of(sampler_of(family, self.classes, self.steps))

    def __getitem__(self, name: str) -> np.ndarray:
        self.left.discard(name)
        values = self.arrays[name]
        return classes_last(values) if values.ndim == 3 else values

    def rows(self, function: Callable[[int, int], np.ndarray], times: str = "t") -> np.ndarray:
        """The function of each row and its timestep."""
        return np.stack([function(row, int(t)) for row, t in enumerate(self[times])])

    def posterior(self, times: str = "t", schedule: MaskTransitions | None = None) -> np.ndarray:
        x0, tokens = self["log_x0"][..., :-1], self["x_t"]
        shown = schedule or self.schedule
        return self.rows(lambda row, t: shown.posterior(x0[row], tokens[row, : x0.shape[1]], t), times)


def differs(actual: np.ndarray, expected: np.ndarray, tolerance: str) -> bool:
    """Whether a comparison would fail."""
    return bool(np.abs(actual - expected).max() > 2 * TOLERANCES[tolerance].absolute)


@pytest.mark.parametrize("family", FUNCTIONS)
def test_every_array_is_reproduced(family: str) -> None:
    its = Functions(family)
    schedule, tokens, real = its.schedule, its["x_t"], its.classes
    for name, (transition, field) in BUFFERS.items():
        logs, expected = getattr(getattr(schedule, transition), field), its[f"buffer_{name}"]
        finite = np.isfinite(expected)
        np.testing.assert_array_equal(logs[~finite], expected[~finite])
        assert_close(logs[finite], expected[finite], "schedule-logs")
    compare_shares(family, its)
    assert_close(its.posterior(), its["posterior"], "posterior")
    if "q_pred" in its.left:
        found = its.rows(lambda row, t: schedule.whole.from_tokens(tokens[row], real, t))
        assert_close(found[:, : its["q_pred"].shape[1]], its["q_pred"], "posterior")
    if family == "vq_diffusion":
        compare_vq_diffusion(its)
    if family == "diffsound":
        form = its["posterior_vqdiffusion_form"]
        newer = MaskTransitions(schedule.one, schedule.whole, schedule.classes, older_posterior=False)
        assert_close(its.posterior(schedule=newer), form, "posterior")
        assert differs(form, its["posterior"], "posterior"), "the newer posterior would pass"
    assert not its.left, "arrays that nothing is compared with"


def compare_shares(family: str, its: Functions) -> None:
    """Schedules in float64, some of them of the released sizes."""
    for name in [name for name in its.left if name.startswith("schedule_") and name.endswith("_at")]:
        stem = name.removesuffix("_at").removeprefix("schedule_")
        assert_shares(
            family, stem, {share: its[f"schedule_{stem}_{share}"] for share in ("at", "bt", "ct", "att", "btt", "ctt")}
        )


def assert_shares(family: str, stem: str, expected: dict[str, np.ndarray]) -> None:
    """`stem` is such as T100_K12."""
    steps, classes = (int(part[1:]) for part in stem.split("_"))
    one, whole = sampler_of(family, classes, steps)._shares()
    for name, field in SHARES.items():
        assert_close(getattr(one, field), expected[name], "schedule")
        assert_close(getattr(whole, field), expected[f"{name[0]}tt"][:-1], "schedule")


def compare_vq_diffusion(its: Functions) -> None:
    schedule, tokens, real = its.schedule, its["x_t"], its.classes
    steps, classes, length = its["buffer_T_K_L"]
    assert (steps, classes, length) == (its.steps, real, tokens.shape[1])
    log_x0 = log_softmax(its["logits"])
    assert_close(with_mask_class(log_x0), its["log_x0"], "posterior")
    assert_close(log_one_hot(tokens, real + 1), its["log_onehot"], "posterior")
    found = its.rows(lambda row, t: schedule.one.from_tokens(tokens[row], real, t))
    assert_close(found, its["q_pred_one_timestep"], "posterior")
    compare_first_step(its)
    compare_fast(its)
    compare_guidance(its)
    compare_truncation(its)
    noise = its["sample_noise_u16"].swapaxes(-2, -1)
    drawn = draw(its["posterior"], uniform(noise))
    np.testing.assert_array_equal(drawn, its["sample_tokens"])


def compare_first_step(its: Functions) -> None:
    """The original starts from masks whose other classes are impossible, ours from the ids alone."""
    start = its["first_step_log_x"]
    assert (start[..., -1] == 0).all() and np.isneginf(start[..., :-1]).all()
    masks, x0 = np.full(start.shape[1], its.classes), its["log_x0"][..., :-1]
    found = its.rows(lambda row, t: its.schedule.posterior(x0[row], masks, t), "first_step_t")
    assert_close(found, its["first_step_posterior"], "posterior")


def compare_fast(its: Functions) -> None:
    """The posterior's timestep lies some before the network's; the runs say at which calls."""
    skip, times, shown = int(its["fast_t_minus"]), its["t"], its["fast_posterior_t"]
    np.testing.assert_array_equal(shown[times > skip], times[times > skip] - skip)
    assert_close(its.posterior("fast_posterior_t"), its["fast_posterior"], "posterior")
    assert differs(its.posterior(), its["fast_posterior"], "posterior"), "the posterior at t would pass"


def compare_guidance(its: Functions) -> None:
    one, other = its["log_x0"][..., :-1], its["log_x0_uncond"]
    if other.shape[-1] == one.shape[-1] + 1:
        other = other[..., :-1]
    for name in sorted(name for name in its.left if name.startswith("guided_")):
        scale = float(name.removeprefix("guided_"))
        # Whoever calls leaves scales out that are as good as 1.
        guided = one if abs(scale - 1) < 1e-3 else guided_log_probabilities(other, one, scale)
        assert_close(with_mask_class(guided), its[name], "posterior")


def compare_truncation(its: Functions) -> None:
    for name in sorted(name for name in its.left if name.startswith("trunc_") and name != "trunc_big_in"):
        rate = float(name.rpartition("_")[2])
        values = its["trunc_big_in" if name.startswith("trunc_big") else "log_x0"]
        assert_truncated(values, rate, its[name])


def assert_truncated(values: np.ndarray, rate: float, expected: np.ndarray) -> None:
    """Equal, with the mask and without it, save where the sum stands at the rate to a bit of float32: there it is the
    last bit of torch's exponential that decides, which is off in one of a hundred."""
    found = truncated(values, rate)
    np.testing.assert_array_equal(truncated(values[..., :-1], rate), found[..., :-1])
    order = np.argsort(-values, axis=-1, kind="stable")
    probabilities = np.exp(np.take_along_axis(values, order, axis=-1).astype(np.float64))
    likelier = np.empty_like(probabilities)
    np.put_along_axis(likelier, order, np.cumsum(probabilities, axis=-1) - probabilities, axis=-1)
    away = np.abs(likelier - rate) > 2 * np.finfo(np.float32).eps
    assert away.any()
    assert_close(found[away], expected[away], "exact")
    assert (np.isin(expected, [LEAST]) | (expected == values)).all()


@pytest.mark.parametrize("family", ["cdcd"])
def test_the_released_schedules_are_the_originals(family: str) -> None:
    arrays = golden_arrays(f"{family}/schedule.npz")
    stems = {name.rpartition("_")[0] for name in arrays}
    for stem in stems:
        expected = {name.rpartition("_")[2]: values for name, values in arrays.items() if name.startswith(f"{stem}_")}
        assert_shares(family, stem, expected)
        with pytest.raises(AssertionError):
            assert_shares("diffsound", stem, expected)


def test_the_schedule_of_another_family_would_show() -> None:
    its = Functions("diffsound")
    other = schedule_of(sampler_of("vq_diffusion", its.classes, its.steps))
    assert differs(other.whole.masked[:-1], its["buffer_log_cumprod_ct"][:-1], "schedule-logs")
    assert differs(other.one.replaced, its["buffer_log_bt"], "schedule-logs")


def plainly_truncated(row: np.ndarray, rate: float, precision: Any = np.float64) -> np.ndarray:
    """Truncation of one row, class by class; of equally likely classes the first stays."""
    made, likelier = np.full_like(row, LEAST), precision(0)
    for index in sorted(range(len(row)), key=lambda index: (-row[index], index)):
        if likelier and not np.float32(likelier) < np.float32(rate):
            break
        made[index] = row[index]
        likelier = precision(likelier + precision(np.float32(np.exp(np.float64(row[index])))))
    return made


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.86, 1.0])
@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize("spread", [1, 9])
@pytest.mark.parametrize("share", [1, 0.7])
def test_truncation_keeps_the_first_of_equally_likely_classes(
    rate: float, decimals: int | None, spread: float, share: float
) -> None:
    """Also where a few classes have all, and of values whose probabilities have a `share` together."""
    logits = np.random.default_rng(3).normal(0, spread, (2, 5, 37)).astype(np.float32)
    logits = logits if decimals is None else logits.round(decimals)
    values = np.maximum(log_softmax(logits) + np.float32(np.log(share)), LEAST)
    expected = np.stack([plainly_truncated(row, rate) for row in values.reshape(-1, 37)]).reshape(values.shape)
    np.testing.assert_array_equal(truncated(values, rate), expected)


def test_truncation_sums_in_float64() -> None:
    """A float32 sum would not see what is added to it here, and keep every class."""
    row = np.log(np.array([0.5, *[1e-8] * 3000], np.float32))
    found = truncated(row[None], 0.50001)[0]
    np.testing.assert_array_equal(found, plainly_truncated(row, 0.50001))
    assert 900 < (found > LEAST).sum() < 1100
    assert not np.array_equal(found, plainly_truncated(row, 0.50001, np.float32))


@pytest.mark.parametrize("cores", [1, 3])
def test_large_arrays_are_worked_on_in_blocks_with_the_same_result(cores: int) -> None:
    """Rows of a large array get what each gets alone, on any number of cores."""
    random = np.random.default_rng(1)
    logits, other = (random.standard_normal((300, 1009)).astype(np.float32) * 3 for _ in range(2))
    noise, tokens = random.random((300, 1010), np.float32), random.integers(0, 1010, 300)
    schedule = schedule_of(sampler_of("vq_diffusion", 1009, 7))

    def step(rows: slice) -> tuple[np.ndarray, ...]:
        one, empty = log_softmax(logits[rows]), log_softmax(other[rows])
        guided = guided_log_probabilities(empty, one, 3.0)
        cut = truncated(guided, 0.9)
        posterior = schedule.posterior(cut, tokens[rows], 3)
        return one, guided, cut, posterior, draw(posterior, noise[rows])

    with on_cores(cores):
        together = step(slice(None))
    for row in (0, 150, 299):
        for whole, alone in zip(together, step(slice(row, row + 1)), strict=True):
            np.testing.assert_array_equal(whole[row], alone[0])


def test_shares_that_no_schedule_has_are_seen() -> None:
    one, whole = transition_shares((0.9, 0.1), (0.2, 0.95), 5, 3)
    assert not one.all_happen or not whole.all_happen
