"""YAML as plain values, for files in which Python wrote its own types: these are read as what they hold, never made."""

from typing import Any

import yaml

PYTHON = "tag:yaml.org,2002:python/"
TUPLE = f"{PYTHON}tuple"
MADE = (f"{PYTHON}object:", f"{PYTHON}object/apply:", f"{PYTHON}object/new:")
"""The tags by which PyYAML writes objects down; what follows them names a class or a function."""


class _PlainLoader(yaml.SafeLoader):
    """Plain types, and tuples as lists."""


class _HeldLoader(_PlainLoader):
    """Objects too: one with settings as a dict, one that is called with values as their list."""


def _held(loader: yaml.SafeLoader, _name: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else node.value


_PlainLoader.add_constructor(TUPLE, lambda loader, node: loader.construct_sequence(node, deep=True))
for _tag in MADE:
    _HeldLoader.add_multi_constructor(_tag, _held)


def plain_yaml(text: str, objects: bool = False) -> Any:
    """The only document of a YAML text. With `objects`, what stands for a Python object is read as its settings or
    arguments; without, it is refused, as every other tag is. Raises yaml.YAMLError.

    No name in the text is looked up, and nothing that it names is imported or called.
    """
    loader = (_HeldLoader if objects else _PlainLoader)(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
