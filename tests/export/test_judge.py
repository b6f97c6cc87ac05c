"""The gate asks any installed judge, and one that is not installed is refused before any work."""

import shutil
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from x2i.export.errors import GateError, PlanError
from x2i.export.gate_cases import COMPARED, HELD_OUT, JUDGED, SEEDS, calibration_runs, compared_runs
from x2i.export.judge import find_judge, judge_problems
from x2i.export.lower.lowered_bundle import lower
from x2i.export.lower.lowering import Lowering
from x2i.export.tune.candidates import Tuning
from x2i.export.tune.tune import tune
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.cli import main

from tests.processes import run

NOT_INSTALLED = (
    "--judge emoji: expected an installed judge (none is), got 'emoji'; the emoji judge comes with the repository: "
    "pip install -e ./emoji in a clone"
)
JUDGE_SOURCE = '''
from x2i.export.errors import PlanError
from x2i.runtime.gate.record import Category, Judged


class Judge:
    """Two prompts, and an accuracy that falls by `lost` from the reference to what is scored."""

    lost, drawn = 0.0, []

    def runs(self, manifest):
        if manifest.system != "gluegen-text":
            raise PlanError("judge: the plain judge knows gluegen-text alone")
        return [{"prompt": f"a house, {number}", "language": "French", "seed": number, "steps": 2} for number in (3, 4)]

    def against(self, manifest, reference):
        self._draw("reference", manifest, reference)
        def score(draw):
            self._draw("scored", manifest, draw)
            return Judged("plain", (Category("houses", 2, 1.0, 1.0 - self.lost, 0.5, 0.5),))
        return score

    def _draw(self, who, manifest, draw):
        for options in self.runs(manifest):
            self.drawn.append((who, options["seed"], draw(**options).images[0].size))
'''


@pytest.fixture
def plain_judge(tmp_path, monkeypatch):
    """A judge of another distribution, installed as pip would: its module, and a .dist-info that names it."""
    home = tmp_path / "site"
    info = home / "plain_judge-1.0.dist-info"
    info.mkdir(parents=True)
    (home / "plain_judge.py").write_text(JUDGE_SOURCE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plain-judge\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[x2i.judges]\nplain = plain_judge:Judge\nbroken = plain_judge_without:Judge\n"
    )
    monkeypatch.syspath_prepend(home)
    yield type(find_judge("plain"))
    sys.modules.pop("plain_judge")


@pytest.fixture
def no_judge(monkeypatch):
    """As where the wheel alone is installed."""
    monkeypatch.setattr("x2i.export.judge.entry_points", lambda group: ())


@pytest.mark.parametrize(
    "command",
    [("lower", "bundle", "out", "--precision", "fp16"), ("tune", "bundle")],
    ids=lambda command: command[0],
)
def test_a_judge_that_is_not_installed_is_refused_in_one_line(command, no_judge):
    """The bundle is not even opened: there is none."""
    result = CliRunner().invoke(main, [*command, "--judge", "emoji"])
    assert result.exit_code == 2
    assert result.stderr == f"x2i: error: {NOT_INSTALLED}\n"


def test_export_refuses_it_with_everything_else_that_is_wrong(no_judge, tmp_path):
    arguments = ("export", "sd", str(tmp_path / "out"), "--precision", "fp16", "--judge", "emoji")
    result = CliRunner().invoke(main, arguments)
    lines = [line.removeprefix("x2i: error: ") for line in result.stderr.splitlines()]
    assert result.exit_code == 2 and lines[0].startswith("--base: expected") and lines[1:] == [NOT_INSTALLED]
    assert not list(tmp_path.iterdir())


def test_the_wheel_says_what_its_judge_needs(clean_venv, tmp_path):
    """The real thing: the wheel, with no judge beside it."""
    code = "from x2i.export.judge import find_judge; find_judge('emoji')"
    process = run(clean_venv / "python", "-c", code, cwd=tmp_path, code=1)
    assert process.stderr.splitlines()[-1] == f"x2i.export.errors.PlanError: {NOT_INSTALLED}"


