"""The execution providers that ONNX Runtime was built with, and those of plug-ins, registered once in a process.

A plug-in is a library: that of an installed package `onnxruntime_ep_NAME`, whose module tells its path by
`get_library_path()` (the convention of Microsoft's, NVIDIA's and Intel's), or any other by its path. Nothing is loaded
before its provider is asked for.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from threading import Lock
from types import ModuleType

import onnxruntime

from ...errors import InputError, reason
from ...inputs.option import short
from ..session import library_edge

PACKAGES = "onnxruntime_ep_"
NEWER = "pip install --upgrade 'onnxruntime>=1.24.4'"
_LIBRARY = re.compile(r"(.+\.(?:so(?:\.\d+)*|dll|dylib))(?::(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Provider:
    """`name` is ONNX Runtime's; `devices` are a plug-in's, in its order: none where ONNX Runtime was built with the
    provider, which then chooses its device itself; `plugin` tells the two apart."""

    name: str
    devices: tuple["onnxruntime.OrtEpDevice", ...] = ()
    plugin: bool = False


@dataclass(frozen=True, slots=True)
class ChosenProvider:
    """A provider and which of its devices to take, None for the provider's own choice."""

    provider: Provider
    device: "onnxruntime.OrtEpDevice | None" = None

    @property
    def where(self) -> str:
        """The provider and its device, as in `WebGpuExecutionProvider (GPU 0 of NVIDIA)`."""
        return self.provider.name if self.device is None else f"{self.provider.name} ({_device_line(self.device)})"


def asked_provider(text: str) -> ChosenProvider:
    """The provider that stands behind `ep:`, as in `webgpu`, `WebGpuExecutionProvider`, `openvino:GPU`, `openvino:1` or
    `./libmine.so`.

    Raises InputError for one that is not here, whose library cannot be loaded, or that has no such device.
    """
    if (library := _LIBRARY.fullmatch(text)) is not None:
        path, device = library[1], library[2] or ""
        return _with_device(_plugin_at(path), device)
    name, _, device = text.partition(":")
    return _with_device(_named(name), device)


def provider_names() -> list[str]:
    """The names of all providers that are here, as they may stand behind `ep:`; no library is loaded for it."""
    built_in = (_short(name) for name in onnxruntime.get_available_providers())
    return list(dict.fromkeys([*plugin_names(), *built_in]))


def plugin_names() -> list[str]:
    """The names of the plug-ins that are installed as packages, as in `webgpu`."""
    return [name.removeprefix(PACKAGES).replace("_", "-") for name in _packages()]


def provider_present(name: str) -> bool:
    """Whether a provider is here, by a name such as `webgpu`."""
    return _key(name) in map(_key, provider_names())


def _named(name: str) -> Provider:
    if not name:
        raise InputError(f"expected the name of a provider behind ep:, as in ep:webgpu; {_registered_line()}")
    for package in _packages():
        if _key(package.removeprefix(PACKAGES)) == _key(name):
            return _plugin(package)
    # ONNX Runtime lists what was registered among those that it was built with.
    for provider in [*_REGISTERED.values(), *map(Provider, onnxruntime.get_available_providers())]:
        if _key(provider.name) == _key(name):
            return provider
    # A plug-in's provider may be called otherwise than its package.
    for package in _packages():
        if _key(name) in map(_key, _provider_names_of(package)):
            return _plugin(package)
    raise InputError(f"no execution provider {short(name)} is here; {_registered_line()}")


def _registered_line() -> str:
    return f"registered are {', '.join(provider_names())}; for others pip install onnxruntime-ep-NAME, or ep:LIBRARY.so"


def _packages() -> list[str]:
    """Import names of the plug-ins' packages; none is imported."""
    return sorted({module.name for module in iter_modules() if module.name.startswith(PACKAGES)})


def _provider_names_of(package: str) -> Iterator[str]:
    module = _module(package)
    yield from module.get_ep_names() if hasattr(module, "get_ep_names") else ()


