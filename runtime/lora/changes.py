"""A layer's change in its three published forms: the whole matrix, and where there are any its two low-rank factors.

Everything is computed in float64, so that a sum of several changes is rounded once, by whoever adds it to a weight.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from .names import Shape

Roles = Mapping[str, np.ndarray]
"""A layer's tensors by their roles."""
Factors = tuple[np.ndarray, np.ndarray]
"""Up [out, r] and down [r, in] whose product is a change [out, in]."""


class LayerChange(Protocol):
    """What a file adds to one layer's weight, before the caller's own factor."""

    @property
    def rank(self) -> int | None:
        """The rank that alpha is divided by; None where no alpha applies."""

    @property
    def shape(self) -> Shape:
        """Of the weights that it changes: [out, in], or [out, in, height, width]."""

    def matrix(self) -> np.ndarray:
        """The unscaled change in float64, of `shape`."""

    def factors(self) -> Factors | None:
        """The unscaled change as factors in float64, exactly; None where it has none smaller than itself, or reaches
        over several pixels."""


class _Misfit(ValueError):
    """What does not fit within one layer's tensors, in words for a message."""


@dataclass(frozen=True)
class LowRankChange:
    """LoRA (arXiv 2106.09685), and LyCORIS' LoCon for convolutions: up times down, with `mid` between them where a
    convolution's kernel was decomposed too (Tucker)."""

    down: np.ndarray
    up: np.ndarray
    mid: np.ndarray | None = None

    def __post_init__(self) -> None:
        rank = self.down.shape[0]
        if (
            self.up.shape[1] != rank
            or not _pointwise(self.up.shape)
            or (self.mid is not None and self.mid.shape[:2] != (rank, rank))
        ):
            got = f"{list(self.down.shape)} and {list(self.up.shape)}"
            raise _Misfit(f"expected both halves of one rank, got {got}")

    @property
    def rank(self) -> int:
        """That of both halves."""
        return self.down.shape[0]

    @property
    def shape(self) -> Shape:
        """As a LayerChange."""
        inner = self.down.shape[1:] if self.mid is None else (self.down.shape[1], *self.mid.shape[2:])
        return (self.up.shape[0], *inner)

    def matrix(self) -> np.ndarray:
        """As a LayerChange."""
        up, down = _flat(self.up), _flat(self.down)
        if self.mid is not None:
            return np.einsum("pqhw,op,qi->oihw", self.mid.astype(np.float64), up, down, optimize=True)
        return (up @ down).reshape(self.shape)

    def factors(self) -> Factors | None:
        """As a LayerChange."""
        return (_flat(self.up), _flat(self.down)) if _pointwise(self.shape) else None


@dataclass(frozen=True)
class HadamardChange:
    """LyCORIS' LoHa, after FedPara (arXiv 2108.06098): the product, element by element, of two low-rank matrices, each
    of factors `a` and `b`, and of a core `t` where a convolution's kernel was decomposed."""

    first: tuple[np.ndarray, np.ndarray, np.ndarray | None]
    second: tuple[np.ndarray, np.ndarray, np.ndarray | None]

    def __post_init__(self) -> None:
        for each in (self.first, self.second):
            _check_ranks(*each)
        if _hadamard_shape(*self.first) != _hadamard_shape(*self.second):
            shapes = " and ".join(str(list(_hadamard_shape(*each))) for each in (self.first, self.second))
            raise _Misfit(f"expected two matrices of one shape, got {shapes}")

    @property
    def rank(self) -> int:
        """That of each matrix."""
        return self.first[1].shape[0]

    @property
    def shape(self) -> Shape:
        """As a LayerChange."""
        return _hadamard_shape(*self.first)

    def matrix(self) -> np.ndarray:
        """As a LayerChange."""
        return _hadamard_matrix(*self.first) * _hadamard_matrix(*self.second)

    def factors(self) -> Factors | None:
        """As a LayerChange: rows of the Khatri-Rao products of both matrices' factors."""
        if self.first[2] is not None or self.second[2] is not None or not _pointwise(self.shape):
            return None
        (up, down), (other_up, other_down) = (tuple(map(_flat, each[:2])) for each in (self.first, self.second))
        rows, columns = up.shape[0], down.shape[1]
        return (
            (up[:, :, None] * other_up[:, None, :]).reshape(rows, -1),
            (down[:, None, :] * other_down[None, :, :]).reshape(-1, columns),
        )


