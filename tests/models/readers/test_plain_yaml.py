"""YAML in which Python wrote its own types: what they hold is read, and nothing that they name is looked up."""

import sys

import pytest
import yaml
from x2i.models.readers.plain_yaml import plain_yaml

NAMESPACE = """!!python/object:argparse.Namespace
ngf: 5
save_path: !!python/object/apply:pathlib.PosixPath
- logs
- tiny
ratios: !!python/tuple [8, 2]
"""


def test_tuples_are_lists():
    assert plain_yaml("size: !!python/tuple\n- 5\n- !!python/tuple [53, x]") == {"size": [5, [53, "x"]]}


def test_objects_are_what_they_hold():
    assert plain_yaml(NAMESPACE, objects=True) == {"ngf": 5, "save_path": ["logs", "tiny"], "ratios": [8, 2]}


@pytest.mark.parametrize("tag", ["object:argparse.Namespace", "object/apply:os.getcwd", "object/new:dict", "name:os"])
def test_objects_are_refused_where_none_are_expected(tag):
    with pytest.raises(yaml.YAMLError):
        plain_yaml(f"a: !!python/{tag} {{}}" if "name" not in tag else f"a: !!python/{tag}")


@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize("tag", ["name:os.system", "module:antigravity", "str 'a'", "complex 1j"])
def test_other_tags_are_refused(tag, objects):
    with pytest.raises(yaml.YAMLError):
        plain_yaml(f"a: !!python/{tag}", objects)


def test_nothing_is_imported_or_called(tmp_path):
    left = tmp_path / "ran"
    text = f"a: !!python/object/apply:os.system ['touch {left}']\nb: !!python/object:antigravity.Mind {{c: 1}}"
    assert plain_yaml(text, objects=True) == {"a": [f"touch {left}"], "b": {"c": 1}}
    assert not left.exists() and "antigravity" not in sys.modules
