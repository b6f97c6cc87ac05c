"""Profiles: what is measured, what is saved, and what is refused. No time is expected to be any length."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner
from full_size.rate_graphs import eight_bit_product, float_product
from x2i.runtime import InputError
from x2i.runtime.cli import main
from x2i.runtime.profiling import rates
from x2i.runtime.profiling.job import ProfileJob
from x2i.runtime.profiling.measure import measure
from x2i.runtime.profiling.record import Profile, Samples, read, save
from x2i.runtime.report import comparison
from x2i.runtime.report.page import html_page
from x2i.runtime.report.table import profile_lines
from x2i.runtime.report.trace import trace

STEPS = 5


@pytest.fixture(scope="module")
def elite(elite_bundle) -> Profile:
    job = ProfileJob(elite_bundle, "cpu", threads=1, options={"steps": STEPS}, cold=1, warm_up=0, runs=2)
    return measure(job)


def test_percentiles_are_those_of_numpy():
    values = np.random.default_rng(0).gamma(2.0, size=37)
    samples = Samples(tuple(values))
    assert (samples.p50, samples.p95) == (np.percentile(values, 50), np.percentile(values, 95))


def test_everything_is_measured(elite):
    assert len(elite.steps) == elite.asked.steps == STEPS
    assert {stage.kind for stage in elite.stages} == {"encode", "project", "denoise", "decode"}
    assert all(len(step.all) == 2 for step in elite.steps) and len(elite.picture.all) == 2
    assert next(stage for stage in elite.stages if stage.kind == "denoise").calls == STEPS
    assert all(stage.macs for stage in elite.stages if stage.kind in ("denoise", "decode"))
    assert {"Conv", "Softmax"} <= {operator.type for operator in elite.operators.found}
    assert elite.cold.phases[0].start == 0 and elite.cold.phases[-1].end == elite.cold.seconds.p50
    assert elite.rates.products["fp32"] > 0 and elite.rates.copy > 0


def test_the_adapter_is_what_a_plain_model_lacks(elite):
    own = {stage.name for stage in elite.stages if stage.adapter}
    assert own == {"encoder", "global_mapper", "local_mapper", "local_projection"}
    assert elite.adapter.attention is not None
    assert elite.asked.stand_ins


def test_stages_lie_inside_the_run(elite):
    graphs = [event for event in elite.events if event.track == "graphs"]
    stages = [event for event in elite.events if event.track == "stages"]
    assert [event.name for event in stages] == ["encode", *(f"step {i + 1}" for i in range(STEPS)), "decode"]
    assert all(any(s.start <= g.start and g.end <= s.end for s in stages) for g in graphs)


def test_a_saved_profile_is_read_again(elite, tmp_path):
    save(tmp_path / "a.json", elite)
    assert read(tmp_path / "a.json") == elite


def test_the_keys_of_a_saved_profile_stay(elite, tmp_path):
    """Files of earlier versions are of the same revision."""
    save(tmp_path / "a.json", elite)
    data = json.loads((tmp_path / "a.json").read_text())
    keys = "bundle system precision backend notes machine asked cold load picture phases stages steps operators adapter"
    assert data.keys() == {*keys.split(), "rates", "overhead", "events", "revision"}
    asked = "steps sampler guidance size count threads preset warm_up runs stand_ins"
    assert data["asked"].keys() == {*asked.split()}
    assert data["cold"].keys() == {"seconds", "phases", "memory", "peak"}
    assert data["cold"]["memory"][0].keys() == {"at", "resident", "files"}
    assert data["adapter"].keys() == {"stages", "attention", "share", "how"}


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"revision": 99}, "revision 1, got 99"),
        ({"picture": 3}, "picture"),
        ({"more": 1}, "unknown key"),
        ({"picture": {"all": []}}, "at least 1 items, got 0"),
        ({"picture": {"all": [0.0, 0.0]}}, "picture: expected 1e-09 seconds at least"),
        ({"events": []}, "the steps among the events"),
        ({"rates": {"products": {}, "copy": 1e9, "how": ""}}, "expected fp32 among them, got none"),
    ],
)
def test_what_is_no_profile_is_refused(elite, tmp_path, change, expected):
    save(tmp_path / "a.json", elite)
    data = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "b.json").write_text(json.dumps(data | change))
    with pytest.raises(InputError, match=expected):
        read(tmp_path / "b.json")


def test_the_trace_keeps_to_the_format(elite):
    events = json.loads(trace(elite))["traceEvents"]
    assert {event["ph"] for event in events} == {"X", "M", "C"}
    for event in events:
        assert {"name", "ph", "ts", "pid", "tid", "args"} <= event.keys()
        assert all(isinstance(event[key], int) for key in ("pid", "tid"))
        if event["ph"] == "X":
            assert event["ts"] >= 0 and event["dur"] >= 0 and isinstance(event["cat"], str)
        if event["ph"] == "C":
            assert all(isinstance(value, int | float) for value in event["args"].values())


def test_ratios_are_of_the_first_over_the_other(elite):
    half = replace(elite, picture=Samples(tuple(second / 2 for second in elite.picture.all)))
    (row,) = [line for line in comparison.comparison_lines([elite, half]) if line.startswith("picture, p50")]
    assert row.endswith("2.00x")


def test_runs_that_differ_are_not_compared(elite):
    other = replace(elite, asked=replace(elite.asked, steps=7, size=(8, 16), guidance=1.0))
    with pytest.raises(InputError) as refused:
        comparison.check_comparable([elite, other])
    assert [problem.partition(":")[0] for problem in refused.value.problems] == ["steps", "size", "guidance"]


def test_the_table_says_what_was_measured_and_how(elite):
    told = "\n".join(profile_lines(elite))
    for expected in ("cold start", "peak memory", "denoiser", "p95", "over the plain model", "overhead", "onnxruntime"):
        assert expected in told


def test_operators_without_a_time_are_shown_as_such(elite):
    """Of a backend that tells of none, and of a clock that is too coarse for them."""
    untimed = tuple(replace(one, seconds=0.0) for one in elite.operators.found)
    for found in ((), untimed):
        profile = replace(elite, operators=replace(elite.operators, found=found, overhead=None))
        assert "none took any time that could be measured" in "\n".join(profile_lines(profile))
        assert "none took any time that could be measured" in html_page([profile, elite])


def test_all_problems_are_told_at_once_and_nothing_is_written(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    arguments = [str(tmp_path / "a.json"), str(tmp_path / "none"), "--html", str(tmp_path / "out.html")]
    result = CliRunner().invoke(main, ["profile", *arguments])
    assert result.exit_code == 2
    assert result.output.count("x2i: error:") == 2
    assert os.listdir(tmp_path) == ["a.json"]


def test_files_that_cannot_be_written_are_refused_before_anything_is_measured(tmp_path, elite_bundle):
    nowhere = str(tmp_path / "no" / "a.json")
    result = CliRunner().invoke(main, ["profile", str(elite_bundle), "--json", nowhere, "--trace", str(tmp_path)])
    assert (result.exit_code, result.output.count("x2i: error:")) == (2, 2)


def test_a_run_that_is_refused_is_refused_by_the_fresh_process(elite_bundle):
    result = CliRunner().invoke(main, ["profile", str(elite_bundle), "--backend", "cpu", "--steps", "0"])
    assert result.exit_code == 2 and "x2i: error: steps" in result.output


def test_saved_profiles_are_compared_and_drawn(elite, tmp_path):
    for name in ("a.json", "b.json"):
        save(tmp_path / name, elite)
    page = tmp_path / "both.html"
    result = CliRunner().invoke(
        main, ["profile", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--html", str(page)]
    )
    assert result.exit_code == 0, result.output
    assert "1.00x" in result.output and "Side by side" in page.read_text()


def test_the_rates_graphs_are_those_the_export_room_writes():
    for name, model in (("matmul", float_product()), ("matmul_int8", eight_bit_product())):
        assert (rates.FOLDER / f"{name}.onnx").read_bytes() == model.SerializeToString(deterministic=True)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag] if tag in ("script", "link", "img", "iframe") else []
        self.found += [name for name, _ in attrs if name in ("src", "href", "srcset")]


def test_the_report_asks_nothing_of_the_network(elite):
    links, page = _Links(), html_page([elite])
    links.feed(page)
    assert links.found == [] and "url(" not in page and "@import" not in page


MEASURING = """<script>document.title = JSON.stringify({wide: document.documentElement.scrollWidth,
cut: [...document.querySelectorAll('.row b, .row em, .tiles div, dd')].filter(e => e.scrollWidth > e.clientWidth + 1)
.map(e => e.textContent)})</script>"""


@pytest.mark.parametrize("width", [390, 1100])
def test_a_browser_cuts_nothing_off(elite, tmp_path, width):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium is installed: apt-get install chromium")
    (tmp_path / "report.html").write_text(html_page([elite, elite]).replace("</body>", f"{MEASURING}</body>"))
    frame = tmp_path / "frame.html"
    # Windows of a browser without a screen have a least width; a frame has none.
    frame.write_text(
        f"<iframe src='report.html' style='width:{width}px;height:900px;border:0'></iframe><script>onload = () => "
        "document.body.textContent = frames[0].document.title</script>"
    )
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    flags += "disable-component-update disable-sync allow-file-access-from-files dump-dom"
    command = [
        browser,
        *(f"--{flag}" for flag in flags.split()),
        f"--user-data-dir={tmp_path / 'profile'}",
        frame.as_uri(),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = json.loads(shown[shown.index("{") : shown.rindex("}") + 1])
    assert found["wide"] <= width and found["cut"] == []
