"""A benchmark of fake peers: turns, what is kept, failures, and what the tables say."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness.bench import Bench
from harness.cases import Case
from harness.contestants import CONTESTANTS
from harness.environments import ROOT, Environments
from harness.folders import Folders

from tests.architecture import missing_docstring, sources, undocumented_names, wrong_sizes
from tests.bench.conftest import Make, everybody, fake


def cells(bench: Bench, case: Case) -> dict[str, list[str]]:
    """The table's rows by name, headers and ratios apart."""
    lines = [line.strip("| ").split(" | ") for line in bench.report(case) if line.startswith("| ")]
    return {line[0]: line for line in reversed(lines)}


def test_speeds_stand_beside_their_errors(made: Make, case: Case) -> None:
    bench = made(fake("near", scale=1.01), fake("blind", blind=True), fake("mine", ours=True))
    bench.measure(case, everybody, True)
    found = cells(bench, case)
    assert found["near"][6] == "1.00%" and float(found["near"][7]) > 30
    assert found["blind"][6] == "not shown" and found["blind"][7] == "inf"
    assert found["mine"][6] == "0.00%"
    printed = "\n".join(bench.report(case))
    assert "| takes so many times as long as | mine |" in printed
    assert printed.count("Fastest") == 2 and " numpy " in printed and "not-there" not in printed
    assert printed.splitlines()[-1].startswith("Other programs kept")


def test_steps_of_a_preset_are_not_alike_and_no_figure(made: Make, case: Case) -> None:
    bench = made(replace(fake("preset", ours=True), alike=False))
    bench.measure(case, everybody, True)
    assert cells(bench, case)["preset"][1] == "" and cells(bench, case)["preset"][2] != ""
    tables = [line for line in bench.report(case) if line.startswith("| takes")]
    assert tables == ["| takes so many times as long as | preset |"]


def test_a_speed_for_another_picture_does_not_count(made: Make, case: Case) -> None:
    bench = made(fake("far", scale=-1), fake("mine", ours=True))
    bench.measure(case, everybody, False)
    printed = list(bench.report(case))
    assert "another picture" in cells(bench, case)["far"][7]
    assert not any(line.startswith("| far") for line in printed[printed.index("A step:") :])


def test_a_second_run_goes_on_where_the_first_stopped(made: Make, case: Case, tmp_path: Path) -> None:
    case = replace(case, rounds=2)
    first = made(fake("one"), fake("two"))
    first.measure(case, lambda who: who.name != "two", True)
    kept = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert len(kept) == 2 * case.rounds
    second = made(fake("one"), fake("two"))
    second.measure(case, everybody, True)
    assert {name: second.answers.answers[name] for name in kept} == kept
    assert len(second.answers.answers) == 3 * case.rounds


def test_what_is_kept_is_measured_anew_when_asked_for(made: Make, case: Case) -> None:
    bench = made()
    bench.measure(case, everybody, False)
    before = dict(bench.answers.answers)
    bench.measure(case, everybody, False, again=True)
    assert bench.answers.answers.keys() == before.keys() and bench.answers.answers != before


def test_a_picture_asked_for_later_is_drawn_later(made: Make, case: Case) -> None:
    bench = made()
    bench.measure(case, everybody, False)
    assert not any("picture" in answer for answer in bench.answers.answers.values())
    bench.measure(case, everybody, True)
    assert all("picture" in answer for answer in bench.answers.answers.values())


def test_a_failing_peer_has_a_row_with_the_reason_and_another_try(made: Make, case: Case) -> None:
    bench = made(fake("broken", fails="no such engine"))
    bench.measure(case, everybody, False)
    assert cells(bench, case)["broken"][1] == "not run: fake: no such engine"
    mended = made(fake("broken"))
    mended.measure(case, everybody, False)
    assert "not run" not in cells(mended, case)["broken"][1]


def test_what_cannot_run_is_said_and_not_tried(made: Make, case: Case) -> None:
    bench = made(replace(fake("fixed"), cannot={"emoji": "other sizes"}))
    bench.measure(case, everybody, False)
    assert cells(bench, case)["fixed"][1] == "not run: other sizes"


def test_a_step_that_is_not_reported_is_a_failure(made: Make, case: Case) -> None:
    bench = made(fake("silent", silent=1))
    bench.measure(case, everybody, False)
    assert "3 steps reported, 4 asked for" in cells(bench, case)["silent"][1]


def test_every_contestant_has_its_script_its_versions_and_its_reference() -> None:
    names = [contestant.name for contestant in CONTESTANTS]
    assert len(names) == len(set(names))
    for contestant in CONTESTANTS:
        assert (ROOT / "bench" / "peers" / f"{contestant.peer}.py").exists()
        assert (ROOT / "bench" / f"{contestant.environment}.txt").exists()
        (reference,) = (other for other in CONTESTANTS if other.name == contestant.reference)
        assert reference.sampler == contestant.sampler


def test_versions_are_exact() -> None:
    for path in (ROOT / "bench").glob("*.txt"):
        lines = path.read_text(encoding="utf-8").split("\n")
        assert all("==" in line for line in lines if line and not line.startswith("-")), path.name


@pytest.mark.parametrize("kind", ["bundle", "bundle-int8"])
def test_full_size_bundles_are_those_that_other_commands_leave(kind: str, made: Make, tmp_path: Path) -> None:
    folders = made().folders
    assert isinstance(folders, Folders)
    assert folders._place("sd15", kind) == tmp_path / "full" / f"sd-sd15{kind.removeprefix('bundle')}"
    assert folders._place("emoji", kind) == tmp_path / "models" / "emoji" / kind


@pytest.mark.parametrize(
    ("model", "preset", "expected"),
    [
        ("emoji", "fast", ["emoji/bundle fast judge"]),
        ("sd15", "thin", ["sd15/bundle thin way"]),
        ("sd15", "fast", ["emoji/bundle fast judge", "sd15/bundle fast like"]),
        ("sd15", "there", []),
    ],
)
def test_presets_that_are_missing_are_tuned_and_full_size_takes_the_embedded_models(
    model: str, preset: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def noting(self: Folders, *words: str | Path) -> None:
        folder = Path(words[words.index("tune") + 1])
        (how,) = {"--judge", "--way", "--like"} & set(words)
        asked.append(f"{folder.parent.name}/{folder.name} {words[words.index('--name') + 1]} {how.strip('-')}")

    there = SimpleNamespace(manifest=SimpleNamespace(plan=SimpleNamespace(presets={"there": None})))
    monkeypatch.setattr("harness.folders.open_bundle", lambda folder, check_files: there)
    monkeypatch.setattr(Folders, "_ours", noting)
    monkeypatch.setattr(Folders, "_place", lambda self, model, kind: tmp_path / model / kind)
    for name in ("emoji", "sd15"):
        (tmp_path / name / "bundle").mkdir(parents=True)
    assert Folders(tmp_path, tmp_path, Environments(tmp_path))(model, "bundle", preset) == tmp_path / model / "bundle"
    assert asked == expected


def test_the_sources_keep_the_house_rules() -> None:
    rules = (wrong_sizes, missing_docstring, undocumented_names)
    broken = [f"{one.path}: {problem}" for one in sources("bench") for rule in rules for problem in rule(one)]
    assert not broken, "\n".join(broken)
