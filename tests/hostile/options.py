"""Every option and argument of every command with values that nobody means."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.cli import main
from x2i.runtime.commands.options import Size

from .calls import system_of
from .case import Case
from .held import Command, refused_or_drawn
from .room import Room
from .systems import QUICK, SYSTEMS, drawing
from .values import some

WHOLE = (
    "",
    "a",
    "-1",
    "0",
    "1.5",
    "1e3",
    "2147483648",
    "9" * 30,
    "9" * 5000,
    "0x10",
    " 1 ",
    "１",
    "NaN",
    "None",
    "[1]",
)
REAL = (
    "",
    "a",
    "-1",
    "0",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "1e-400",
    "1e308",
    "9" * 5000,
    "1,5",
    "１.５",
    "0x1p3",
    "1_0",
)
SIZES = (
    "",
    "0x0",
    "1x1",
    "7x7",
    "64",
    "64x",
    "x64",
    "64X64",
    "-8x8",
    "64x64x64",
    "65536x65536",
    "9999999999x8",
    "٦٤x٦٤",
)
SIZES += ("8x1048576", f"{'9' * 5000}x8", "NaNxNaN", " 64x64", "64.0x64", "64x64\n")
WORDS = (
    "",
    " ",
    "\n\n",
    "x" * 100_000,
    "\x1b[31mred\x07",
    "\udcff",
    "é" * 5000,
    "../../etc/passwd",
    "{language}",
    "%s%n",
    "~",
)
WORDS += (
    "-",
    "--",
    "=",
    ":",
    "@",
    "*",
    "\u202eabc",
    "👩‍👩‍👧" * 50,
    "a=b=c",
    "cpu:",
    "openvino:NPU",
    "cuda:9",
    "0",
    "1e9GB",
    "-1GB",
    "NaN",
)
PLACES = {
    "nothing there": lambda work: work / "nothing.npy",
    "an empty name": lambda work: "",
    "the working folder": lambda work: ".",
    "the root": lambda work: "/",
    "a folder": lambda work: _made(work / "folder", lambda path: path.mkdir()),
    "a folder with a suffix": lambda work: _made(work / "folder.png", lambda path: path.mkdir()),
    "a pipe": lambda work: _made(work / "pipe.png", os.mkfifo),
    "a pipe of arrays": lambda work: _made(work / "pipe.npy", os.mkfifo),
    "zeros without end": lambda work: _made(work / "zero.npy", partial(_device, minor=5)),
    "zeros behind a link": lambda work: _made(
        work / "link.npy", lambda path: path.symlink_to(_made(work / "zero", partial(_device, minor=5)))
    ),
    "a full device": lambda work: _made(work / "full.png", partial(_device, minor=7)),
    "no device": lambda work: _made(work / "null.json", partial(_device, minor=3)),
    "a link to nothing": lambda work: _made(
        work / "dangling.png", lambda path: path.symlink_to(work / "no" / "such.png")
    ),
    "a link to itself": lambda work: _made(work / "loop.png", lambda path: path.symlink_to(path)),
    "an empty file": lambda work: _made(work / "empty.png", Path.touch),
    "text": lambda work: _made(work / "text.json", lambda path: path.write_text("not what you think\n")),
    "bytes": lambda work: _made(work / "bytes.npy", lambda path: path.write_bytes(bytes(range(256)) * 40)),
    "nested brackets": lambda work: _made(work / "deep.json", lambda path: path.write_text("[" * 100_000)),
    "a long name": lambda work: str(work / ("n" * 300 + ".png")),
    "a long path": lambda work: str(work / "/".join(["d" * 200] * 30) / "a.png"),
    "bytes that are no text": lambda work: str(work / "\udcff\udcfe.png"),
    "escapes": lambda work: str(work / "a\x1b[2J\r\n\u202e.png"),
    "below a file": lambda work: _made(work / "file", Path.touch) / "a.png",
    "another suffix": lambda work: work / "a.exe",
    "what no one may write": lambda work: "/proc/version",
}


def _device(path: Path, minor: int) -> None:
    """A device like /dev/zero, of our own: root could replace the system's."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
    except PermissionError:
        path.symlink_to({3: "/dev/null", 5: "/dev/zero", 7: "/dev/full"}[minor])


