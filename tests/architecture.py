"""What the sources must hold, as functions from one source file to the rules that it breaks."""

import ast
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
ARROWS = {
    "export": {"models", "kernels", "runtime"},
    "models": {"kernels"},
    "runtime": set[str](),
    "kernels": set[str](),
    "emoji": {"export", "kernels", "models", "runtime"},
}
"""Which rooms a room may import."""
# The extras of pyproject.toml whose packages a room may import, beside the base dependencies.
EXTRAS = {
    "runtime": ("frozen", "openvino", "ray", "rtx", "server", "sound", "tensorrt"),
    "models": ("export", "sound"),
    "kernels": ("kernels", "openvino", "rtx", "tensorrt"),
    "export": ("export",),
    "emoji": ("export", "sound"),
    "tests": ("desktop", "export", "kernels", "openvino", "rtx", "server", "sound", "test"),
}
# Import names, where they differ from the distribution's.
IMPORT_NAMES = {
    "PySide6-Essentials": "PySide6",
    "cuda-bindings": "cuda",
    "huggingface-hub": "huggingface_hub",
    "onnx-ir": "onnx_ir",
    "opentelemetry-api": "opentelemetry",
    "opentelemetry-sdk": "opentelemetry",
    "pillow": "PIL",
    "prometheus-client": "prometheus_client",
    "pytest-xdist": "xdist",
    "protobuf": "google",
    "pyinstaller": "PyInstaller",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
    "tensorrt-rtx": "tensorrt_rtx",
}
FILE_LINES, LEAST_FILE_LINES, FOLDER_MODULES = 400, 40, 12
FUNCTION_LINES, KERNEL_LINES = 80, 120
SMALL_MODULES = {
    "bench/__main__.py": "what `python bench` starts",
    "bench/peers/optimum_onnx.py": "one peer's script",
    "emoji/few_steps/publish.py": "one stage",
    "export/commands/lower.py": "one command",
    "export/commands/optimum.py": "two commands",
    "export/errors.py": "the room's errors",
    "export/graphs/rewiring.py": "what variants are cut with",
    "export/provenance.py": "where weights came from",
    "export/systems/registry.py": "the table of systems",
    "export/systems/stable_diffusion.py": "one system",
    "export/token_systems/cdcd.py": "one system",
    "kernels/biased_attention/launch.py": "one op's arguments",
    "kernels/domain.py": "three names that all operators share",
    "kernels/errors.py": "the room's error",
    "kernels/gpu/online_softmax.py": "two functions of every attention kernel",
    "kernels/gpu_ops.py": "the table of operators for GPUs",
    "kernels/injected_attention/launch.py": "one op's arguments",
    "kernels/injected_attention/op.py": "what every form of one op agrees on",
    "kernels/openvino_ops.py": "the table of operators for OpenVINO",
    "models/errors.py": "the room's error",
    "models/weighted_attention.py": "one formula",
    "runtime/bundle/cfg_batch.py": "the rule of the guidance's rows",
    "runtime/commands/share.py": "one command",
    "runtime/freezing/hooks.py": "where a program that freezes others looks",
    "runtime/items/weights.py": "the three forms of a weight",
    "runtime/media/detokenizer.py": "the way back from ids to text",
    "runtime/server/cluster/loopback.py": "where Ray listens",
    "runtime/server/api/clients.py": "who asks",
    "runtime/server/jobs/pace.py": "one estimate",
    "runtime/sessions/providers/owners.py": "one conflict of installs",
    "runtime/token_samplers/registry.py": "the table of token samplers",
    "runtime/telemetry.py": "one decision, which must be the first",
}
"""Modules below the least size, with the reason."""
BROAD_EXCEPT = {
    "runtime/commands/console.py": "the edge of every command",
    "runtime/sessions/session.py": "the edge of the session libraries, which raise whatever they like",
    "runtime/media/tokenizer.py": "tokenizers raises bare Exception and nothing narrower",
    "models/readers/tokenizer_json.py": "tokenizers raises bare Exception and nothing narrower",
}
PRODUCT = ("models", "kernels", "export", "runtime")
"""The rooms of the wheel, in which a public name is defined once."""
SHARED_NAMES = {
    "main": "what a program starts with, each in a process of its own",
    "share": "the command and the function that it calls",
}
"""Public names that several modules of the product define, with the reason."""
NAMES_TO_PART = {"differences"}
"""Names that still stand for two things each, and are to be renamed."""
DOCUMENTED_ABOVE = {
    "forward": "torch: its class describes it",
    **dict.fromkeys(("bind",), "x2i.runtime.sessions.session.Session"),
    **dict.fromkeys(("slots", "describe", "prepare", "stand_in", "shapes"), "x2i.runtime.inputs.option.Input"),
    **dict.fromkeys(("key_types", "required_keys", "from_keys", "to_keys"), "x2i.runtime.bundle.records.KeyedRecord"),
    **dict.fromkeys(("convert", "list_commands", "get_command", "invoke"), "click"),
}
"""Methods that a class implements for a protocol or a library, and who describes them."""
UNSAFE_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "shelve"}
# torch.load raises pickle.UnpicklingError, so the name is needed where it is caught; nothing of these is.
UNPICKLERS = {"pickle.load", "pickle.loads", "pickle.Unpickler"}


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file; `path` is relative to the repository, such as runtime/plan.py."""

    path: str
    text: str

    @property
    def room(self) -> str:
        return self.path.partition("/")[0]

    @property
    def package(self) -> str:
        """Dotted name of the package that a relative import starts from, such as x2i.runtime.commands."""
        return ".".join(["x2i", *PurePosixPath(self.path).parent.parts])

    @property
    def module(self) -> str:
        """Its own dotted name."""
        return ".".join(["x2i", *PurePosixPath(self.path).with_suffix("").parts]).removesuffix(".__init__")

    def nodes(self) -> Iterator[ast.AST]:
        return ast.walk(ast.parse(self.text))


def sources(*folders: str) -> list[Source]:
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return [Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


@cache
def declared_imports(room: str) -> set[str]:
    """The top-level names that pyproject.toml, and the room's own where it has one, let it import."""
    project = _project(ROOT)
    extras = [project["optional-dependencies"][extra] for extra in EXTRAS[room]]
    if (ROOT / room / "pyproject.toml").is_file():
        extras += _project(ROOT / room)["optional-dependencies"].values()
    names = [Requirement(text).name for wanted in (project["dependencies"], *extras) for text in wanted]
    return {IMPORT_NAMES.get(name, name) for name in names}


