"""Real processes in surroundings that nobody wants."""

import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from .case import Case
from .held import Command, guarded, message_problem, output_problem
from .room import Room
from .systems import QUICK, drawing

X2I = str(Path(sys.executable).parent / "x2i")
SECONDS = 30
SYSTEM = "gluegen-text"


@dataclass(slots=True)
class Surroundings:
    """What a process finds: variables changed (None: not there), its working folder, streams, and what it does first.

    `may_write` are patterns of what it may leave, `codes` the exit codes that are right, `inside` words before the
    command. `told` says that someone hears what it says.
    """

    variables: dict[str, str | None] = field(default_factory=dict)
    folder: Path | None = None
    stdout: int | IO[Any] | None = subprocess.PIPE
    before: Callable[[], object] = lambda: None
    may_write: Sequence[str] = ()
    codes: Sequence[int] = (0, 2)
    inside: Sequence[str] = ()
    told: bool = True


def environment_cases() -> Iterator[Case]:
    """Every surrounding around the commands that meet it."""
    for name, (make, commands) in SURROUNDINGS.items():
        for command in commands:
            yield Case("environment", f"{command}: {name}", partial(_attempt, make, command))
    yield from disk_cases()


def _attempt(make: Callable[[Room], Surroundings], command: str, room: Room) -> str | None:
    words = COMMANDS[command](room)
    found = make(room)
    try:
        return guarded(
            room, [*map(str, words.outputs), *words.may_write, *found.may_write], lambda: _run(room, words, found)
        )
    finally:
        for path in room.work.rglob("*"):
            if not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(room.cache)
        room.cache.mkdir()


def _run(room: Room, words: Command, found: Surroundings) -> str | None:
    variables = {name: value for name, value in (os.environ | found.variables).items() if value is not None}
    process = subprocess.Popen(
        [*found.inside, X2I, *words.arguments],
        cwd=found.folder or room.work,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=found.stdout,
        stderr=subprocess.PIPE,
        preexec_fn=found.before,
    )
    try:
        _, complaints = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"hang: nothing after {SECONDS} s"
    said = complaints.decode("utf-8", "replace")
    if process.returncode not in found.codes:
        return f"exit code {process.returncode}: {said[-300:]!r}"
    if (room.work / "ran").exists():
        return "ran code of the working folder"
    if problem := message_problem(said, refused=process.returncode == 2 and found.told):
        return problem
    written = [path for path in words.outputs if path.exists()]
    if process.returncode == 0:
        return next(filter(None, map(output_problem, words.outputs)), None)
    failed = process.returncode == 2 and found.told and found.stdout == subprocess.PIPE
    return f"refused, and wrote {written[0].name}" if written and failed else None


def _run_command(room: Room) -> Command:
    return drawing(room, SYSTEM)


def _two(room: Room) -> Command:
    words = drawing(room, SYSTEM, "--count", "2")
    return Command(words.arguments, [room.work / "out-1.png", room.work / "out-2.png", room.work / "latents.npy"])


def _on_bundle(*words: str, writes: str = "") -> Callable[[Room], Command]:
    def command(room: Room) -> Command:
        bundle = str(room.bundle(SYSTEM))
        named = [word.replace("BUNDLE", bundle).replace("WORK", str(room.work)) for word in words]
        return Command(named, may_write=[writes.replace("BUNDLE", bundle)] if writes else [])

    return command


COMMANDS: dict[str, Callable[[Room], Command]] = {
    "run": _run_command,
    "run two": _two,
    "inspect": _on_bundle("inspect", "BUNDLE"),
    "doctor": _on_bundle("doctor"),
    "verify": _on_bundle("verify", "BUNDLE", "--backend", "cpu"),
    "build": _on_bundle("build", "BUNDLE", "--for", "cpu", "--graph", "projection", writes="BUNDLE/engines*"),
    "profile": _on_bundle(
        *("profile", "BUNDLE", "--prompt", "x", "--language", "French", "--backend", "cpu"),
        *("--runs", "1", "--warm-up", "0", "--cold", "1", "--no-operators", *QUICK),
    ),
    "estimate": _on_bundle("estimate", "BUNDLE", "--device", "orin-nano-8gb", "--json"),
}
ALL = tuple(COMMANDS)
DRAW, SEE = ("run",), ("run", "doctor")


def _variables(**changes: str | None) -> Callable[[Room], Surroundings]:
    return lambda room: Surroundings(changes)


def _limited(kind: int, most: int, **rest: Any) -> Callable[[Room], Surroundings]:
    return lambda room: Surroundings(before=partial(resource.setrlimit, kind, (most, most)), **rest)


def _cache_of(make: Callable[[Path], object], name: str) -> Callable[[Room], Surroundings]:
    """The user's cache with one of our files as `make` leaves it."""

    def surroundings(room: Room) -> Surroundings:
        path = room.cache / "x2i" / name if name else room.cache / "x2i"
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
        return Surroundings()

    return surroundings


def _device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        path.symlink_to("/dev/zero")


