"""A program, `many_calls.py CALLS SYSTEM=FOLDER...`, that loads bundles and draws with them in turns.

It prints the process's resident megabytes after every call, as JSON. Nothing but the runtime is imported.
"""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from x2i.runtime import load

PICTURES = np.random.default_rng(3).integers(0, 256, (3, 41, 57, 3), dtype=np.uint8)
MASK = np.full((41, 57), 255, np.uint8)
SOUND = (np.sin(np.arange(9000) / 9).astype(np.float32), 44100)
TURNS: tuple[tuple[str, str | None, dict[str, Any]], ...] = (
    ("gluegen-text", "une pomme", {"language": "French"}),
    ("fastcomposer", "a man <|image|> and a dog <|image|>", {"subjects": list(PICTURES[:2]), "alpha": 0.5}),
    ("gluegen-sound", None, {"sound": SOUND}),
    ("elite", "on a red S", {"subject": PICTURES[0], "mask": MASK}),
    ("gluegen-sound", "a street", {"sound": SOUND, "mix": 4, "language": "French"}),
    ("ip-adapter", "a red apple", {"image": list(PICTURES)}),
    ("fastcomposer", "a cat", {}),
)


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    warnings.simplefilter("ignore", UserWarning)
    folders = dict(word.split("=", 1) for word in sys.argv[2:])
    pipelines = {
        system: load(folder, text_bundle=folders["gluegen-text"] if system == "gluegen-sound" else None)
        for system, folder in folders.items()
    }
    sizes = []
    for number in range(int(sys.argv[1])):
        system, prompt, options = TURNS[number % len(TURNS)]
        options = {"steps": (1, 2, 4)[number % 3], "size": (16, 16 + 8 * (number % 2)), "sampler": "ddim"} | options
        pipelines[system](prompt, seed=number, **options)
        sizes.append(resident_megabytes())
    print(json.dumps(sizes))


if __name__ == "__main__":
    main()
