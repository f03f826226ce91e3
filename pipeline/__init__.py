"""The stages of dvc.yaml, one script per stage; run them from the project's folder, as in `python -m pipeline.train`.

The inputs of a stage are files of earlier stages, the outputs are files of this stage. The work is done by the package
`dcgan` in this copy of the project, even if another copy is installed.
"""

import importlib
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
# The project's folder comes last; otherwise a user's file there, such as `queue.py`, would hide a module.
sys.path[:] = [str(_ROOT / "src"), *(path for path in sys.path if path not in ("", str(_ROOT))), str(_ROOT)]

try:
    # In this order: what the stage depends on is taken in before any of its code is imported.
    if importlib.import_module("pipeline.support.inputs").TAKEN:
        importlib.import_module("pipeline.support.signals").exit_on_signals()
        importlib.import_module("pipeline.support.rank_file").become_rank()
    importlib.import_module("dcgan.params")
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is not installed in {sys.executable}; run `make repro`, or `. .venv/bin/activate` first.")