CACHES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device": _device,
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path),
    "empty": Path.touch,
    "bytes": lambda path: path.write_bytes(bytes(range(256)) * 100),
    "nested": lambda path: path.write_text("[" * 100_000 + "]" * 100_000),
    "nested objects": lambda path: path.write_text('{"a":' * 100_000),
    "a list": lambda path: path.write_text("[1, 2]"),
    "numbers": lambda path: path.write_text('{"/a": 1, "/b": [[1, 2, 3, 4, 5], 7], "/c": [[1e400, NaN], "x"]}'),
    "surrogates": lambda path: path.write_text('{"\\ud800": [[1, 2, 3, 4, 5], "\\ud800"]}'),
    "huge numbers": lambda path: path.write_text(
        '{"builds": [{"library": "onnxruntime", "graph": "projection", '
        '"precision": "fp32", "graph_bytes": 1e400, "seconds": NaN, "peak_bytes": ' + "9" * 5000 + "}]}"
    ),
    "negative numbers": lambda path: path.write_text(
        '{"builds": [{"library": "onnxruntime", "graph": "projection", '
        '"precision": "fp32", "graph_bytes": -1, "seconds": -1e308, "peak_bytes": -5}]}'
    ),
    "of 300 MB": lambda path: path.write_bytes(b" " * 300_000_000),
}


def _own_modules(room: Room) -> Surroundings:
    """A working folder that holds modules of the names that are imported."""
    for name in ("json", "numpy", "click", "onnxruntime", "tokenizers", "PIL", "sitecustomize", "x2i", "logging", "os"):
        (room.work / f"{name}.py").write_text("open('ran', 'w')\nraise SystemExit(3)\n")
    (room.work / "usercustomize.py").write_text("open('ran', 'w')\n")
    return Surroundings({"PYTHONSAFEPATH": None})


def _own_libraries(room: Room) -> Surroundings:
    for name in ("libonnxruntime.so", "onnxruntime.dll", "libgomp.so.1", "pyvenv.cfg", "x2i.pth"):
        (room.work / name).write_bytes(b"import os; os.mkdir('ran')\n")
    return Surroundings()


def _no_folder(room: Room) -> Surroundings:
    folder = room.work / "gone"
    folder.mkdir()
    return Surroundings(before=partial(_leave, folder), may_write=[str(folder)])


def _leave(folder: Path) -> None:
    os.chdir(folder)
    folder.rmdir()


def _without(*streams: int) -> Callable[[Room], Surroundings]:
    def surroundings(room: Room) -> Surroundings:
        return Surroundings(before=lambda: [os.close(stream) for stream in streams], told=2 not in streams)

    return surroundings


def _stdout_to(path: str) -> Callable[[Room], Surroundings]:
    def surroundings(room: Room) -> Surroundings:
        with open(path, "wb") as stream:
            return Surroundings(stdout=os.dup(stream.fileno()), may_write=[f"{room.work}/*"])

    return surroundings


def _nobody_listens(room: Room) -> Surroundings:
    reading, writing = os.pipe()
    os.close(reading)
    # As every program on the other side of `| head`.
    return Surroundings(stdout=writing, codes=(0, 1, 2, -signal.SIGPIPE), may_write=[f"{room.work}/*"])


def _locked(name: str, mode: int) -> Callable[[Room], Surroundings]:
    """A folder or file of the room that its owner has closed, for root too."""

    def surroundings(room: Room) -> Surroundings:
        path = {"work": room.work, "tmp": room.tmp, "bundle": room.bundle(SYSTEM), "cache": room.cache}[name]
        path.chmod(mode)
        return Surroundings(inside=WITHOUT_RIGHTS, may_write=[f"{room.work}/*"] if name != "work" else [])

    return surroundings


