"""What TensorRT complains of, kept for the one line that the user gets."""

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from ..errors import InputError


def imported(library: str) -> ModuleType:
    """The module `tensorrt_rtx` or `tensorrt`; raises InputError where it is installed but does not import."""
    try:
        return import_module(library)
    except (ImportError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{library} does not import: {reason}; pip install --force-reinstall {library.replace('_', '-')}"
        ) from error


@cache
def log(tensorrt: ModuleType) -> Any:
    """The one log of a module; its `errors` are what the library complained of since they were last cleared."""

    class Log(tensorrt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (tensorrt.ILogger.Severity.ERROR, tensorrt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return Log()


def complaint(tensorrt: ModuleType) -> str:
    """What the library said, in one line, each thing once."""
    return "; ".join(dict.fromkeys(message.strip() for message in log(tensorrt).errors)) or "no reason given"