def _project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def imports(source: Source) -> Iterator[str]:
    """Absolute dotted names of everything that the file imports, at its top or later."""
    for node in source.nodes():
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, level):
                base = source.package.rsplit(".", level - 1)[0] if level else ""
                stem = ".".join(part for part in (base, module) if part)
                yield from (f"{stem}.{alias.name}" for alias in names)
            case ast.Call(args=[ast.Constant(str(name)), *_]) if _name(node.func) in DYNAMIC_IMPORTS:
                yield name


DYNAMIC_IMPORTS = {"import_module", "importlib.import_module", "__import__"}


def wrong_arrows(source: Source) -> Iterator[str]:
    for name in imports(source):
        top, _, rest = name.partition(".")
        room = rest.partition(".")[0] if top == "x2i" else ""
        if top in ARROWS:
            yield f"imports {name}; write x2i.{name}"
        elif top == "x2i" and room != source.room and room not in ARROWS[source.room]:
            yield f"{source.room} must not import {name}"


def undeclared_imports(source: Source) -> Iterator[str]:
    """Packages that would be missing where only the dependencies of this room are installed."""
    known = (
        sys.stdlib_module_names
        | declared_imports(source.room)
        | {"x2i", "tests", "desktop", "full_size", "harness", "peers"}
    )
    for name in imports(source):
        if name.partition(".")[0] not in known:
            yield f"imports {name}, which pyproject.toml does not declare for {source.room}"


def wrong_sizes(source: Source) -> Iterator[str]:
    lines = len(source.text.splitlines())
    if lines > FILE_LINES:
        yield f"{lines} lines, at most {FILE_LINES}"
    if lines < LEAST_FILE_LINES and source.path not in SMALL_MODULES and not source.path.endswith("/__init__.py"):
        yield f"{lines} lines, at least {LEAST_FILE_LINES}; merge it, or give its reason in SMALL_MODULES"
    limit = KERNEL_LINES if source.room == "kernels" else FUNCTION_LINES
    for name, size in functions(source):
        if size > limit:
            yield f"{name}: {size} lines, at most {limit}"


def functions(source: Source) -> Iterator[tuple[str, int]]:
    for node in source.nodes():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def crowded_folders(tree: Iterable[Source]) -> Iterator[str]:
    """Folders of more modules than a stranger looks through."""
    folders = Counter(
        PurePosixPath(source.path).parent.as_posix() for source in tree if not source.path.endswith("/__init__.py")
    )
    yield from (
        f"{folder}: {count} modules, at most {FOLDER_MODULES}"
        for folder, count in folders.items()
        if count > FOLDER_MODULES
    )