WITHOUT_RIGHTS = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
    if os.geteuid() == 0
    else ()
)
SURROUNDINGS: dict[str, tuple[Callable[[Room], Surroundings], Sequence[str]]] = {
    "no home": (_variables(HOME=None, XDG_CACHE_HOME=None), ALL),
    "a home that is not there": (_variables(HOME="/nonexistent", XDG_CACHE_HOME=None), ALL),
    "a home that is a device": (_variables(HOME="/dev/null", XDG_CACHE_HOME=None), SEE),
    "an empty home": (_variables(HOME="", XDG_CACHE_HOME=None), SEE),
    "a home of odd letters": (_variables(HOME="/tmp/\x1b[31m\udcff", XDG_CACHE_HOME=None), SEE),
    "a relative cache": (_variables(XDG_CACHE_HOME="cache"), SEE),
    "an empty cache variable": (_variables(XDG_CACHE_HOME=""), SEE),
    "a cache of a long name": (_variables(XDG_CACHE_HOME="/tmp/" + "c" * 300), SEE),
    **{f"a cache that is {how}": (_cache_of(make, ""), ("run", "build", "doctor")) for how, make in CACHES.items()},
    **{f"digests {how}": (_cache_of(make, "digests.json"), ("run", "verify")) for how, make in CACHES.items()},
    **{f"past builds {how}": (_cache_of(make, "builds.json"), ("build",)) for how, make in CACHES.items()},
    "no temporary folder": (_variables(TMPDIR="/nonexistent"), ALL),
    "a temporary folder that is a file": (_variables(TMPDIR="/etc/passwd"), ALL),
    "LANG=C": (_variables(LANG="C", LC_ALL="C"), ALL),
    "another encoding": (_variables(LC_ALL="de_DE.ISO-8859-1", PYTHONUTF8="0"), ALL),
    "ASCII alone": (_variables(PYTHONIOENCODING="ascii", PYTHONUTF8="0"), ALL),
    "an unknown encoding": (_variables(LC_ALL="xx_XX.nothing"), SEE),
    "an unknown zone": (_variables(TZ="Nowhere/Never"), ("build",)),
    "a terminal of one column": (_variables(COLUMNS="1", LINES="1", TERM="nothing"), ALL),
    "a terminal of no number": (_variables(COLUMNS="many", TERM=""), ALL),
    "threads of no number": (_variables(OMP_NUM_THREADS="many", MKL_NUM_THREADS="-1"), ALL),
    "a billion threads": (_variables(OMP_NUM_THREADS="1000000000"), SEE),
    "warnings as errors": (_variables(PYTHONWARNINGS="error::UserWarning"), ALL),
    "optimized": (_variables(PYTHONOPTIMIZE="2"), ALL),
    "a backend of no name": (_variables(X2I_BACKEND="nothing"), ("run", "verify")),
    "a backend of odd letters": (_variables(X2I_BACKEND="\x1b[31m\n\udcff"), ("run", "verify")),
    "a backend of a long name": (_variables(X2I_BACKEND="b" * 50_000), ("run", "verify")),
    "a backend's device of no name": (_variables(X2I_BACKEND="openvino:\x1b[31m"), ("run",)),
    "other modules in the working folder": (_own_modules, ALL),
    "other libraries in the working folder": (_own_libraries, ALL),
    "no working folder": (_no_folder, ALL),
    "no stdout": (_without(1), ALL),
    "no stderr": (_without(2), ALL),
    "no streams": (_without(0, 1, 2), ("run", "inspect", "build")),
    "a full disk behind stdout": (_stdout_to("/dev/full"), ALL),
    "nobody behind stdout": (_nobody_listens, ALL),
    "a disk of no bytes": (_limited(resource.RLIMIT_FSIZE, 0), ("run", "run two", "build", "verify")),
    "a disk of 1000 bytes": (_limited(resource.RLIMIT_FSIZE, 1000), ("run", "run two", "build", "profile")),
    "a disk of 20,000 bytes": (_limited(resource.RLIMIT_FSIZE, 20_000), ("run", "run two", "build")),
    "10 open files": (_limited(resource.RLIMIT_NOFILE, 10), ALL),
    "20 open files": (_limited(resource.RLIMIT_NOFILE, 20), ALL),
    "a little memory": (_limited(resource.RLIMIT_AS, 400 << 20), ("run", "inspect", "doctor")),
    "less memory": (_limited(resource.RLIMIT_AS, 700 << 20), ("run", "inspect", "doctor")),
    "a small stack": (_limited(resource.RLIMIT_STACK, 256 << 10), ("run", "inspect")),
    "no time": (_limited(resource.RLIMIT_CPU, 60), ("run",)),
    "a umask that takes all": (lambda room: Surroundings(before=partial(os.umask, 0o777)), ("run", "build")),
    "a closed working folder": (_locked("work", 0o500), ("run",)),
    "a closed temporary folder": (_locked("tmp", 0o500), ALL),
    "a closed bundle": (_locked("bundle", 0o500), ("run", "verify", "build")),
    "a bundle without rights": (_locked("bundle", 0o000), ("run", "verify", "build", "inspect")),
    "a closed cache": (_locked("cache", 0o500), ("run", "build")),
    "a cache without rights": (_locked("cache", 0o000), ("run", "build")),
}


def disk_cases() -> Iterator[Case]:
    """Outputs on a disk that fills while they are written; root alone may mount one."""
    for size in ("4k", "8k", "16k", "24k", "32k", "64k") if os.geteuid() == 0 else ():
        for command in ("run", "run two"):
            yield Case("environment", f"{command}: a disk of {size}", partial(_on_small_disk, size, command))


def _on_small_disk(size: str, command: str, room: Room) -> str | None:
    words = COMMANDS[command](room)
    small = room.work / "small"
    small.mkdir()
    options = f"size={size},nr_inodes=6"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(small)], check=True)
    moved = [word.replace(f"{room.work}/", f"{small}/") for word in words.arguments]
    outputs = [small / path.name for path in words.outputs]
    try:
        return guarded(room, list(map(str, outputs)), lambda: _run(room, Command(moved, outputs), Surroundings()))
    finally:
        subprocess.run(["umount", small], check=True)
