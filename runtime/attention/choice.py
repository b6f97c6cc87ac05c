"""Which attention a graph is compiled with on the CPU, by what the caller asked, the graph's precision, and sizes."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..sessions.session import ATTENTION_VARIABLE, KERNEL_ATTENTIONS, GraphFile, Settings, checked_attention
from .kernel import Kernel, Present, Sizes, present_kernel, quiet_kernel
from .measured import least_work

KERNEL_PRODUCTS = {"int8": "bf16", "bf16": "bf16"}
"""By a graph's precision: the products that cost it no precision. Every other graph keeps the library's attention.
Products in int8 err three times as much, and a step is 1 % faster by them: they run where they are asked for."""


@dataclass(frozen=True, slots=True)
class AttentionChoice:
    """The kernel and the type of its products; `everywhere` where the caller named them, whatever was measured."""

    kernel: Kernel
    products: str
    everywhere: bool

    @property
    def key(self) -> str:
        """What an engine with the kernel in it depends on."""
        where = ", everywhere" if self.everywhere else ""
        return f"{self.products} by kernel {self.kernel.source[:12]}{where}"

    def put_into(self, model: Any, core: Any, bf16: bool, threads: int | None) -> None:
        """Puts the kernel in the place of a model's attention where it is faster; `core` compiles what is measured."""
        least = 0 if self.everywhere else least_work(self.kernel, self.products, threads, core)

        def wanted(sizes: Sizes) -> bool:
            return least is not None and (sizes.work is None or sizes.work >= least)

        self.kernel.replace(model, self.products, bf16, wanted)


def asked_attention(settings: Settings) -> str:
    """One of ATTENTIONS: what the caller said, else the environment, else `auto`.

    Raises InputError where the environment says something else.
    """
    told = os.environ.get(ATTENTION_VARIABLE) or None
    return settings.attention or checked_attention(told, ATTENTION_VARIABLE) or "auto"


def choose_attention(
    graph: GraphFile, device: str, settings: Settings, find: Callable[[], Present] = present_kernel
) -> AttentionChoice | None:
    """The kernel that `find` finds, for a graph on an OpenVINO device; None for the library's own attention.

    Raises InputError where the caller names products and the kernel cannot be used.
    """
    asked = asked_attention(settings)
    named = asked in KERNEL_ATTENTIONS
    products = asked if named else KERNEL_PRODUCTS.get(graph.precision)
    if device != "CPU" or asked == "library" or products is None:
        return None
    found = find()
    if found.kernel is None:
        if named:
            raise InputError(f"attention {asked}: the kernel cannot be used: {found.why}")
        return None
    return AttentionChoice(found.kernel, products, named)


def attention_line(settings: Settings | None = None) -> str:
    """Which attention runs on this machine's CPU, in one line."""
    asked = asked_attention(settings or Settings())
    found = quiet_kernel()
    if found.kernel is None:
        return f"OpenVINO's own: {found.why}"
    if asked == "library":
        return "OpenVINO's own, as asked; the kernel is there"
    which = "in int8 and bf16 graphs, where it is faster"
    if asked in KERNEL_ATTENTIONS:
        which = f"products in {asked}, in every graph"
    return f"kernel {found.kernel.source[:12]} for AVX-512, {which}"


def attention_text(graphs: Iterable[GraphFile], settings: Settings) -> str:
    """Which attention a bundle's graphs may get on OpenVINO's CPU here, in one line; what a graph holds is not read."""
    by_products: defaultdict[str, list[str]] = defaultdict(list)
    for graph in graphs:
        choice = choose_attention(graph, "CPU", settings, quiet_kernel)
        if choice is not None:
            where = "" if choice.everywhere else " where it is faster"
            by_products[f"the kernel, products in {choice.products},{where} in"].append(graph.name)
    told = [f"{which} {', '.join(names)}" for which, names in by_products.items()]
    return "; ".join(told) if told else "OpenVINO's own"