def test_the_known_judges_are_listed(plain_judge):
    with pytest.raises(PlanError) as refused:
        find_judge("plane")
    (line,) = refused.value.problems
    installed = "broken, emoji, plain"
    assert line == (
        f"--judge plane: expected an installed judge (one of {installed}), got 'plane'; choose another, or leave it out"
    )
    assert judge_problems("plane") == [line] and judge_problems("plain") == judge_problems(None) == []


def test_a_judge_whose_package_is_missing_says_which(plain_judge):
    line = "--judge broken: needs plain_judge_without, which is not installed; install it first"
    assert judge_problems("broken") == [line]


def test_lowering_asks_the_judge(plain_judge, tiny_bundle, tmp_path):
    lower(tiny_bundle, tmp_path / "half", Lowering({"": "fp16"}, judge="plain"))
    gate = open_bundle(tmp_path / "half").manifest.gate
    assert gate.judged.judge == "plain" and gate.judged.drawings == 2 and gate.accepted == ()
    assert {case.prompt for case in gate.cases} == {"a house, 3", "a house, 4"}
    assert {(case.options["seed"], case.options["steps"]) for case in gate.cases} == {(3, 2), (4, 2)}
    drawn = [(who, seed) for who, seed, _ in plain_judge.drawn]
    assert drawn == [("reference", 3), ("reference", 4), ("scored", 3), ("scored", 4)]


def test_a_judge_that_is_not_content_stops_the_bundle(plain_judge, tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(plain_judge, "lost", 0.5)
    with pytest.raises(GateError, match=r"judge: 50\.0 points of accuracy are lost over 2 drawings"):
        lower(tiny_bundle, tmp_path / "half", Lowering({"": "fp16"}, judge="plain"))
    assert not (tmp_path / "half").exists()


def test_tuning_asks_the_judge(plain_judge, tiny_bundle, tmp_path, monkeypatch):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    options = {"steps": 4, "quality": 1.0, "backend": "cpu", "runs": 1, "ways": ("steps",), "judge": "plain"}
    found = tune(folder, Tuning(**options, accept=True))
    assert found.tuned.judged.judge == "plain" and len(found.tuned.measured) == 2
    monkeypatch.setattr(plain_judge, "lost", 0.5)
    with pytest.raises(GateError, match=r"no preset keeps within"):
        tune(folder, Tuning(**options))


def test_a_bundle_that_the_judge_does_not_know_is_refused_before_any_work(plain_judge, elite_bundle, tmp_path):
    reports = []
    with pytest.raises(PlanError, match="judge: the plain judge knows gluegen-text alone"):
        lower(elite_bundle, tmp_path / "half", Lowering({"": "fp16"}, judge="plain"), reports.append)
    assert not reports and not (tmp_path / "half").exists()
    with pytest.raises(PlanError, match="judge: the plain judge knows gluegen-text alone"):
        tune(elite_bundle, Tuning(judge="plain"), reports.append)
    assert not reports


class Counting:
    """A judge of `number` prompts."""

    def __init__(self, number):
        self._number = number

    def runs(self, manifest):
        return [{"prompt": str(number), "seed": number} for number in range(self._number)]


@pytest.mark.parametrize("number", [2, 5, 64])
def test_few_of_a_judges_runs_are_calibrated_on_and_compared(number, tiny_bundle):
    manifest = open_bundle(tiny_bundle).manifest
    ranges, held_out = calibration_runs(manifest, 3, None, Counting(number))
    assert 1 <= len(ranges) <= max(number, JUDGED) and 1 <= len(held_out) <= HELD_OUT
    assert all(run["seed"] >= SEEDS and run["steps"] == 3 for run in (*ranges, *held_out))
    compared = compared_runs(manifest, None, None, Counting(number))
    assert len(compared) == COMPARED and compared[0]["seed"] == 0 and compared[-1]["seed"] == number - 1
    assert all("steps" not in run and run["noise"].dtype == np.float32 for run in compared)


def test_without_a_judge_tuning_needs_no_torch(tmp_path):
    """On a device, onnx and onnx-ir beside the runtime are enough."""
    absent = ("torch", "transformers", "diffusers", "onnxscript", "safetensors")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent!r})); import x2i.export.tune.tune"
    run(sys.executable, "-P", "-c", code, cwd=tmp_path)
