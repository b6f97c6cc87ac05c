"""Puts named tensors into a module built without drawing its weights, with every key accounted for."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import CheckpointError

Module = TypeVar("Module", bound=nn.Module)
# By name: transformers puts wrappers of its own in the place of torch.nn.init's functions while it builds a model.
_DRAWS = {"uniform_", "normal_", "trunc_normal_", "fill_", "zero_", "constant_", "kaiming_uniform_", "kaiming_normal_"}


_MAKES = {"empty", "zeros", "ones", "full", "eye", "arange", "linspace", "rand", "randn"}
MOST_TENSORS = 20_000
"""Of one module; the largest known here has 700."""
MOST_ELEMENTS = 2**32
"""Of one tensor; the largest known here has 2 * 10**8."""
MOST_COUNTED = 2**24
"""Of a tensor that is counted through when it is made, such as positions."""


def _check_size(args: Any, made: int) -> None:
    """Raises ValueError for a size or a number of tensors that no model has, before anything is allocated."""
    given = args[0] if args and isinstance(args[0], list | tuple | torch.Size) else args
    sizes = [size for size in given if isinstance(size, int | float)]
    if made > MOST_TENSORS or (sizes and (math.prod(sizes) > MOST_ELEMENTS or max(sizes) > MOST_COUNTED)):
        raise ValueError(f"a model of more than {MOST_TENSORS} tensors or with one of the sizes {sizes[:4]}")


class WithoutInit(TorchFunctionMode):
    """Inside it, a new module's parameters are allocated but never written.

    Memory that nothing wrote is not resident, so a module built for `load_strictly` costs no second copy of its
    weights. Buffers are computed as usual: many are constants that no checkpoint holds.
    """

    def __init__(self) -> None:
        super().__init__()
        self._made = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _MAKES:
            self._made += 1
            _check_size(args, self._made)
        target = args[0] if args else kwargs.get("tensor")
        if getattr(func, "__name__", "") in _DRAWS and isinstance(target, nn.Parameter):
            return target
        return func(*args, **kwargs)


_REFUSALS = (TypeError, ValueError, LookupError, AttributeError, NameError, ArithmeticError, RuntimeError, MemoryError)
"""What a class raises for a configuration that it cannot be made from; torch raises RuntimeError for sizes, and a
setting that none of diffusers' branches knows leaves a name without a value."""


def build_module(make: Callable[[], Module], source: str) -> Module:
    """The module that `make` returns, its parameters unwritten and frozen, in eval mode.

    Raises CheckpointError, in which `source` names the configuration, where the module's class does not accept it.
    """
    from huggingface_hub.errors import StrictDataclassError

    refusals = (*_REFUSALS, StrictDataclassError)
    try:
        with WithoutInit():
            module = make()
    except refusals as error:
        raise CheckpointError(
            f"{source}: expected a configuration its class accepts, got {_said(error)}; "
            "fix: give the configuration as it was published"
        ) from error
    return module.eval().requires_grad_(False)


def _said(error: BaseException) -> str:
    """What a class says of its configuration, without the places in torch's sources and Python's words for objects."""
    if isinstance(error, AttributeError | NameError):
        return "a value of another kind"
    text = re.split(r"Exception raised from|\bframe #", str(error), maxsplit=1)[0]
    return " ".join(text.split())[:300] or type(error).__name__


@dataclass(frozen=True, slots=True)
class Load:
    """One module and the tensors meant for it.

    `source` names the tensors' file in messages; `ignore` holds patterns of the file's known extras; `names` maps a
    module key to the file's key where they differ.
    """

    module: nn.Module
    tensors: Mapping[str, Tensor]
    source: str
    ignore: Iterable[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)


def load_strictly(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    ignore: Iterable[str] = (),
    names: Mapping[str, str] | None = None,
) -> None:
    """Fills `module` from `tensors` in float32, or raises one CheckpointError that lists every key that does not fit.

    Missing, unexpected and wrongly shaped keys are reported under the file's names. The tensors become the module's
    parameters without a copy where they are float32 already.
    """
    load_all_strictly([Load(module, tensors, source, ignore, names or {})])


def load_all_strictly(loads: Iterable[Load], problems: Iterable[str] = ()) -> None:
    """`load_strictly` for several modules: nothing is loaded unless all of them fit, and all problems come at once.

    `problems` are the caller's own, found before; with any, too, a CheckpointError is raised and nothing is loaded.
    """
    loads = list(loads)
    problems = [*problems, *(problem for load in loads for problem in mismatches(load))]
    if problems:
        raise CheckpointError(*problems)
    for load in loads:
        state = {
            key: _to_dtype(load.tensors[load.names.get(key, key)], value.dtype)
            for key, value in load.module.state_dict().items()
        }
        load.module.load_state_dict(state, assign=True)


def mismatches(load: Load) -> list[str]:
    """One headline and one line per missing, unexpected or wrongly shaped key; empty when everything fits."""
    expected = {load.names.get(key, key): value for key, value in load.module.state_dict().items()}
    missing = [f"  missing {key} {list(expected[key].shape)}" for key in expected if key not in load.tensors]
    unexpected = [
        f"  unexpected {key} {list(value.shape)}"
        for key, value in load.tensors.items()
        if key not in expected and not any(fnmatchcase(key, pattern) for pattern in load.ignore)
    ]
    wrong = [
        f"  wrong {key}: expected {_kind(value)}, got {_kind(load.tensors[key])}"
        for key, value in expected.items()
        if key in load.tensors and _kind(value) != _kind(load.tensors[key])
    ]
    if not (missing or unexpected or wrong):
        return []
    counts = f"{len(missing)} missing, {len(unexpected)} unexpected, {len(wrong)} wrongly shaped"
    return [
        f"{load.source} does not fit {type(load.module).__name__}: expected its keys, got {counts}; "
        "fix: give the checkpoint, or the configuration, that belongs to it",
        *missing,
        *unexpected,
        *wrong,
    ]


def _kind(value: Tensor) -> str:
    return f"{list(value.shape)}" if value.dtype.is_floating_point else f"{list(value.shape)} {value.dtype}"


def _to_dtype(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.detach().to(dtype).contiguous()
