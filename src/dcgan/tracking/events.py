"""What a stage says of an MLflow run, as events for the spool. Nothing here talks to MLflow."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dcgan
from dcgan.data.images import Pixels, to_image
from dcgan.system.errors import Interrupted
from dcgan.system.files import sha256
from dcgan.system.python_path import python_path
from dcgan.tracking.private import HIDDEN
from dcgan.tracking.spool import Nowhere, Spool

logger = logging.getLogger(__name__)
FINGERPRINT, GENERATOR, EVALUATION = "fingerprint", "generator_sha256", "evaluation"
# Settings of an evaluation: the parameter, and under which name metrics.json has it.
SETTINGS = {
    "fid_network": "network",
    "fid_samples": "samples",
    "fid_repeats": "repeats",
    "fid_split": "reference_split",
}
TRAINED_IN = "trained_in"  # the tag of an evaluation's run: the id of the training's
SPOOL = "mlspool"  # the folder under the project's root; it holds one for each store
LAST_SECONDS = 60  # that a stage waits at its end until all is sent
Texts = Mapping[str, Any]


class Run:
    """An MLflow run, known by tags that depend on nothing but its inputs.

    Args:
        identity: FINGERPRINT of a training, or GENERATOR of what came of it, with EVALUATION where a second
            evaluation of the same generator is a run of its own.
    """

    def __init__(self, spool: Spool, identity: Mapping[str, str]) -> None:
        self._spool = spool
        self._identity = dict(identity)
        self._opened: dict[str, Any] = {}
        self.lost = False  # something could not be kept

    def _tell(self, kind: str, files: Mapping[str, Path | bytes] | None = None, **what: Any) -> None:
        try:
            self._spool.append({"kind": kind, "run": self._identity, "time": _now(), **what}, files)
        except OSError as error:
            if not self.lost:
                logger.warning("Cannot write what is to be logged to MLflow: %s; continuing without it", error)
            self.lost = True

    def open(self, name: str, params: Texts, tags: Mapping[str, str], settings: Texts | None = None) -> None:
        """Makes the run if it is not there.

        Args:
            name: of a new run.
            params: of the training; a run that is there keeps its own.
            settings: of the evaluation: parameters too, which a run of a second one does not take from the first.
        """
        self._opened = {"name": name, "params": _texts(params), "tags": dict(tags), "settings": _texts(settings or {})}
        self.reopen()

    def reopen(self) -> None:
        """Tells `open` again, since it may have been lost."""
        self._tell("open", **self._opened)

    def losses(self, step: int, values: dict[str, float]) -> None:
        """Points of the curves."""
        self.points([(step, values)])

    def measured(self, step: int, values: dict[str, float]) -> None:
        """Points of curves that have one for each epoch, or each measurement."""
        self.points([(step, values)])

    def points(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Points of the curves; those that the run has already count once."""
        if points:
            self._tell("points", points=[[step, dict(values)] for step, values in points])

    def grid(self, step: int, sheet: Pixels) -> None:
        """The fixed latents' pictures (H, W, C), a series by step."""
        file = io.BytesIO()
        to_image(sheet).save(file, "PPM")  # to compress it is the sender's work: the training waits for this
        self._tell("image", {"image": file.getvalue()}, key="fixed_latents", step=step)

    def grids(self, files: Sequence[Path], between: int) -> None:
        """Those grids of a training that the run lacks, from PNG files `between` steps apart."""
        for number, file in enumerate(files):
            self._tell("image", {"image": file}, key="fixed_latents", step=number * between)

    def restored(self, losses: Path, grids: Sequence[Path]) -> None:
        """What is known of a training that this store has not seen: curves by `step`, and grids from the first step on.

        It counts for a run alone that was made for a generator that DVC restored.
        """
        files = {"losses": losses} | {f"grid {number}": grid for number, grid in enumerate(grids)}
        self._tell("restored", files, grids=len(grids))

    def metrics(self, values: Mapping[str, float]) -> None:
        """Single numbers."""
        self.points([(0, values)])

    def artifacts(self, *paths: Path) -> None:
        """Files."""
        for path in paths:
            self._tell("artifact", {"artifact": path}, name=path.name)

    def text(self, name: str, content: str | bytes, once: bool = False) -> None:
        """A file of this content; `name` may be a path. With `once` the run keeps one that it has."""
        content = content.encode() if isinstance(content, str) else content
        self._tell("artifact", {"artifact": content}, name=name, once=once)

    def dataset(self, name: str, digest: str, source: Mapping[str, Any], profile: Mapping[str, Any]) -> None:
        """The data that the run was trained on, as MLflow's dataset."""
        source, profile = json.dumps(source), json.dumps(profile)  # type: ignore[assignment]
        self._tell("dataset", name=name, digest=digest, source=source, profile=profile)

    def model(self, generator: Path) -> None:
        """The generator's file, as MLflow models."""
        self._tell("model", {"generator": generator}, sha256=sha256(generator))

    def register(self, name: str, metric: str, distance: float, protocol: Texts, card: str) -> None:
        """The generator as a version of a registered model: its champion, if no other of this protocol is nearer.

        Args:
            protocol: all that two distances must have in common to be compared.
            card: the version's description, in Markdown.
        """
        self._tell("register", name=name, metric=metric, distance=distance, protocol=_texts(protocol), card=card)

    def tags(self, tags: Mapping[str, str]) -> None:
        """Tags; GENERATOR, the hash by which later stages find the run, ends a training."""
        self._tell("tags", tags=dict(tags))

    def end(self, status: str) -> None:
        self._tell("end", status=status)

    def died(self) -> None:
        """Ends the run as KILLED, unless it has been ended."""
        self._tell("end", status="KILLED", only_running=True)

    @contextlib.contextmanager
    def ended(self) -> Iterator[None]:
        """Ends the run with the block, as what the block ended in."""
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        except (SystemExit, Interrupted):
            status = "KILLED"
            raise
        finally:
            self.end(status)


