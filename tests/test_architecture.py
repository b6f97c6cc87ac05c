"""The rooms keep to their arrows, sizes and manners; and every rule is shown to fail where it should."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType

import pytest
import x2i.runtime

from tests import architecture
from tests.architecture import (
    BROAD_EXCEPT,
    NAMES_TO_PART,
    PRODUCT,
    ROOT,
    RULES,
    SHARED_NAMES,
    Source,
    crowded_folders,
    import_circles,
    shared_names,
    sources,
)
from tests.processes import run

TREE = sources(*architecture.ARROWS)
HEAVY = ("torch", "transformers", "diffusers", "onnx", "onnxruntime", "onnxscript", "safetensors", "huggingface_hub")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(rule: Callable[[Source], Iterator[str]]) -> None:
    broken = [f"{source.path}: {problem}" for source in TREE for problem in rule(source)]
    if rule is architecture.broad_excepts:
        broken = [line for line in broken if line.partition(":")[0] not in BROAD_EXCEPT]
    assert not broken, "\n".join(broken)


def test_no_child_looks_around_in_the_working_folder() -> None:
    """Benchmarks and builds start children, too."""
    tree = sources("bench", "cpu-kernels")
    broken = [f"{each.path}: {problem}" for each in tree for problem in architecture.children_that_look_around(each)]
    assert not broken, "\n".join(broken)


def test_the_tests_import_what_their_extra_declares() -> None:
    """And name no package that only another one happens to bring along."""
    broken = [f"{test.path}: {name}" for test in sources("tests") for name in architecture.undeclared_imports(test)]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("rule", [crowded_folders, import_circles], ids=lambda rule: rule.__name__)
def test_the_tree_as_a_whole_keeps_the_rule(rule: Callable[[list[Source]], Iterator[str]]) -> None:
    assert not list(rule(TREE))


def names_the_reference_world(text: str) -> bool:
    """Whether a text could import it by any way: a statement, a name built for import_module, an entry point."""
    return re.search(r"x2i\.emoji|x2i import .*\bemoji|import emoji|\.emoji\b", text) is not None


def test_nothing_of_the_product_names_the_reference_world() -> None:
    product = [source for source in TREE if source.room != "emoji"]
    assert not [source.path for source in product if names_the_reference_world(source.text)]
    assert not names_the_reference_world((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        "import x2i.emoji",
        "from x2i import models, emoji",
        "from .. import emoji",
        "f('x2i.emoji.gate')",
        "f'{x2i}.emoji'",
    ],
)
def test_a_name_of_the_reference_world_is_seen(text: str) -> None:
    assert names_the_reference_world(text)
    assert not names_the_reference_world(text.replace("emoji", "models"))


def test_no_allowance_outlives_its_reason() -> None:
    broad = {source.path for source in TREE if list(architecture.broad_excepts(source))}
    assert broad >= set(BROAD_EXCEPT)
    assert {line.partition(" ")[0] for line in shared_names(sources(*PRODUCT))} >= set(SHARED_NAMES)


def test_a_public_name_is_defined_once() -> None:
    broken = [
        line
        for line in shared_names(sources(*PRODUCT))
        if line.partition(" ")[0] not in SHARED_NAMES.keys() | NAMES_TO_PART
    ]
    assert not broken, "\n".join(broken)


def test_a_shared_name_is_seen() -> None:
    one, other = (Source(f"runtime/{name}.py", "class Step:\n    pass\ndef _read(): ...") for name in ("a", "b"))
    assert list(shared_names([one, other])) == ["Step is defined in runtime/a.py, runtime/b.py"]
    assert not list(shared_names([one, Source("runtime/b.py", "class Stage:\n    def Step(self): ...")]))


BAD = {
    "runtime/bad.py": {
        "undeclared_imports": [
            "import torch",
            "def f():\n    import transformers.models",
            "from diffusers import UNet2DConditionModel",
            "import onnx",
            "from importlib import import_module\nimport_module('safetensors')",
        ],
        "wrong_arrows": [
            "from x2i.export.plan import ExportPlan",
            "from x2i import models",
            "from ..export import plan",
            "import importlib\nimportlib.import_module('x2i.models')",
            "import kernels",
            "from models import xlmr",
        ],
        "wrong_sizes": ["x = 1\n" * 401, "x = 1\n" * 39, "def f():\n" + "    x = 1\n" * 80],
        "broad_excepts": [
            "try:\n    pass\nexcept:\n    pass",
            "try:\n    pass\nexcept Exception as error:\n    print(error)",
            "try:\n    pass\nexcept (ValueError, BaseException):\n    pass",
        ],
        "unsafe_loading": [
            "import dill",
            "from pickle import loads",
            "import pickle\npickle.load(open('a'))",
            "import torch\ntorch.load('a')",
            "import torch\ntorch.load('a', weights_only=False)",
            "import numpy as np\nnp.load('a')",
            "import numpy as np\nnp.load('a', allow_pickle=True)",
            "import yaml\nyaml.load('a')",
            "eval('1')",
        ],
        "children_that_look_around": [
            "import sys\nrun([sys.executable, '-m', 'json.tool'])",
            "import sys\nwords = sys.executable, '-c', 'import numpy', *more",
        ],
        "missing_docstring": ["x = 1", "# A comment is no docstring.\nx = 1"],
    },
    "runtime/commands/bad.py": {"wrong_arrows": ["from ...export import plan", "from ... import models"]},
    "tests/bad.py": {"undeclared_imports": ["import pandas"]},
    "models/bad.py": {
        "undeclared_imports": ["import scipy.stats"],
        "wrong_arrows": ["import x2i.runtime", "from ..export import plan"],
    },
    "kernels/bad.py": {
        "wrong_arrows": ["from x2i.models import xlmr", "from ..runtime import load"],
        "wrong_sizes": ["def f():\n" + "    x = 1\n" * 120],
        "undocumented_names": [
            "def f():\n    pass",
            "class A:\n    pass",
            "class A:\n    'What.'\n    @property\n    def size(self):\n        return 1",
        ],
    },
    "export/__init__.py": {
        "work_in_init": ["from .plan import x\nprint(x)", "import torch", "X = {}", "def f():\n    pass"],
    },
}
GOOD = {
    "runtime/good.py": {
        "wrong_arrows": [
            "import json, numpy as np\nfrom PIL import Image\nfrom .plan import Plan",
            "import onnxruntime",
        ],
        "wrong_sizes": ["x = 1\n" * 400, "x = 1\n" * 40, "def f():\n" + "    x = 1\n" * 79],
        "broad_excepts": [
            "try:\n    pass\nexcept (OSError, ValueError):\n    pass",
            "try:\n    pass\nexcept BaseException:\n    print()\n    raise",
        ],
        "unsafe_loading": [
            "import numpy as np\nnp.load('a', allow_pickle=False)",
            "import torch\ntorch.load('a', map_location='cpu', weights_only=True)",
        ],
        "children_that_look_around": [
            "import sys\nrun([sys.executable, '-P', '-m', 'json.tool'])",
            "import sys\nrun([sys.executable, *words])",
        ],
        "missing_docstring": ["", '"""What it is."""\nx = 1'],
    },
    "export/good.py": {
        "undeclared_imports": ["import torch, yaml"],
        "wrong_arrows": ["import x2i.models\nfrom x2i.runtime.bundle.reader import Bundle"],
    },
    "export/systems/good.py": {"wrong_arrows": ["from ...models import xlmr\nfrom ..plan import ExportPlan"]},
    "models/good.py": {"wrong_arrows": ["from x2i.kernels import reference\nfrom .errors import CheckpointError"]},
    "kernels/good.py": {
        "wrong_sizes": ["def f():\n" + "    x = 1\n" * 119],
        "undocumented_names": [
            "def _f():\n    pass",
            "class A:\n    'What; and what `forward` does.'\n    def forward(self):\n        pass",
            "def f():\n    'What.'\n    def inner():\n        pass",
        ],
    },
    "runtime/__init__.py": {"work_in_init": ['"""What it is."""\nfrom .load import load\n__all__ = ["load"]']},
}


def snippets(cases: dict[str, dict[str, list[str]]]) -> list[tuple[str, str, str]]:
    return [(path, rule, text) for path, rules in cases.items() for rule, texts in rules.items() for text in texts]


def shown(value: str) -> str:
    return value if len(value) < 60 else f"{value[:20]}... ({len(value)} characters)"


@pytest.mark.parametrize(("path", "rule", "text"), snippets(BAD), ids=shown)
def test_the_rule_can_fail(path: str, rule: str, text: str) -> None:
    assert list(getattr(architecture, rule)(Source(path, text)))


@pytest.mark.parametrize(("path", "rule", "text"), snippets(GOOD), ids=shown)
def test_the_rule_lets_pass(path: str, rule: str, text: str) -> None:
    assert not list(getattr(architecture, rule)(Source(path, text)))


def test_every_rule_was_seen_to_fail() -> None:
    assert {rule for _, rule, _ in snippets(BAD)} == {rule.__name__ for rule in RULES}


def test_a_crowded_folder_is_seen() -> None:
    assert not list(crowded_folders([Source(f"runtime/a/{letter}.py", "") for letter in "abcdefghijkl"]))
    assert list(crowded_folders([Source(f"runtime/a/{letter}.py", "") for letter in "abcdefghijklm"]))


@pytest.mark.parametrize("lazy", [False, True])
def test_a_circle_of_imports_is_seen(lazy: bool) -> None:
    back = "def f():\n    from ..one import x" if lazy else "from ..one import x"
    circle = [Source("runtime/one.py", "from .two.three import y"), Source("runtime/two/three.py", back)]
    assert len(list(import_circles(circle))) == 2
    assert not list(import_circles([circle[0], Source("runtime/two/three.py", "import numpy")]))


@pytest.mark.parametrize("module", ["x2i.runtime", "x2i.runtime.cli", "x2i.export.commands.export"])
def test_importing_stays_light(module: str, tmp_path: Path) -> None:
    """The session libraries open with the first session; a `--help` or a wrong argument does not wait for them."""
    code = f"import sys, {module}; print(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    assert run(sys.executable, "-c", code, cwd=tmp_path).stdout.split() == []


def test_the_light_import_check_can_fail(tmp_path: Path) -> None:
    code = f"import sys, safetensors; print(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    assert "safetensors" in run(sys.executable, "-c", code, cwd=tmp_path).stdout.split()


def kernels_in_the_root(environment: dict[str, str]) -> str:
    """Where a process started in the repository root would import `kernels` from; empty when from nowhere."""
    code = "from importlib.util import find_spec; found = find_spec('kernels'); print(found.origin if found else '')"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_under_make_the_name_kernels_is_not_ours() -> None:
    """transformers and diffusers look for a package of that name, and would take our folder for it."""
    if not (make := shutil.which("make")):
        pytest.skip("make is not installed")
    printed = subprocess.run(
        [make, "--no-print-directory", "--eval=environment: ; @env -0", "environment"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    environment = dict(line.split("=", 1) for line in printed.split("\0") if line)
    assert not kernels_in_the_root(environment).startswith(str(ROOT))
    unguarded = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    assert kernels_in_the_root(unguarded).startswith(str(ROOT)), "the hazard is gone: drop PYTHONSAFEPATH"


def test_in_the_tests_the_name_kernels_is_not_ours() -> None:
    found = find_spec("kernels")
    assert found is None or not str(found.origin).startswith(str(ROOT)), "start the tests with PYTHONSAFEPATH=1"


def undocumented(name: str, thing: object) -> list[str]:
    """The parts of a public name that lack a docstring; the one that a dataclass writes for itself is none."""
    parts = {name: thing}
    if inspect.isclass(thing):
        own = (item for item in vars(thing).items() if not item[0].startswith("_"))
        parts |= {f"{name}.{key}": value for key, value in own if isinstance(value, FunctionType | property)}
    return [part for part, value in parts.items() if (value.__doc__ or f"{name}(").startswith(f"{name}(")]


@pytest.mark.parametrize("name", x2i.runtime.__all__)
def test_the_public_surface_is_documented(name: str) -> None:
    assert not undocumented(name, getattr(x2i.runtime, name))


def test_a_missing_docstring_is_seen() -> None:
    @dataclass
    class Bare:
        size: int

        def area(self) -> int:
            return self.size**2

        @property
        def double(self) -> int:
            return self.size * 2

    assert undocumented("Bare", Bare) == ["Bare", "Bare.area", "Bare.double"]
