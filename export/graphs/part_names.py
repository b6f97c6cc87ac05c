"""Names of a graph's parts: the path of the torch module and the operation that a node was traced from.

`unet.down_blocks.0.resnets.1.conv1.conv2d_4` is one operation; any of its prefixes names all that lies below it.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase

import onnx_ir as ir
from x2i.runtime.errors import VALUE_LENGTH, one_line

from ..errors import PlanError

SCOPES = "pkg.torch.onnx.name_scopes"
"""The metadata of a node in which torch's exporter keeps the module path and the operation."""
_NAME = r"'[^'\\]*'"


def scopes_of(node: ir.Node) -> list[str]:
    """The modules that a node was traced in, the outermost first, and the operation; empty without torch's metadata.

    The file may be a stranger's: raises PlanError for what is no list of names as torch's exporter writes it.
    """
    text = node.metadata_props.get(SCOPES)
    if text is None:
        return []
    if not re.fullmatch(rf"\[{_NAME}(?:, {_NAME})*\]", text):
        got = one_line(repr(text), VALUE_LENGTH)
        raise PlanError(f"graph: expected {SCOPES} as a list of names, got {got}; export the bundle again")
    return [name[1:-1] for name in re.findall(_NAME, text)]


def path_of(node: ir.Node) -> str:
    """The dotted path of one node; without torch's metadata, the node's own name as other exporters write it."""
    scopes = scopes_of(node)
    if not scopes:
        return (node.name or node.outputs[0].name or "").strip("/").replace("/", ".")
    *modules, operation = scopes
    return f"{modules[-1]}.{operation}" if modules and modules[-1] else operation


def is_module(module: str, path: str) -> bool:
    """Whether the path of a module in a graph is that of a network's module, which other modules may hold."""
    return module == path or module.endswith(f".{path}")


def part_of(path: str) -> str:
    """The part that a path is searched by: down to the second member of a module list, else its module.

    `unet.up_blocks.1.resnets.0.norm1.group_norm` is of `unet.up_blocks.1.resnets.0`.
    """
    modules = path.split(".")[:-1]
    members = [i for i, module in enumerate(modules) if module.isdigit()]
    if members:
        return ".".join(modules[: members[:2][-1] + 1])
    return ".".join(modules) or path


def is_under(path: str, names: Collection[str]) -> bool:
    """Whether a path is one of the names, or below one; a name may have the wildcards of `fnmatch`."""
    return any(fnmatchcase(path, name) or fnmatchcase(path, f"{name}.*") for name in names)


def check_names(names: Collection[str], paths: Collection[str]) -> None:
    """Raises PlanError with a line for each name that fits none of the paths."""
    problems = [
        f"--keep: {name!r} fits no part; expected a module path such as {part_of(next(iter(paths), 'conv_in'))}, or a "
        "pattern"
        for name in names
        if not any(is_under(path, (name,)) for path in paths)
    ]
    if problems:
        raise PlanError(*problems)


def paths_by_part(paths: Iterable[str]) -> Mapping[str, list[str]]:
    """Paths by part, both in the order of execution."""
    groups: dict[str, list[str]] = {}
    for path in dict.fromkeys(paths):
        groups.setdefault(part_of(path), []).append(path)
    return groups


def shortest_names(chosen: Collection[str], paths: Iterable[str]) -> tuple[str, ...]:
    """The fewest names that stand for exactly the chosen ones of all paths."""
    chosen = set(chosen)
    whole: dict[str, bool] = {}
    for path in dict.fromkeys(paths):
        for prefix in _prefixes(path):
            whole[prefix] = whole.get(prefix, True) and path in chosen
    names = [
        next(prefix for prefix in _prefixes(path) if whole[prefix]) for path in dict.fromkeys(paths) if path in chosen
    ]
    return tuple(dict.fromkeys(names))


def _prefixes(path: str) -> list[str]:
    words = path.split(".")
    return [".".join(words[:count]) for count in range(1, len(words) + 1)]