def spool_of(root: Path) -> Spool:
    """What is to be told to the store that MLFLOW_TRACKING_URI names now, or to the project's own."""
    named = os.environ.get("MLFLOW_TRACKING_URI")
    store = re.sub("//[^/?]*@", f"//{HIDDEN}@", named or "")  # whoever logs in
    return Spool(root.resolve() / SPOOL / (hashlib.sha256(store.encode()).hexdigest()[:8] if named else "own"))


@contextlib.contextmanager
def harmless(what: str) -> Iterator[None]:
    """Whatever goes wrong in the block is a warning: what is told to MLflow never ends a stage."""
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        logger.warning("Cannot log %s to MLflow (%s: %s); continuing without it", what, type(error).__name__, error)


@contextlib.contextmanager
def sending(root: Path, load_of: Mapping[str, str] | None = None) -> Iterator[Spool]:
    """The spool of the project at `root`, and a sender that empties it until all is sent that the block tells.

    With DCGAN_TRACKING=0 nothing is told, and nothing is kept to be told later.

    Args:
        load_of: the identity of a run that is given the machine's load meanwhile.
    """
    if os.environ.get("DCGAN_TRACKING") == "0":
        yield Nowhere(root / SPOOL)
        return
    spool = spool_of(root)
    # -P: no file of the folder that it is started in, where a relative address of a store counts, hides a module.
    command = [sys.executable, "-P", "-m", "dcgan.tracking.sender", str(root.resolve())]
    command += ["--load-of", json.dumps(dict(load_of))] if load_of else []
    # The code that the stage runs, whatever is installed.
    environment = os.environ | {"PYTHONPATH": python_path(Path(str(dcgan.__file__)).parents[1])}
    # Its own session: a Ctrl-C is the stage's, which says in the end how the run ended.
    try:
        sender = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=root, env=environment, start_new_session=True)
    except OSError as error:
        logger.warning("Cannot start the process that logs to MLflow: %s; it is logged later", error)
        yield spool
        return
    try:
        yield spool
    finally:
        assert sender.stdin
        sender.stdin.close()  # by which it knows that nothing more will come, whatever ended the stage
        try:
            sender.wait(LAST_SECONDS)
        except subprocess.TimeoutExpired:
            sender.kill()
            logger.warning("MLflow is slow; what is not logged yet is kept in %s and logged later", spool.path)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _texts(params: Texts) -> dict[str, str]:
    return {name: "" if value is None else str(value) for name, value in params.items()}
