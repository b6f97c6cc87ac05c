"""Numbers as people read them."""


def seconds(value: float) -> str:
    if value == 0:
        return "0 s"
    if value < 0.9995:
        return f"{value * 1e3:.1f} ms" if value < 0.1 else f"{value * 1e3:.0f} ms"
    return f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def megabytes(value: float) -> str:
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def share(value: float) -> str:
    return f"{value * 100:.1f} %" if abs(value) < 0.1 else f"{value * 100:.0f} %"


def rate(value: float, unit: str) -> str:
    return f"{value / 1e12:.2f} T{unit}/s" if value >= 1e12 else f"{value / 1e9:.1f} G{unit}/s"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
