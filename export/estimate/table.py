"""An estimate in words and columns."""

from collections.abc import Iterator

from .roofline import Estimate, Stage

BOUND = (
    "a lower bound and no forecast: it takes the published peak of arithmetic or of memory, whichever is slower, for "
    "every stage, so that measured times are longer"
)


def lines(estimate: Estimate) -> Iterator[str]:
    """The table for a terminal."""
    device = estimate.device
    rates = ", ".join(f"{kind} {rate / 1e12:g} T" for kind, rate in device.rates.items())
    yield f"{device.title}: {rates} operations/s, {device.bandwidth / 1e9:g} GB/s, {device.memory / 1e9:g} GB"
    yield f"  {device.source}"
    yield ""
    yield (
        f"{'stage':22} {'precision':12} {'calls':>5} {'TMAC':>8} {'weights, MB':>12} {'moved, MB':>10} "
        f"{'call, ms':>9} {'all, s':>8}  limited by"
    )
    for stage in estimate.stages:
        yield _row(stage)
    yield f"{'in all':22} {'':12} {'':>5} {'':>8} {'':>12} {'':>10} {'':>9} {estimate.seconds:8.3f}"
    yield f"  {BOUND}"
    yield ""
    for share in estimate.memory:
        yield f"{share.part:50} {share.bytes / 1e9:6.2f} GB  {share.origin}"
    yield f"{'in all, of ' + format(device.memory / 1e9, 'g') + ' GB':50} {estimate.bytes / 1e9:6.2f} GB"
    if estimate.bytes > device.memory:
        yield "  more than there is: lower the precision, the size or the count, or take fewer graphs"


def _row(stage: Stage) -> str:
    call = max(stage.compute_seconds, stage.memory_seconds)
    limit = "arithmetic" if stage.compute_seconds >= stage.memory_seconds else "memory"
    return (
        f"{stage.graph:22} {stage.precision:12} {stage.calls:5d} {sum(stage.macs.values()) / 1e12:8.4f} "
        f"{stage.weights / 1e6:12.1f} {stage.activations / 1e6:10.1f} {call * 1e3:9.2f} {stage.seconds:8.3f}  {limit}"
    )
