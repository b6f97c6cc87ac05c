"""Names of a denoiser's variants: the same graph with features as further outputs, or as inputs in place of what
computes them.

A feature is `deep.N`, what comes from below at the N-th skip connection from the end (the deeper, the more is computed
anew), or `cross`, what every cross-attention layer adds. Its tensors are `deep.N` and `cross.LAYER`. In a variant with
downsampled keys and values the largest self-attention reads those of every n-th row and column alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..gate.record import Closeness, Judged
from .records import KEY, Count, Few, Finite, Positive, Share

DEEP, CROSS = "deep", "cross"


@dataclass(frozen=True, slots=True)
class DenoiserVariant:
    """A denoiser's graph with `features_out` as further outputs and `features_in` as inputs.

    Its largest self-attention reads the keys and values of every `kv_downsample`-th row and column (1: of all).
    """

    graph: str
    features_out: tuple[str, ...] = ()
    features_in: tuple[str, ...] = ()
    kv_downsample: int = 1

    @property
    def name(self) -> str:
        """The graph's name in the bundle; the variant that differs in nothing has the denoiser's own."""
        downsampled = [f".thinned-{self.kv_downsample}"] if self.kv_downsample > 1 else []
        outputs = (f".gives-{name}" for name in self.features_out)
        inputs = (f".takes-{name}" for name in self.features_in)
        return "".join([self.graph, *downsampled, *outputs, *inputs])


def deep_feature(depth: int) -> str:
    """The name of what comes from below at the `depth`-th skip connection from the end, counted from 1."""
    return f"{DEEP}.{depth}"


def is_feature_tensor(tensor: str, feature: str) -> bool:
    """Whether a tensor belongs to a feature."""
    return tensor == feature or tensor.startswith(f"{feature}.")


LOWEST = 0.0
"""Timesteps end here."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """How a preset was found: seconds of a whole run with it and with the plain loop, medians over the same runs on one
    device; how close its pictures came to those of the plain loop from the same noise, run by run; what a judge said.

    `plain` says what the plain loop was, `where` the backend, device and versions.
    """

    seconds: Positive
    plain_seconds: Positive
    plain: str
    where: str
    measured: tuple[Closeness, ...]
    judged: Judged | None = None


@dataclass(frozen=True, slots=True)
class Preset:
    """What differs from the plain loop; a caller's own options go before `sampler` and `steps`.

    `cache_interval`: of so many calls of the denoiser one computes all of it, the others take what comes from below at
    the `cache_depth`-th skip connection from the end as that call left it (DeepCache, arXiv 2312.00858).
    `guidance_interval`: guidance only from the first timestep down to the second (arXiv 2404.07724). `tgate_from`: from
    the first call at or below this timestep on, what the cross-attention adds stays as that call had it, the mean of
    both sides of the guidance, and there is no guidance (T-GATE, arXiv 2404.02747); never before the plan's last
    segment serves. `kv_downsample`: self-attention as large as the latents reads the keys and values of every n-th row
    and column (ToDo, arXiv 2402.13573). A manifest has shorter keys for these five. `guidance`: the scale, 1 without.
    With `preview_decoder` the plan's decoder of previews draws the picture, too. `delay`: where the caller says
    nothing of it, the share of the run that a delayed segment waits for, as in the plain loop whose number of steps was
    another.
    """

    sampler: str | None = None
    steps: Count | None = None
    cache_interval: Few = field(default=1, metadata={KEY: "every"})
    cache_depth: Few = field(default=1, metadata={KEY: "depth"})
    guidance_interval: tuple[Finite, Finite] | None = field(default=None, metadata={KEY: "guided"})
    tgate_from: Finite | None = field(default=None, metadata={KEY: "frozen_from"})
    kv_downsample: Few = field(default=1, metadata={KEY: "thinned"})
    guidance: Finite | None = None
    preview_decoder: bool = False
    delay: Share | None = None
    tuned: Tuned | None = None

    @property
    def feature(self) -> str | None:
        """The name of what is cached between full calls, None where every call is one."""
        return deep_feature(self.cache_depth) if self.cache_interval > 1 else None

    def variants(self, graph: str) -> list[DenoiserVariant]:
        """The graphs that stand for `graph` under this preset: all that its calls may need."""
        cached = () if self.feature is None else (self.feature,)
        features: list[tuple[tuple[str, ...], tuple[str, ...]]] = [(cached, ())]
        if self.tgate_from is not None:
            features += [((*cached, CROSS), ()), (cached, (CROSS,))]
        if cached:
            features.append(((), cached))
        if cached and self.tgate_from is not None:
            features.append(((), (*cached, CROSS)))
        return [DenoiserVariant(graph, outputs, inputs, self.kv_downsample) for outputs, inputs in features]

    def problems(self, name: str, graphs: set[str], denoisers: set[str]) -> Iterator[str]:
        """What does not fit, given the graphs present and those that the plan's segments name."""
        where = f"presets.{name}"
        if min(self.cache_interval, self.cache_depth, self.kv_downsample) < 1:
            got = f"{self.cache_interval}, {self.cache_depth} and {self.kv_downsample}"
            yield f"{where}: expected every, depth and thinned of 1 or more, got {got}"
            return
        if self.guidance_interval is not None and not self.guidance_interval[0] >= self.guidance_interval[1] >= LOWEST:
            yield f"{where}: expected guidance from a timestep down to a lower one, got {list(self.guidance_interval)}"
        if self.delay is not None and not 0 <= self.delay <= 1:
            yield f"{where}: expected a delay from 0 to 1, a share of the run, got {self.delay:g}"
        for graph in sorted(denoisers):
            missing = [one.name for one in self.variants(graph) if one.name not in graphs]
            if missing:
                yield f"{where}: expected the graphs {', '.join(missing)}, found none; tune the bundle again"
