"""A picture's size on the command line."""

import re
from typing import Any

import click


class Size(click.ParamType):
    """HEIGHTxWIDTH in pixels."""

    name = "HxW"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[int, int]:
        match = re.fullmatch(r"(\d+)x(\d+)", value)
        if match is None:
            self.fail(f"expected HEIGHTxWIDTH in pixels such as 512x768, got {value!r}", parameter, context)
        return int(match[1]), int(match[2])
