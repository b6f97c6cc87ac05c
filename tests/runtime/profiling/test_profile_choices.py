"""What a profile is taken of, what the loop takes, and products counted twice."""

import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner
from x2i.export.estimate.calls import graph_calls
from x2i.export.estimate.operations import count_work
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError
from x2i.runtime.profiling.job import ProfileJob
from x2i.runtime.profiling.measure import measure
from x2i.runtime.profiling.record import Event, Operators, Profile, Samples, loop_seconds
from x2i.runtime.profiling.stages import adapter_cost
from x2i.runtime.report.page import html_page
from x2i.runtime.report.table import profile_lines
from x2i.runtime.sessions import openvino_support

from tests.processes import run

MEASURED = "x2i.runtime.commands.profile.measure"


def x2i(*words: object):
    return CliRunner().invoke(main, ["profile", *map(str, words)])


@pytest.fixture(scope="module")
def elite(elite_bundle) -> Profile:
    return measure(ProfileJob(elite_bundle, "cpu", 1, options={"steps": 3}, cold=1, warm_up=0, runs=1))


def test_products_are_those_the_estimate_counts(elite, elite_bundle):
    """Counted from the shapes a run has on one side, by inference over the graph on the other."""
    expected: dict[str, int] = {}
    for call in graph_calls(open_bundle(elite_bundle), {"steps": 3}):
        macs = sum(count_work(call.graph).macs.values())
        expected[call.name] = expected.get(call.name, 0) + call.count * macs
    assert {stage.name: stage.macs for stage in elite.stages} == expected


def test_the_loop_is_what_steps_take_beside_their_graphs(elite):
    events = [("stages", "encode", 0, 1), ("stages", "step 1", 1, 3), ("stages", "step 2", 3, 6)]
    events += [("graphs", "encoder", 0.1, 0.9), ("graphs", "denoiser", 1.5, 2.5), ("graphs", "denoiser", 3, 5.5)]
    assert loop_seconds(replace(elite, events=tuple(Event(*one) for one in events))) == (1.5, 5)
    loop, whole = loop_seconds(elite)
    assert 0 < loop < whole


NO_TIME = "none took any time that could be measured"


def test_a_profile_without_measured_operators_is_shown(elite):
    for found in ((), (replace(elite.operators.found[0], seconds=0.0),)):
        bare = replace(elite, operators=Operators(found, None))
        assert NO_TIME in html_page([bare]) and f"operators: {NO_TIME}" in profile_lines(bare)


def test_a_graph_that_took_no_time_reaches_no_share_of_the_machines_rates(elite):
    idle = tuple(replace(stage, seconds=Samples((0.0,))) for stage in elite.stages)
    bare = replace(elite, stages=idle)
    assert "denoiser" in html_page([bare]) and profile_lines(bare)


def test_an_adapter_that_is_all_of_a_run_has_no_share_of_the_plain_model(elite):
    assert adapter_cost(elite.stages, 0.0, 0.0).share is None
    own = tuple(replace(stage, adapter=True, seconds=Samples((0.25,))) for stage in elite.stages[:2])
    cost = adapter_cost(own, None, 0.5)
    assert (cost.stages, cost.share) == (0.5, None)
    bare = replace(elite, adapter=cost)
    assert "<strong>-</strong>" in html_page([bare])
    assert any("an unknown share over the plain model" in line for line in profile_lines(bare))


def test_a_command_loads_only_what_it_needs(tmp_path):
    """Neither OpenVINO, which may be missing, nor what only reports and terminals take."""
    program = (
        "import sys; sys.modules['openvino'] = None\n"
        "import x2i.runtime, x2i.runtime.commands.profile, x2i.runtime.commands.run\n"
        "print(*sorted({'jinja2', 'rich', 'tqdm'} & sys.modules.keys()))"
    )
    assert run(sys.executable, "-c", program, cwd=tmp_path).stdout == "\n"


def test_a_bundle_names_its_own_backend(monkeypatch, elite_bundle):
    jobs = asked(monkeypatch, 2)
    x2i(f"{elite_bundle}@openvino:CPU", elite_bundle, "--backend", "cpu")
    assert [(job.bundle, job.backend) for job in jobs] == [(elite_bundle, "openvino:CPU"), (elite_bundle, "cpu")]


def test_a_folder_may_have_an_at_sign_in_its_name(monkeypatch, elite_bundle, tmp_path):
    jobs = asked(monkeypatch, 1)
    (tmp_path / "a@cpu").symlink_to(elite_bundle)
    x2i(tmp_path / "a@cpu")
    assert [(job.bundle, job.backend) for job in jobs] == [(tmp_path / "a@cpu", None)]


def test_unknown_backends_are_refused_before_anything_is_measured(monkeypatch, elite_bundle):
    jobs = asked(monkeypatch, 1)
    result = x2i(f"{elite_bundle}@cpux", elite_bundle, "--backend", "cpu", "--backend", "npu")
    assert result.exit_code == 2 and not jobs
    assert "got 'cpux'" in result.output and "got 'npu'" in result.output


def test_backends_that_are_not_here_are_refused_before_anything_is_measured(monkeypatch, elite_bundle):
    jobs = asked(monkeypatch, 1)
    monkeypatch.setattr(openvino_support, "find_spec", lambda name: None)
    result = x2i(f"{elite_bundle}@cpu", f"{elite_bundle}@openvino")
    assert result.exit_code == 2 and not jobs
    assert "backend openvino: needs the package openvino; pip install" in result.output


def test_what_was_measured_is_kept_where_it_cannot_be_compared(monkeypatch, elite, elite_bundle, tmp_path):
    found = iter((elite, replace(elite, asked=replace(elite.asked, steps=9))))
    monkeypatch.setattr(MEASURED, lambda job, *shown: next(found))
    result = x2i(elite_bundle, elite_bundle, "--json", tmp_path / "a.json", "--html", tmp_path / "a.html")
    assert result.exit_code == 2 and "steps" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-1.json", "a-2.json"]


def asked(monkeypatch, enough: int) -> list[ProfileJob]:
    """What would be measured, up to so many."""
    jobs: list[ProfileJob] = []

    def refuse_the_last(job: ProfileJob, *shown: object) -> None:
        jobs.append(job)
        if len(jobs) == enough:
            raise InputError("enough")

    monkeypatch.setattr(MEASURED, refuse_the_last)
    return jobs
