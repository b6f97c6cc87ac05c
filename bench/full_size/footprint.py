"""`python -m full_size.footprint`: what the runtime alone takes: disk, import, and the way to its first picture.

It installs the checkout without extras into an environment of its own, and draws there with the embedded model.
"""

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click
from x2i.emoji.embedded import EMBEDDED, embedded

ROOT = Path(__file__).parents[2]
SOURCES = ("models", "kernels", "export", "runtime", "pyproject.toml", "README.md", "LICENSE")
PROMPT = ("a red apple", "--language", "English")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/footprint"), show_default=True)
@click.option("--extra", default="", help="Install an extra too, such as openvino.")
@click.option("--times", type=click.IntRange(min=1), default=5, show_default=True, help="Fresh processes of each kind.")
def footprint(out: Path, extra: str, times: int) -> None:
    """Print the installed size, the import time and the cold start of the runtime in a fresh environment."""
    plan_of, _ = EMBEDDED["gluegen-text"]
    plain = embedded(plan_of, out / "bundle", lambda line: None)
    python = _installed(out.absolute() / f"environment{extra and '-' + extra}", extra)
    click.echo("| what | measured |\n|---|---|")
    for name, size in _sizes(python):
        click.echo(f"| installed: {name} | {size / 1e6:.1f} MB |")
    nothing = _seconds(times, python, "-P", "-c", "pass")
    imported = _seconds(times, python, "-P", "-c", "import x2i.runtime")
    click.echo(f"| import x2i.runtime, the interpreter left out | {imported - nothing:.2f} s |")
    for backend in ("openvino", "cpu") if extra == "openvino" else ("cpu",):
        built = out / f"bundle-{backend}"
        shutil.rmtree(built, ignore_errors=True)
        shutil.copytree(plain, built)
        _run(python, *_x2i("build", built, "--for", backend))
        for when, bundle in (("", plain), (" after x2i build", built)):
            drawn = ("--backend", backend, "--out", out / "a.png")
            seconds = _seconds(times, python, *_x2i("run", bundle, *PROMPT, *drawn))
            click.echo(f"| process start to picture, emoji bundle, {backend}{when} | {seconds:.2f} s |")


def _installed(folder: Path, extra: str) -> Path:
    """The interpreter of a fresh environment with the runtime's base install."""
    shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-P", "-m", "venv", "--without-pip", folder)
    python, tree = folder / "bin" / "python", folder / "tree"
    # A copy: what earlier builds left beside the sources would be installed as well.
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    what = f"{tree}[{extra}]" if extra else str(tree)
    _run(sys.executable, "-P", "-m", "pip", "--python", python, "install", "--quiet", what)
    return python


def _sizes(python: Path) -> list[tuple[str, int]]:
    """Everything, then each of the largest packages."""
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    sizes = {
        path.name: sum(file.lstat().st_size for file in [path, *path.rglob("*")] if file.is_file())
        for path in packages.iterdir()
    }
    largest = sorted(sizes.items(), key=lambda found: -found[1])[:5]
    return [("all", sum(sizes.values())), ("x2i", sizes["x2i"]), *largest]


def _seconds(times: int, *command: object) -> float:
    """The median, after one run that fills the disk's cache."""
    taken = []
    for _ in range(times + 1):
        start = time.perf_counter()
        _run(*command)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def _x2i(*words: object) -> tuple[object, ...]:
    return ("-P", "-c", "from x2i.runtime.cli import main; main()", *words)


def _run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    footprint()
