"""Tries the whole corpus and prints how many inputs of each kind held: `make hostile`."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

TESTS = Path(__file__).parents[1]


def import_tests() -> None:
    """Makes the package `tests` known without its parent folder, whose `kernels/` other libraries would take."""
    spec = spec_from_file_location("tests", TESTS / "__init__.py", submodule_search_locations=[str(TESTS)])
    assert spec is not None and spec.loader is not None
    sys.modules["tests"] = module = module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ == "__main__":
    import_tests()
    from tests.hostile.runner import main

    sys.exit(main())
