"""ONNX Runtime reports to its makers unless told otherwise before it is first imported: every room that imports it
imports this module first.

From release 1.32 on it writes a device id and a database of events below the user's cache folder, and resolves the
name of a collector. Its own call, `disable_telemetry_events`, comes after that.
"""

import os

TELEMETRY_VARIABLE = "ORT_DISABLE_TELEMETRY"
"""The environment variable by which ONNX Runtime leaves all that be. Child processes inherit it."""
DECLINED = "1"


def telemetry_state() -> str:
    """Whether ONNX Runtime may report, in words, with what decides it."""
    value = os.environ[TELEMETRY_VARIABLE]
    state = "off" if value == DECLINED else "as the environment has it"
    return f"{state} ({TELEMETRY_VARIABLE}={value})"


# Who sets the variable, to whatever value, has decided.
os.environ.setdefault(TELEMETRY_VARIABLE, DECLINED)