def _plugin(package: str) -> Provider:
    module, name = _module(package), package.removeprefix(PACKAGES).replace("_", "-")
    if not hasattr(module, "get_library_path"):
        raise InputError(f"the package {package} does not tell its library; name it: ep:PATH/LIBRARY.so")
    with library_edge(lambda why: InputError(f"{package} has no library for this system: {why}")):
        path = str(module.get_library_path())
    return _registered(name, path)


def _module(package: str) -> ModuleType:
    try:
        return import_module(package)
    except (ImportError, OSError) as error:
        install = f"pip install --force-reinstall {package.replace('_', '-')}"
        raise InputError(f"the package {package} does not import: {reason(error)}; {install}") from error


def _plugin_at(path: str) -> Provider:
    if not Path(path).is_file():
        raise InputError(f"expected the library of an execution provider, found no file {short(path)}; correct it")
    return _registered(Path(path).name.partition(".")[0].removeprefix("lib"), str(Path(path).resolve()))


_REGISTERED: dict[str, Provider] = {}
"""The plug-ins of this process by the paths of their libraries: a library that is registered stays."""
_lock = Lock()


def _registered(name: str, path: str) -> Provider:
    """The provider of a library, which is registered under a name unless it is already: by us, or by a program that
    x2i is a part of."""
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise InputError(f"ONNX Runtime {onnxruntime.__version__} takes no plug-ins; {NEWER}")
    with _lock:
        if path not in _REGISTERED:
            before = {device.ep_name for device in onnxruntime.get_ep_devices()}
            devices = _devices_of(path)
            if not devices:
                refused = f"ONNX Runtime {onnxruntime.__version__} cannot load the provider {name} from {path}"
                with library_edge(lambda why: InputError(f"{refused}: {why}; {NEWER}, or another release of it")):
                    onnxruntime.register_execution_provider_library(name, path)
                # Older releases do not tell from which library a device comes.
                devices = _devices_of(path) or tuple(
                    device for device in onnxruntime.get_ep_devices() if device.ep_name not in before
                )
            _REGISTERED[path] = Provider(devices[0].ep_name if devices else name, devices, plugin=True)
    return _REGISTERED[path]


def _devices_of(path: str) -> tuple["onnxruntime.OrtEpDevice", ...]:
    return tuple(found for found in onnxruntime.get_ep_devices() if found.ep_metadata.get("library_path") == path)


def _with_device(provider: Provider, text: str) -> ChosenProvider:
    if not provider.plugin:
        if text:
            built_in = f"{provider.name} is built into ONNX Runtime, and chooses its device itself"
            raise InputError(f"{built_in}; leave out the device, {short(text)}")
        return ChosenProvider(provider)
    devices = provider.devices
    if not devices:
        raise InputError(
            f"{provider.name} finds no device here that it can use; install the driver (for webgpu on Linux also "
            "libvulkan1), or choose another backend, such as cpu"
        )
    if not text:
        return ChosenProvider(provider, devices[0])
    if text.isascii() and text.isdigit() and int(text) < len(devices):
        return ChosenProvider(provider, devices[int(text)])
    for device in devices:
        if device.device.type.name == text.upper():
            return ChosenProvider(provider, device)
    known = ", ".join(f"{number} ({_device_line(device)})" for number, device in enumerate(devices))
    raise InputError(f"{provider.name}: expected one of its devices, {known}, got {short(text)}")


def _device_line(device: "onnxruntime.OrtEpDevice") -> str:
    vendor = device.device.vendor
    return device.device.type.name + (f" of {vendor}" if vendor else "")


def _short(name: str) -> str:
    return name.removesuffix("ExecutionProvider")


def _key(name: str) -> str:
    """What the spellings of one provider share: `nv-tensorrt-rtx`, `NvTensorRTRTXExecutionProvider`."""
    return name.casefold().removesuffix("executionprovider").replace("-", "").replace("_", "")