def _made(path: Path, make: Callable[[Path], object]) -> Path:
    make(path)
    return path


SYSTEM_OF = {"text_bundle": "gluegen-sound"}
"""The bundle that takes an option which no plan names."""
OWN = {
    "profile": {
        "backend",
        "threads",
        "runs",
        "warm_up",
        "cold",
        "what",
        "json_file",
        "trace_file",
        "html_file",
        "text_bundle",
    }
}
"""Of a command that shares the options of a run: those beside them."""


def option_cases(systems: Sequence[str]) -> Iterator[Case]:
    """Every parameter of every command, and those of a run with every system that walks tokens."""
    context = click.Context(main)
    commands = {name: main.get_command(context, name) for name in main.list_commands(context)}
    number = 0
    for name, command in commands.items():
        if name not in BASES:
            continue
        for parameter in command.params:
            if getattr(parameter, "is_flag", False) or (name in OWN and parameter.name not in OWN[name]):
                continue
            for how, value in _values(parameter, number):
                number += 1
                yield Case(
                    "option", f"{name} {parameter.opts[0]}: {how}", _attempt(BASES[name], parameter, value, name)
                )
    for system in (system for system in systems if SYSTEMS[system].walks_tokens):
        for parameter in _own_parameters(commands["run"], system):
            for how, value in list(_values(parameter, number))[number % TOKENS_EVERY :: TOKENS_EVERY]:
                base = partial(_run_of, system)
                yield Case("option", f"{system} {parameter.opts[0]}: {how}", _attempt(base, parameter, value, "run"))
            number += 1


def _own_parameters(run: click.Command, system: str) -> list[click.Parameter]:
    """Those of a run that say something to a system."""
    plan = open_bundle(SYSTEMS[system].source(), check_files=False).manifest.plan
    taken = plan.options() | EVERYWHERE
    return [each for each in run.params if each.name in taken and not getattr(each, "is_flag", False)]


def _values(parameter: click.Parameter, number: int) -> Iterator[tuple[str, Any]]:
    kind = parameter.type
    if isinstance(kind, click.Path):
        yield from PLACES.items()
        return
    if isinstance(kind, Size):
        values = [*SIZES, *(f"{value}x{value}" for value in some("numbers", 3, number))]
    elif isinstance(kind, click.types.IntParamType):
        values = [*WHOLE, *map(str, some("numbers", 4, number))]
    elif isinstance(kind, click.types.FloatParamType):
        values = [*REAL, *map(str, some("numbers", 4, number))]
    else:
        values = [*WORDS, *(text.replace("\0", "") for text in some("texts", 5, number))]
    for value in values:
        yield f"{value!r:.60}", os.fsdecode(value.encode("utf-8", "surrogatepass"))


def _attempt(
    make: Callable[[Room, str], Command], parameter: click.Parameter, value: Any, name: str
) -> Callable[[Room], str | None]:
    def attempt(room: Room) -> str | None:
        words = str(value(room.work)) if callable(value) else value
        base = make(room, parameter.name)
        arguments = list(base.arguments)
        may_write = list(base.may_write)
        if isinstance(parameter, click.Argument):
            arguments[POSITION.get((name, parameter.name), 1)] = words
        else:
            arguments += [parameter.opts[0], words]
        if callable(value) and (parameter.name in WRITES):
            may_write += _may_write(Path(words))
        # Words of the caller that begin with dashes are words all the same.
        return refused_or_drawn(
            room, Command(arguments, base.outputs if parameter.name not in WRITES else (), may_write)
        )

    return attempt