def import_circles(tree: Iterable[Source]) -> Iterator[str]:
    """Modules that import each other, directly or by a way around, at their tops or later."""
    modules = {source.module: source for source in tree}
    ahead: dict[str, set[str]] = {
        name: {found for target in imports(source) if (found := _module_of(target, modules)) not in (None, name)}
        for name, source in modules.items()
    }
    for name in sorted(modules):
        if name in (reached := _reachable(name, ahead)):
            circle = sorted(other for other in reached if name in _reachable(other, ahead))
            yield f"{name} imports itself through {', '.join(other for other in circle if other != name)}"


def _module_of(target: str, modules: dict[str, Source]) -> str | None:
    """The module that an import of `target` runs: itself, or the one that it is a name of."""
    return target if target in modules else parent if (parent := target.rpartition(".")[0]) in modules else None


def _reachable(start: str, ahead: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    left = [start]
    while left:
        for name in ahead[left.pop()] - found:
            found.add(name)
            left.append(name)
    return found


def broad_excepts(source: Source) -> Iterator[str]:
    """Handlers that catch everything, unless all they do is clean up and raise it again."""
    for node in source.nodes():
        if isinstance(node, ast.ExceptHandler):
            caught = {_name(part) for part in getattr(node.type, "elts", [node.type])}
            again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if caught & {"", "Exception", "BaseException"} and not again:
                yield f"line {node.lineno} catches everything"


def unsafe_loading(source: Source) -> Iterator[str]:
    """Whatever could run code that came with a file."""
    for name in imports(source):
        if name.partition(".")[0] in UNSAFE_MODULES or name in UNPICKLERS:
            yield f"imports {name}"
    for node in source.nodes():
        if not isinstance(node, ast.Call):
            continue
        given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        match _name(node.func):
            case "torch.load" if given.get("weights_only") is not True:
                yield f"line {node.lineno}: torch.load without weights_only=True"
            case "np.load" | "numpy.load" if given.get("allow_pickle") is not False:
                yield f"line {node.lineno}: np.load without allow_pickle=False"
            case "pickle.load" | "pickle.loads" | "pickle.Unpickler" | "yaml.load" | "eval" | "exec" as name:
                yield f"line {node.lineno}: {name}"


def children_that_look_around(source: Source) -> Iterator[str]:
    """Interpreters that are started to run a module or a text, and would import what lies in the working folder."""
    for node in source.nodes():
        words = node.elts if isinstance(node, ast.List | ast.Tuple) else []
        first = [_name(word) or getattr(word, "value", None) for word in words[:2]]
        if first in (["sys.executable", "-m"], ["sys.executable", "-c"]):
            yield f"line {node.lineno}: {ast.unparse(node)}; start it with -P"


def work_in_init(source: Source) -> Iterator[str]:
    """A package's __init__ re-exports its own modules, names them in __all__, and does nothing else; except that a room
    which imports ONNX Runtime first has its telemetry declined."""
    if not source.path.endswith("/__init__.py"):
        return
    for number, node in enumerate(ast.parse(source.text).body):
        match node:
            case ast.Expr(ast.Constant(str())) if number == 0:
                pass
            case ast.ImportFrom(level=1) | ast.Assign(targets=[ast.Name("__all__")]):
                pass
            case ast.ImportFrom("x2i.runtime", [ast.alias("telemetry")]):
                pass
            case _:
                yield f"line {node.lineno}: {ast.unparse(node).splitlines()[0]}"


def missing_docstring(source: Source) -> Iterator[str]:
    module = ast.parse(source.text)
    if module.body and not ast.get_docstring(module):
        yield "no module docstring"


def undocumented_names(source: Source) -> Iterator[str]:
    """Public functions, classes and methods without a docstring; what a function defines inside is not public."""
    yield from (f"{name} has no docstring" for name in _undocumented(ast.parse(source.text).body))


def _undocumented(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node) and node.name not in DOCUMENTED_ABOVE:
                yield f"{prefix}{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from _undocumented(node.body, f"{prefix}{node.name}.")


def shared_names(tree: Iterable[Source]) -> Iterator[str]:
    """Public classes and functions that more than one module of the product defines at its top."""
    places: dict[str, list[str]] = {}
    for source in tree:
        for node in ast.parse(source.text).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                places.setdefault(node.name, []).append(source.path)
    for name, paths in places.items():
        if not name.startswith("_") and len(set(paths)) > 1:
            yield f"{name} is defined in {', '.join(paths)}"


def _name(node: ast.AST | None) -> str:
    """The dotted name of an expression; empty when it is none or has none."""
    match node:
        case ast.Name(name):
            return name
        case ast.Attribute(value, name):
            return f"{_name(value)}.{name}"
    return ""


RULES: tuple[Callable[[Source], Iterator[str]], ...] = (
    wrong_arrows,
    undeclared_imports,
    wrong_sizes,
    broad_excepts,
    unsafe_loading,
    children_that_look_around,
    work_in_init,
    missing_docstring,
    undocumented_names,
)
