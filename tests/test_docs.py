"""README and docs: commands exist, those marked with `<!-- run -->` work, links lead somewhere, lines are short."""

import ast
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from x2i.runtime.cli import main

from tests.bundles import t5_bundle, whole_embedded
from tests.made_once import ROOT
from tests.markdown import Block, anchors, blocks, links, long_lines, spans

PAGES = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
NAMES = {page.relative_to(ROOT).as_posix(): page for page in PAGES}
BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = sorted({line for block in BLOCKS if block.language == "sh" for line in block.commands()})
SPANS = sorted({span for page in PAGES for span in spans(page)})
RUN = [page for page in PAGES if any(block.run for block in blocks(page))]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def parse(words: list[str], whole: bool = True) -> None:
    """Reads a command line as `x2i` would, and runs nothing; a part of one may lack arguments and values."""
    with click.Context(main) as context:
        command = main.get_command(context, words[1]) if len(words) > 1 else main
        assert command is not None, f"there is no command {words[1]}"
        try:
            command.make_context(words[1], words[2:], parent=context)
        except (click.MissingParameter, click.BadOptionUsage):
            if whole:
                raise


def problem(line: str) -> str | None:
    """Why a shell command cannot work, or nothing. Programs that are not ours pass."""
    words = shlex.split(line, comments=True)
    if words and words[0] == "x2i":
        try:
            parse(words)
        except (click.ClickException, AssertionError) as error:
            return f"{line}: {error}"
    if words[:1] == ["make"]:
        return next((f"{line}: no target {word}" for word in words[1:] if word not in TARGETS), None)
    if words[:2] == ["pip", "install"]:
        asked = {name for word in words for found in re.findall(r"\[(.+)\]", word) for name in found.split(",")}
        return f"{line}: no extra {asked - EXTRAS.keys()}" if asked - EXTRAS.keys() else None
    if words[:2] == ["python", "-m"] and importlib.util.find_spec(words[2]) is None:
        return f"{line}: no module {words[2]}"
    return None


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_can_be_given(line: str) -> None:
    assert problem(line) is None


@pytest.mark.parametrize("span", SPANS)
def test_a_command_within_the_text_can_be_given(span: str) -> None:
    parse(shlex.split(span), whole=False)


@pytest.mark.parametrize(
    "line",
    [
        "x2i drawing demo/bundle",
        "x2i run demo/bundle --colour red",
        "x2i run --steps many demo/bundle",
        "x2i inspect",
        "make everything",
        "pip install '.[wings]'",
        "python -m x2i.kernels.wings",
    ],
)
def test_a_command_that_cannot_be_given_is_seen(line: str) -> None:
    assert problem(line) is not None


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "python"], ids=lambda b: f"{b.page.name}:{b.line}"
)
def test_python_parses(block: Block) -> None:
    """A signature alone, as the API page shows it, is a function without its body."""
    signature = block.text.startswith("def ") and not block.text.rstrip().endswith("...")
    ast.parse(block.text.rstrip() + (": ..." if signature else ""))


@pytest.fixture
def folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    embedded_bundle: Path,
    elite_bundle: Path,
    fastcomposer_bundle: Path,
) -> Path:
    """What `make demo` leaves, from the tests' own bundles; the pictures of the docs; a reader starts here."""
    (tmp_path / "demo").mkdir()
    bundles = {"": embedded_bundle, "-elite": elite_bundle, "-fastcomposer": fastcomposer_bundle}
    bundles |= {"-t5": t5_bundle()}
    bundles |= {f"-{system}": whole_embedded(system) for system in ("vq-diffusion", "ddcap")}
    for name, bundle in bundles.items():
        (tmp_path / "demo" / f"bundle{name}").symlink_to(bundle)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_marked_blocks_of_a_page_work_in_their_order(page: Path, folder: Path) -> None:
    """Of shell blocks the commands of x2i; `make` and `pip` have been run when the tests are."""
    known: dict[str, object] = {}
    for block in (block for block in blocks(page) if block.run):
        if block.language == "python":
            exec(compile(block.text, f"{page.name}:{block.line}", "exec"), known)
            continue
        for line in block.commands():
            words = shlex.split(line, comments=True)
            if words[:1] == ["x2i"]:
                result = CliRunner().invoke(main, words[1:])
                assert result.exit_code == 0, f"{page.name}:{block.line}: {line}\n{result.output}{result.exception!r}"


def test_the_first_page_is_run() -> None:
    assert PAGES[0] in RUN


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    assert not dead_links(NAMES[name])


def dead_links(page: Path) -> list[str]:
    """Relative links whose file, or whose heading, is not there."""
    dead = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            dead.append(link)
    return dead


def test_dead_links_and_long_lines_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One & two\n[a](#one--two) [b](#two) [c](page.md) [d](other.md)\n" + "long " * 30 + "\n", "utf-8")
    assert dead_links(page) == ["#two", "other.md"] and long_lines(page) == [3]


@pytest.mark.parametrize("name", NAMES)
def test_lines_of_prose_are_short(name: str) -> None:
    assert not long_lines(NAMES[name])
