"""Which backend a bundle opens on, and what is said where a better one cannot."""

from unittest.mock import patch

import pytest
from click.testing import CliRunner
from x2i.runtime import load
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError
from x2i.runtime.sessions.backends import BACKENDS, Backend


def refuses_to_open(graph, settings):
    raise InputError("cannot compile this graph; use another backend")


def broken(problem: str | None) -> Backend:
    return Backend(lambda: True, lambda graph, settings: problem, refuses_to_open)


@pytest.fixture
def nobody_chose(monkeypatch):
    monkeypatch.delenv("X2I_BACKEND")
    cpu = BACKENDS["cpu"]
    stand_ins = {
        "absent": Backend(lambda: False, cpu.problem, cpu.open),
        "driverless": broken("no driver; install one"),
        "narrow": broken(None),
        "cpu": cpu,
    }
    with patch.dict(BACKENDS, stand_ins, clear=True):
        yield


@pytest.mark.usefixtures("nobody_chose")
def test_the_next_is_taken_with_the_reason(tiny_bundle):
    pipeline = load(tiny_bundle)
    assert pipeline.backend == "cpu"
    assert pipeline.notes == (
        "not on driverless: no driver; install one",
        "not on narrow: cannot compile this graph; use another backend",
    )


@pytest.mark.usefixtures("nobody_chose")
def test_the_choice_is_announced(tiny_bundle, tmp_path):
    command = ["run", str(tiny_bundle), "a cat", "--steps", "1", "--language", "French", "--out", f"{tmp_path}/a.png"]
    lines = CliRunner().invoke(main, command).stderr.splitlines()
    assert lines[0] == "x2i: not on driverless: no driver; install one" and lines[-1] == "x2i: on cpu"
    assert "x2i: on" not in CliRunner().invoke(main, [*command, "--backend", "cpu"]).stderr


@pytest.mark.usefixtures("nobody_chose")
@pytest.mark.parametrize(("name", "message"), [("driverless", "no driver"), ("narrow", "cannot compile")])
def test_the_named_one_is_never_replaced(tiny_bundle, name, message):
    with pytest.raises(InputError, match=message):
        load(tiny_bundle, name)


def test_the_environment_names_one(tiny_bundle, monkeypatch):
    monkeypatch.setenv("X2I_BACKEND", "abacus")
    with pytest.raises(InputError, match=r"backend: expected one of .*, got 'abacus'"):
        load(tiny_bundle)


def test_a_device_belongs_to_a_backend_that_has_several(tiny_bundle):
    with pytest.raises(InputError, match="a device behind openvino, webgpu, ep alone"):
        load(tiny_bundle, "cpu:GPU")
