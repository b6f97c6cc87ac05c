"""`pytest --parity`: what the tests measured against the goldens, as a table."""

import pytest

from tests.goldens import READ
from tests.numerics import MEASURED, Measurement


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--parity", action="store_true", help="print the errors measured against the goldens")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.getoption("--parity"):
        return
    rows: dict[tuple[str, str], list[Measurement]] = {}
    for measured in MEASURED:
        folders = sorted({"/".join(name.split("/")[:2]) for name in READ.get(measured.test, ())})
        if folders and measured.bound > 0:
            rows.setdefault((", ".join(folders), measured.tolerance), []).append(measured)
    terminalreporter.section("parity with the original implementations")
    terminalreporter.write_line("| goldens | tolerance | comparisons | largest error | allowed |")
    terminalreporter.write_line("|---|---|---|---|---|")
    for (folders, tolerance), found in sorted(rows.items()):
        worst = max(found, key=lambda measured: measured.error / measured.bound)
        terminalreporter.write_line(
            f"| {folders} | {tolerance} | {len(found)} | {worst.error:.1e} | {worst.bound:.1e} |"
        )
