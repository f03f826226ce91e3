"""The stages of dvc.yaml, one script each, run from the project's folder: `python -m pipeline.train`.

What comes in are files of an earlier stage, what goes out are files of this one; the work is done by `dcgan`. That is
the code of this very copy of the project, whatever is installed.
"""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
# The folder itself last, or a file of the user's, as `queue.py`, would hide a module.
sys.path[:] = [str(_ROOT / "src"), *(path for path in sys.path if path not in ("", str(_ROOT))), str(_ROOT)]

try:
    import dcgan.params  # noqa: F401
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is not installed in {sys.executable}; run `make repro`, or `. .venv/bin/activate` first.")
