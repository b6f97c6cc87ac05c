"""`x2i verify`: every file against its digest, every graph against its proof, every run of the gate against fp32's, on
this machine."""

from pathlib import Path

import click

from ..bundle.proof import GraphCheck, check_against_fp32
from ..bundle.reader import hash_again, open_bundle
from ..errors import EngineWarning
from ..gate.comparison import CaseResult, compare
from ..load import load
from ..pipeline import Pipeline
from .console import Refusal, announce, command, echo_json, warned
from .options import attention_option, backend_option, rest_on_cpu_option
from .plan_text import case_json, case_lines, finite, limits_line
from .progress import bars, echo, track


@command()
@click.argument("bundle", type=click.Path(path_type=Path))
@backend_option
@attention_option
@rest_on_cpu_option
@click.option("--quick", is_flag=True, help="Leave out what has to be drawn.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def verify(
    bundle: Path, backend: str | None, attention: str | None, rest_on_cpu: bool, quick: bool, as_json: bool
) -> None:
    """Check the folder BUNDLE: digests, for which every file is read; then every graph's output against fp32 torch's;
    then whole runs against what fp32 drew, all stored at export."""
    hash_again(open_bundle(bundle, check_files=False))
    with warned():
        pipeline = load(bundle, backend, attention=attention, rest_on_cpu=rest_on_cpu)
    announce(pipeline, backend)
    with bars(not as_json):
        with warned(EngineWarning):
            graphs = _prove(pipeline, as_json)
        cases = [] if quick else _compare(pipeline, as_json)
    if as_json:
        echo_json(_as_json(pipeline, graphs, cases))
    if failed := _failed(graphs, cases):
        fix = "use another backend or export again"
        raise Refusal(f"{bundle}: {', '.join(failed)} past the gate on backend {pipeline.backend}; {fix}")
    if not as_json:
        echo(f"{bundle}: {_summary(pipeline, len(graphs), len(cases), quick)}")


def _prove(pipeline: Pipeline, silent: bool) -> list[GraphCheck]:
    results = []
    number = len(pipeline.bundle.manifest.graphs)
    for result in track(check_against_fp32(pipeline.bundle, pipeline.session), "graphs", number, "graph"):
        results.append(result)
        if not silent:
            verdict = "ok" if result.passed else "FAILED"
            echo(f"{verdict}  {result.graph}: error {result.error:.1e} (gate {result.gate:.0e})")
    return results


def _compare(pipeline: Pipeline, silent: bool) -> list[CaseResult]:
    gate, results = pipeline.bundle.manifest.gate, []
    if gate is None:
        return []
    if not silent:
        echo(limits_line(gate.limits, pipeline.bundle.manifest.plan))
    # What else a run warns of was known when its case was stored.
    with warned(EngineWarning):
        found = compare(pipeline, gate.cases, gate.limits, pipeline.bundle.folder)
        for result in track(found, "cases", len(gate.cases), "case"):
            results.append(result)
            if not silent:
                for line in case_lines(result):
                    echo(line)
    return results


def _failed(graphs: list[GraphCheck], cases: list[CaseResult]) -> list[str]:
    drawn = [f"case {result.number}" for result in cases if not result.passed]
    return [result.graph for result in graphs if not result.passed] + drawn


def _as_json(pipeline: Pipeline, graphs: list[GraphCheck], cases: list[CaseResult]) -> dict:
    return {
        "backend": pipeline.backend,
        "files": len(pipeline.bundle.manifest.files),
        "graphs": {result.graph: {"error": finite(result.error), "gate": result.gate} for result in graphs},
        "cases": [case_json(result) for result in cases],
        "failed": _failed(graphs, cases),
    }


def _summary(pipeline: Pipeline, graphs: int, cases: int, quick: bool) -> str:
    gate = pipeline.bundle.manifest.gate
    checked = f"{len(pipeline.bundle.manifest.files)} files and {graphs} graphs as exported"
    if gate is None:
        return f"{checked}; it holds no drawings of fp32 to compare with"
    return f"{checked}; nothing drawn" if quick else f"{checked}, {cases} drawings close enough to fp32's"
