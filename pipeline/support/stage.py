"""Code that all stages share: the project's folder, validated parameters, one-sentence errors and exit statuses."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Callable
from functools import cache
from typing import NoReturn

from dcgan.params import load, parse
from dcgan.schema import Params, SectionT
from dcgan.system.errors import Interrupted, UserError
from dcgan.system.progress import log_above_the_bar
from pipeline.support.advice import Advice
from pipeline.support.dvc_files import ROOT
from pipeline.support.failures import another_has_told, sentence, tell_stage
from pipeline.support.inputs import RANK_FILE, TAKEN
from pipeline.support.lineage import check_inputs
from pipeline.support.one_at_a_time import one_at_a_time
from pipeline.support.outs import end_if_unchanged
from pipeline.support.rank_checks import check_starter
from pipeline.support.signals import exit_on_signals

# The main project, also if ROOT is such a temporary copy; it holds the files that outlive an experiment.
MAIN_ROOT = next((p.parent for p in ROOT.parents if p.name == ".dvc" and ROOT.is_relative_to(p / "tmp" / "exps")), ROOT)

# File names in REPORTS: pictures of the generator.
SAMPLED = ("samples.png", "real_and_generated.png", "interpolation.png", "sheet.png", "progress.gif")


def run(section: type[SectionT], stage: Callable[[SectionT], None]) -> None:
    """Validates all of params.yaml, runs the stage with its own section, and turns errors into exit statuses.

    A mistake of the user ends with one sentence and status 1. SIGINT gives status 130 and SIGTERM 143, so that DVC
    never treats an interrupted stage as finished.
    """
    os.chdir(ROOT)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # without warnings that tell a user nothing
    log_above_the_bar(Advice(all_params))
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # memory maps that are only read
    exit_on_signals()
    try:
        with one_at_a_time(TAKEN):
            if TAKEN:
                check_starter()
                check_inputs(TAKEN)
            stage(all_params().section(section))
            end_if_unchanged()
    except Interrupted as error:
        tell_stage({"signal": error.signal})
        sys.exit(128 + error.signal)
    except UserError as error:
        _end(str(error))
    except Exception as error:
        if another_has_told():
            sys.exit(1)
        if (told := sentence(error, all_params)) is None:
            raise
        _end(told)
    finally:
        gc.freeze()  # otherwise the last garbage collection scans all that torch has loaded, for up to a second


@cache
def all_params() -> Params:
    """All parameters, as the stage took them in; those in params.yaml if this process runs no stage."""
    return parse(TAKEN.params) if TAKEN and TAKEN.params else load(ROOT / "params.yaml")


def _end(told: str) -> NoReturn:
    """Ends the stage with the sentence; a rank hands it to the stage that started it instead."""
    tell_stage({"message": told})
    sys.exit(1 if RANK_FILE else told)
