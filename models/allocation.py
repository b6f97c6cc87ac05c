"""Builds a module without drawing its initial weights, when others are about to take their place."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn
from torch.overrides import TorchFunctionMode

from .errors import CheckpointError

Module = TypeVar("Module", bound=nn.Module)

# By name: transformers puts wrappers of its own in the place of torch.nn.init's functions while it builds a model.
_DRAWS = {"uniform_", "normal_", "trunc_normal_", "fill_", "zero_", "constant_", "kaiming_uniform_", "kaiming_normal_"}


class WithoutInit(TorchFunctionMode):
    """Inside it, a new module's parameters are allocated but never written.

    Memory that nothing wrote is not resident, so a module built for `load_strictly` costs no second copy of its
    weights. Buffers are computed as usual: many are constants that no checkpoint holds.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        target = args[0] if args else kwargs.get("tensor")
        if getattr(func, "__name__", "") in _DRAWS and isinstance(target, nn.Parameter):
            return target
        return func(*args, **kwargs)


def built(make: Callable[[], Module], source: str) -> Module:
    """The module `make` returns, unwritten and in eval mode; CheckpointError where the configuration is unfit."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        with WithoutInit():
            module = make()
    except (TypeError, ValueError, LookupError, AttributeError, ZeroDivisionError, StrictDataclassError) as error:
        raise CheckpointError(
            f"{source}: expected a configuration its class accepts, got {' '.join(str(error).split())}; "
            "fix: give the configuration as it was published"
        ) from error
    return module.eval().requires_grad_(False)