@dataclass(frozen=True)
class KroneckerChange:
    """LyCORIS' LoKr (arXiv 2309.14859): the Kronecker product of a small matrix [a, c] and a larger one [b, d] or
    [b, d, height, width], each whole or as factors; `core` where the larger one's kernel was decomposed."""

    small: np.ndarray | Factors
    large: np.ndarray | Factors
    core: np.ndarray | None = None

    def __post_init__(self) -> None:
        for each, core in ((self.small, None), (self.large, self.core)):
            if isinstance(each, tuple):
                _check_ranks(*each, core)

    @property
    def rank(self) -> int | None:
        """That of the factors, None where both matrices are whole, which LyCORIS does not scale."""
        parts = [each[1].shape[0] for each in (self.small, self.large) if isinstance(each, tuple)]
        return parts[0] if parts else None

    @cached_property
    def _matrices(self) -> tuple[np.ndarray, np.ndarray]:
        small, large = self.small, self.large
        if isinstance(small, tuple):
            small = _flat(small[0]) @ _flat(small[1])
        if isinstance(large, tuple):
            large = _hadamard_matrix(*large, self.core)
        return small.astype(np.float64), large.astype(np.float64)

    @property
    def shape(self) -> Shape:
        """As a LayerChange."""
        small, large = self._matrices
        return (small.shape[0] * large.shape[0], small.shape[1] * large.shape[1], *large.shape[2:])

    def matrix(self) -> np.ndarray:
        """As a LayerChange."""
        small, large = self._matrices
        return np.kron(small.reshape(*small.shape, *[1] * (large.ndim - 2)), large)

    def factors(self) -> Factors | None:
        """As a LayerChange: the Kronecker products of both matrices' factors, where a whole one is its own, times the
        identity."""
        if self.core is not None or not _pointwise(self.shape):
            return None
        (up, down), (other_up, other_down) = map(_thin, (self.small, self.large))
        factors = np.kron(up, other_up), np.kron(down, other_down)
        return factors if factors[1].shape[0] < min(self.shape[:2]) else None


def layer_change(roles: Roles) -> LayerChange:
    """The change that a layer's tensors make. Raises ValueError that says which are lacking, or do not fit."""
    given = {role: array for role, array in roles.items() if role != "alpha"}
    flat = sorted(role for role, array in given.items() if array.ndim < 2)
    if flat:
        raise _Misfit(f"expected matrices, got {', '.join(f'{role} {list(given[role].shape)}' for role in flat)}")
    for needed, optional, make in _FORMS:
        if given.keys() & {*needed, *optional}:
            lacking = [role for role in needed if role not in given]
            if lacking:
                raise _Misfit(f"expected {', '.join(lacking)} beside {', '.join(sorted(given))}, got none")
            strange = given.keys() - {*needed, *optional}
            if strange:
                raise _Misfit(f"expected one form of change, got {', '.join(sorted(given))}")
            return make(given)
    if _KRONECKER.intersection(given):
        return _kronecker(given)
    raise _Misfit("expected a change beside alpha, got none")


def _hadamard(roles: Roles) -> LayerChange:
    first, second = (
        (roles[f"hada_w{each}_a"], roles[f"hada_w{each}_b"], roles.get(f"hada_t{each}")) for each in (1, 2)
    )
    return HadamardChange(first, second)


def _kronecker(roles: Roles) -> LayerChange:
    if strange := roles.keys() - _KRONECKER:
        raise _Misfit(f"expected one form of change, got {', '.join(sorted({*strange, *roles}))}")
    return KroneckerChange(_one_side(roles, "lokr_w1"), _one_side(roles, "lokr_w2"), roles.get("lokr_t2"))


def _one_side(roles: Roles, name: str) -> np.ndarray | Factors:
    whole, a, b = roles.get(name), roles.get(f"{name}_a"), roles.get(f"{name}_b")
    if whole is None and (a is None or b is None):
        raise _Misfit(f"expected {name}, or {name}_a and {name}_b, beside {', '.join(sorted(roles))}, got neither")
    if whole is not None:
        return whole
    assert a is not None and b is not None
    return a, b


_FORMS = (
    (("down", "up"), ("mid",), lambda roles: LowRankChange(roles["down"], roles["up"], roles.get("mid"))),
    (("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), ("hada_t1", "hada_t2"), _hadamard),
)
_KRONECKER = {"lokr_t2", *(f"lokr_w{each}{half}" for each in (1, 2) for half in ("", "_a", "_b"))}


def _check_ranks(a: np.ndarray, b: np.ndarray, core: np.ndarray | None) -> None:
    """Raises _Misfit for factors [out, r] and [r, in, ...], or [r, out] and [r, in] around a core, that do not fit."""
    fits = a.shape[1] == b.shape[0] if core is None else core.shape[:2] == (a.shape[0], b.shape[0])
    if not fits or a.ndim > 2 or (core is not None and b.ndim > 2):
        raise _Misfit(f"expected factors of one rank, got {list(a.shape)} and {list(b.shape)}")


def _flat(array: np.ndarray) -> np.ndarray:
    """As a matrix in float64; a convolution's kernel joins its second axis."""
    return array.reshape(array.shape[0], -1).astype(np.float64)


def _pointwise(shape: Shape) -> bool:
    return all(size == 1 for size in shape[2:])


def _hadamard_shape(a: np.ndarray, b: np.ndarray, core: np.ndarray | None) -> Shape:
    return (a.shape[0], *b.shape[1:]) if core is None else (a.shape[1], b.shape[1], *core.shape[2:])


def _hadamard_matrix(a: np.ndarray, b: np.ndarray, core: np.ndarray | None) -> np.ndarray:
    """[out, in, ...]: the factors' product, or what a core [r, r, ...] makes of factors [r, out] and [r, in]."""
    if core is None:
        return (_flat(a) @ _flat(b)).reshape(_hadamard_shape(a, b, None))
    return np.einsum("ij...,ip,jr->pr...", core.astype(np.float64), _flat(a), _flat(b), optimize=True)


def _thin(side: np.ndarray | Factors) -> Factors:
    """A matrix as two factors of its own rank at most."""
    if isinstance(side, tuple):
        return _flat(side[0]), _flat(side[1])
    whole = _flat(side)
    rows, columns = whole.shape
    return (whole, np.eye(columns)) if columns <= rows else (np.eye(rows), whole)
