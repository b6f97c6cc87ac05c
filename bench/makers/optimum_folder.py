"""`optimum_folder.py DIFFUSERS OUT`: the graphs that Optimum's own exporter writes."""

import shutil
import sys
from pathlib import Path

from optimum.exporters.onnx import main_export

if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    main_export(source, partial, task="text-to-image", library_name="diffusers", do_validation=False)
    partial.rename(target)
