"""What all stages share: where they are, validated parameters, errors in one sentence, exit status."""

from __future__ import annotations

import gc
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from support.signals import exit_on_signals

ROOT = Path(__file__).resolve().parents[2]  # in a queued experiment, of its temporary copy
# Of the main project, where ROOT is such a copy: it holds what outlives an experiment.
MAIN_ROOT = next((p.parent for p in ROOT.parents if p.name == ".dvc" and ROOT.is_relative_to(p / "tmp" / "exps")), ROOT)
# Code of the copy that the stage runs in, whatever is installed.
sys.path.insert(0, str(ROOT / "src"))

try:
    import dcgan
    from dcgan.params import SectionT, load
    from dcgan.system.errors import Interrupted, UserError, about_disk
    from dcgan.system.files import atomic
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is not installed in {sys.executable}; run `make repro`, or `. .venv/bin/activate` first.")

if not Path(str(dcgan.__file__)).is_relative_to(ROOT):
    raise RuntimeError(f"dcgan was imported from {dcgan.__file__} before stage.py could name {ROOT}")

DOWNLOADS, FOLDER = Path("data/downloads"), Path("data/folder")
RAW, FACES, INVENTORY = Path("data/raw"), Path("data/faces"), Path("data/folder.parquet")
REFERENCE, WEIGHTS = Path("data/reference"), Path("data/weights")
GENERATOR, DISCRIMINATOR = Path("models/generator.safetensors"), Path("models/discriminator.safetensors")
REPORTS = Path("reports")
NEIGHBOURS = REPORTS / "neighbours.png"
SENTENCES = "DCGAN_SENTENCES"  # names the folder in which each of several processes leaves why it ended
# In REPORTS: of the generator, and of the data.
PICTURES = ("samples.png", "real_and_generated.png", "interpolation.png", "sheet.png", "progress.gif")
DATA_PICTURES = ("real.png", "mean.png")


def run(section: type[SectionT], stage: Callable[[SectionT], None]) -> None:
    """Checks all of params.yaml, hands the stage its own section, and turns what goes wrong into an exit.

    A mistake of the user's is one sentence and status 1; SIGINT 130, SIGTERM 143, so that DVC never takes
    an interrupted stage for a finished one.
    """
    os.chdir(ROOT)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # memory maps, only read
    exit_on_signals()
    try:
        stage(load(ROOT / "params.yaml").section(section))
    except Interrupted as error:
        sys.exit(128 + error.signal)
    except UserError as error:
        _end(str(error))
    except OSError as error:
        sentence = about_disk(error)
        if sentence is None:
            raise
        _end(sentence)
    finally:
        gc.freeze()  # or the interpreter's last collection looks at all that torch has loaded, for up to a second


def _end(sentence: str) -> NoReturn:
    """Ends the stage; one of several processes of it leaves the telling to the one that started them."""
    if folder := os.environ.get(SENTENCES):
        with atomic(Path(folder) / os.environ.get("RANK", "0")) as temporary:
            temporary.write_text(sentence)
        sys.exit(1)
    sys.exit(sentence)
