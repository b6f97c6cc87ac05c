"""How a sampler is set, under the names of diffusers' scheduler settings."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta

Spacing = Literal["leading", "trailing", "linspace"]
Sigmas = Literal["karras", "exponential", "beta", "lu"]
SPACINGS: tuple[Spacing, ...] = get_args(Spacing)
RULES: tuple[Sigmas, ...] = get_args(Sigmas)
Positive = Annotated[float, Meta(gt=0, le=1e6)]


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """What may be set on a sampler; None stands for the sampler's own value.

    `timestep_spacing` says which timesteps a run visits; `sigmas` spaces its noise levels by another rule: Karras',
    evenly in the logarithm, by quantiles of a beta distribution, or evenly in Lu's log-SNR. `eta` is the share of fresh
    noise in DDIM and TCD, from 0 to 1. Which of them a sampler reads, the registry says.
    """

    timestep_spacing: Spacing | None = None
    sigmas: Sigmas | None = None
    sigma_min: Positive | None = None
    sigma_max: Positive | None = None
    final_sigmas_type: Literal["zero", "sigma_min"] | None = None
    interpolation_type: Literal["linear", "log_linear"] | None = None
    timestep_type: Literal["discrete", "continuous"] | None = None
    eta: Annotated[float, Meta(ge=0, le=1)] | None = None
    clip_sample: bool | None = None
    clip_sample_range: Positive | None = None
    thresholding: bool | None = None
    dynamic_thresholding_ratio: Annotated[float, Meta(ge=0, le=1)] | None = None
    sample_max_value: Annotated[float, Meta(ge=1, le=1e6)] | None = None
    skip_prk_steps: bool | None = None
    variance_type: Literal["fixed_small", "fixed_small_log", "fixed_large", "learned_range"] | None = None
    algorithm_type: Literal["dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"] | None = None
    solver_order: Annotated[int, Meta(ge=1, le=3)] | None = None
    solver_type: Literal["midpoint", "heun", "bh1", "bh2"] | None = None
    lower_order_final: bool | None = None
    euler_at_final: bool | None = None
    lambda_min_clipped: float | None = None
    predict_x0: bool | None = None
    disable_corrector: tuple[Annotated[int, Meta(ge=0, le=100_000)], ...] | None = None
    original_inference_steps: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    timestep_scaling: Positive | None = None
    sigma_data: Positive | None = None
    sigma_schedule: Literal["karras", "exponential"] | None = None
    rho: Positive | None = None

    def given(self) -> dict[str, Any]:
        """Those that are set."""
        return {name: value for name in SETTING_NAMES if (value := getattr(self, name)) is not None}

    @classmethod
    def from_options(cls, values: Mapping[str, Any]) -> "SamplerSettings":
        """Those of a run's options; what is no value of theirs is left out, for the options themselves refuse it."""
        spacing, sigmas, eta = values.get("spacing"), values.get("sigmas"), values.get("eta")
        return cls(
            timestep_spacing=spacing if spacing in SPACINGS else None,
            sigmas=sigmas if sigmas in RULES else None,
            eta=float(eta) if isinstance(eta, int | float) and 0 <= eta <= 1 else None,
        )

    def to_options(self) -> dict[str, Any]:
        """Those of a run's options that would set what is set here."""
        named = {"spacing": self.timestep_spacing, "sigmas": self.sigmas, "eta": self.eta}
        return {name: value for name, value in named.items() if value is not None}

    def over(self, defaults: Mapping[str, Any]) -> "SamplerSettings":
        """These where they are set, `defaults` elsewhere."""
        return SamplerSettings(**{**defaults, **self.given()})


SETTING_NAMES = tuple(field.name for field in dataclasses.fields(SamplerSettings))
