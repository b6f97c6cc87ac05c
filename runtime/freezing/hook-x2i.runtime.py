"""What PyInstaller collects for a program that imports x2i.runtime: modules that are imported by name, the files beside
them, the libraries' plug-ins, and the metadata from which entry points and versions are read.

Of what is optional it takes what is installed where the program is frozen.
"""

from importlib.metadata import entry_points
from importlib.util import find_spec
from pkgutil import iter_modules

from PyInstaller.utils.hooks import collect_all, collect_data_files, collect_dynamic_libs, collect_submodules
from PyInstaller.utils.hooks import copy_metadata as metadata_of

PROVIDERS = "onnxruntime_ep_"
"""How the packages of ONNX Runtime's plug-ins begin; each is imported by name, and tells its library's path."""
LIBRARIES = ["*.dll", "*.dylib", "lib*.so", "lib*.so.*"]
"""OpenVINO opens its plug-ins and its readers of graphs by name."""
NEEDS = {"x2i.runtime.server": "fastapi", "x2i.runtime.freezing": "PyInstaller"}
"""Parts that a program without these packages does not start, and that would drag them in."""


def wanted(module: str) -> bool:
    """Whether a module of the runtime can be imported by a program that is frozen here."""
    left_out = [part for part, package in NEEDS.items() if package == "PyInstaller" or find_spec(package) is None]
    return not module.startswith(tuple(left_out))


hiddenimports = collect_submodules("x2i.runtime", filter=wanted)
datas = collect_data_files("x2i.runtime") + metadata_of("x2i-edge", recursive=True)
binaries = []
if find_spec("openvino") is not None:
    binaries += collect_dynamic_libs("openvino", search_patterns=LIBRARIES)
    datas += metadata_of("openvino")
# The operators of our own, for the libraries that are there.
hiddenimports += [
    plugin.module
    for plugin in entry_points(group="x2i.plugins")
    if find_spec(plugin.name.partition("-")[0]) is not None
]
for package in [found.name for found in iter_modules() if found.name.startswith(PROVIDERS)]:
    files, libraries, modules = collect_all(package)
    datas, binaries, hiddenimports = datas + files, binaries + libraries, [*hiddenimports, package, *modules]
