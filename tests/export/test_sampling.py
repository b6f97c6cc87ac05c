"""The defaults that a bundle samples with are refused where its own sampler cannot run them, and nowhere else."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner
from x2i.export.errors import PlanError
from x2i.export.plan import ExportPlan
from x2i.export.systems.registry import SYSTEMS, system_spec
from x2i.runtime.bundle.plan import Plan
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError
from x2i.runtime.processes.latents import SamplerChoice
from x2i.runtime.samplers.registry import SAMPLERS, make_sampler
from x2i.runtime.samplers.schedule import Schedule

from tests.goldens import golden

COUNTS = range(1, 61)
LATENTS = [name for name in SYSTEMS if not system_spec(name).stands_alone]
"""The systems that a caller may sample otherwise than they were made for."""


def plan_of(system: str, **options) -> ExportPlan:
    return ExportPlan(system, Path("not/there"), random_weights="tiny", **options)


def refused(check, *arguments) -> bool:
    try:
        check(*arguments)
    except PlanError as error:
        assert len(error.problems) == 1 and error.problems[0].startswith("steps: expected"), error
        return True
    return False


def runs(plan: Plan) -> bool:
    """Whether the runtime's own rule takes what a bundle's plan says."""
    try:
        plan.latents.sampler.make(plan.latents.schedule)
    except InputError:
        return False
    return True


def changed(plan: Plan, **changes) -> Plan:
    """The plan with other values in its process."""
    return replace(plan, processes=(replace(plan.latents, **changes),))


@cache
def built_plan(system: str) -> Plan:
    return system_spec(system).build(plan_of(system)).plan


@pytest.mark.parametrize("system", LATENTS)
def test_a_count_is_refused_where_it_could_not_run(system):
    built = built_plan(system)
    for count in COUNTS:
        plan = plan_of(system, steps=count)
        able = runs(changed(built, sampler=replace(built.latents.sampler, steps=count)))
        assert refused(system_spec(system).check, plan) == (not able), count
        assert refused(plan.with_defaults, built) == (not able), count


@pytest.mark.parametrize("name", [*SAMPLERS])
@pytest.mark.parametrize("system", ["sd", "gluegen-text"])
def test_a_chosen_sampler_decides(system, name):
    """By the name that the runtime gives it: `ddim` on a CompVis system is CompVis' own."""
    built = built_plan(system)
    for count in (*COUNTS, 9, 333, 600, 1000):
        able = runs(changed(built, sampler=replace(built.latents.sampler, name=name, steps=count)))
        assert refused(system_spec(system).check, plan_of(system, sampler=name, steps=count)) == (not able), count


def test_counts_that_only_plms_refuses_pass():
    """Nine steps of PLMS end past the schedule; ELITE samples with LMS."""
    assert refused(system_spec("gluegen-text").check, plan_of("gluegen-text", steps=9))
    assert not refused(system_spec("elite").check, plan_of("elite", steps=9))


@pytest.mark.parametrize("count", COUNTS)
def test_the_layout_of_the_base_decides_for_sd(tmp_path, count):
    """A CompVis file samples with PLMS, a folder of diffusers' with PNDM."""
    samplers = {golden("gluegen/pipeline/sd-tiny.ckpt"): "plms", golden("elite/model"): "pndm"}
    for base, sampler in samplers.items():
        plan = ExportPlan("sd", tmp_path / "out", str(base), steps=count)
        try:
            make_sampler(sampler, Schedule(), count)
        except InputError as error:
            with pytest.raises(PlanError) as refusal:
                system_spec("sd").check(plan)
            assert refusal.value.problems == error.problems
        else:
            system_spec("sd").check(plan)


def test_a_count_is_refused_in_one_line_before_the_weights_are_read(tmp_path):
    (tmp_path / "base.ckpt").write_bytes(b"")
    result = CliRunner().invoke(
        main, ["export", "sd", str(tmp_path / "out"), "--base", str(tmp_path / "base.ckpt"), "--steps", "9"]
    )
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    assert "steps: expected a count whose timesteps end at 999" in result.stderr
    assert not (tmp_path / "out").exists()


def test_another_schedule_is_known_once_the_base_is_read():
    """Where nothing states it before, the check after the build has the last word."""
    built = changed(built_plan("gluegen-text"), schedule=Schedule(train_steps=1008))
    hub = ExportPlan("gluegen-text", Path("not/there"), "someone/model", steps=9)
    with pytest.raises(PlanError) as early:
        system_spec("gluegen-text").check(hub)
    assert not any(problem.startswith("steps:") for problem in early.value.problems)
    assert hub.with_defaults(built).latents.sampler.steps == 9
    assert refused(hub.with_defaults, changed(built, schedule=Schedule()))


def test_the_spec_and_the_build_name_one_sampler():
    for system in LATENTS:
        assert built_plan(system).latents.sampler == system_spec(system).sampler_of("diffusers", SamplerChoice("pndm"))


def test_an_exported_plan_keeps_the_aliases():
    chosen = plan_of("gluegen-text", sampler="ddim", steps=20).sampling(SamplerChoice("plms", 50, {"ddim": "x"}))
    assert chosen == SamplerChoice("ddim", 20, {"ddim": "x"})