TOKENS_EVERY = 2
"""Of the values of an option that a walk through tokens takes so many make one case."""
EVERYWHERE = {"steps", "guidance", "noise", "size", "count", "seed", "sampler", "negative", "out", "save_tokens"}
WRITES = {"out", "save_latents", "save_tokens", "trace_file", "html_file", "json_file"}
POSITION = {
    ("run", "prompt"): 2,
    ("export", "out"): 2,
    ("lower", "out"): 2,
    ("from-optimum", "out"): 2,
    ("to-optimum", "out"): 2,
}


def _may_write(path: Path) -> list[str]:
    """A new file of that name, an old one, or what a link names; a pipe, a folder or a device stays what it is."""
    try:
        target = path.resolve()
        return [str(target)] if target.is_file() or not os.path.lexists(target) else []
    except (OSError, ValueError, RuntimeError):
        return []


def _run(room: Room, option: str) -> Command:
    without_tokens = [name for name in SYSTEMS if not SYSTEMS[name].walks_tokens]
    return _run_of(SYSTEM_OF.get(option) or system_of(option, without_tokens), room, option)


def _run_of(system: str, room: Room, option: str) -> Command:
    # Whether a second value is one too many is no question of the value.
    tokens = SYSTEMS[system].walks_tokens
    command = drawing(room, system, without=option if tokens else "")
    out, state = command.outputs
    several = str(out.with_name(f"{out.stem}-*{out.suffix}"))
    return Command(
        command.arguments,
        command.outputs if option not in ("count", "noise") else (),
        [several, str(out), str(state)],
    )


def _build(room: Room, option: str) -> Command:
    bundle = room.bundle("gluegen-text")
    return Command(["build", str(bundle), "--for", "cpu", "--graph", "projection"], (), [f"{bundle}/engines*"])


def _tune(room: Room, option: str) -> Command:
    bundle = room.bundle("gluegen-text")
    few = ["--steps", "2", "--size", "64x64", "--runs", "1", "--backend", "cpu"]
    return Command(["tune", str(bundle), *few], (), [f"{bundle}*"])


def _profile(room: Room, option: str) -> Command:
    few = ["--runs", "1", "--warm-up", "0", "--cold", "1", "--no-operators", *QUICK, "--backend", "cpu"]
    return Command(["profile", str(room.bundle("gluegen-text")), "--language", "French", "--prompt", "red", *few])


def _plain(*words: str) -> Callable[[Room, str], Command]:
    """A command on the text bundle; `BUNDLE` and `WORK` in its words are folders."""

    def base(room: Room, option: str) -> Command:
        places = {"BUNDLE": str(room.bundle("gluegen-text")), "WORK": str(room.work)}
        named = [places["BUNDLE"] if word == "BUNDLE" else word.replace("WORK", places["WORK"]) for word in words]
        return Command(named, (), [f"{room.work}/made*"])

    return base


BASES: dict[str, Callable[[Room, str], Command]] = {
    "run": _run,
    "build": _build,
    "tune": _tune,
    "profile": _profile,
    "inspect": _plain("inspect", "BUNDLE"),
    "verify": _plain("verify", "BUNDLE", "--quick"),
    "share": _plain("share", "BUNDLE"),
    "estimate": _plain("estimate", "BUNDLE", "--device", "orin-nano-8gb"),
    # Stopped by a file that is not there, so that no input costs a whole export.
    "export": _plain("export", "sd", "WORK/made", "--base", "WORK/nothing.ckpt"),
    "lower": _plain("lower", "BUNDLE", "WORK/made", "--precision", "fp16", "--calibration", "WORK/nothing.jsonl"),
    "from-optimum": _plain("from-optimum", "WORK/nothing", "WORK/made"),
    "to-optimum": _plain("to-optimum", "BUNDLE", "WORK/made"),
    # Stopped so too: nothing else ends a server.
    "serve": _plain("serve", "WORK/nothing", "--port", "0"),
}
"""A good command line of each command, to which the bad value is added."""
