"""The tracking store: turns events into what MLflow knows of a run. Each event can come twice and counts once."""

from __future__ import annotations

import contextlib
import csv
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import requests
from PIL import Image

from dcgan.system.errors import UserError
from dcgan.tracking.events import EVALUATION, GENERATOR, TRAINED_IN
from dcgan.tracking.private import hidden
from dcgan.tracking.spool import Event, Spool

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
# With the server down MLflow would retry every call for about four minutes; here the spool waits for it.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path

from dcgan.tracking import models, registry

logger = logging.getLogger(__name__)
logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.ERROR)

EXPERIMENT = "dcgan"
RESTORED = "restored"
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # a training, not a chat
_BATCH = 1000  # metrics in a request, MLflow's limit
_TEXT = 6000  # characters of a parameter, MLflow's limit
# What a store says of a request that it would refuse again. Others may pass later, as a login that failed, or
# BAD_REQUEST, which MLflow says too where its database has no connection to spare.
_REFUSED = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}
_LATER = {401, 403, 408, 429}  # those of HTTP's 4xx that may pass


class RunNotFoundError(ValueError):
    """The store has no run of an event's identity."""


@dataclass
class _Known:
    """What a run has already."""

    run_id: str
    points: dict[str, set[int]] = field(default_factory=dict)  # by metric, the steps
    images: set[tuple[str, int]] | None = None  # key and step; None: not asked yet
    restored: bool = False

    @classmethod
    def of(cls, run: Run) -> _Known:
        return cls(run.info.run_id, restored=RESTORED in run.data.tags)


def connect(root: Path) -> tuple[mlflow.MlflowClient, str]:
    """A client of the store, and the id of the experiment, which is made if it is not there.

    Args:
        root: of the main project; the default store is the SQLite file `mlflow.db` there, with its artifacts in
            `mlartifacts/`. MLFLOW_TRACKING_URI names another.
    """
    named = os.environ.get("MLFLOW_TRACKING_URI")
    uri = named or f"sqlite:///{root.resolve() / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    if not named:  # which MLflow has set; it would name another store to who asks next
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    # Two processes that create the database at the same time would break each other.
    with filelock.FileLock(root / "mlflow.lock", timeout=60):
        client = mlflow.MlflowClient(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment:
            return client, experiment.experiment_id
        location = None if named else _own_files(root).as_uri()
        try:
            return client, client.create_experiment(EXPERIMENT, location, _KIND)
        except MlflowException:  # another machine was first
            experiment = client.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                raise
            return client, experiment.experiment_id


def _own_files(root: Path) -> Path:
    return root.resolve() / "mlartifacts"


class Store:
    """MLflow, as the project at `root` uses it.

    Raises:
        UserError: the project was moved, and its runs' files stayed behind.
    """

    def __init__(self, root: Path) -> None:
        self.client, self.experiment = connect(root)
        experiment, own = self.client.get_experiment(self.experiment), _own_files(root)
        kept = Path(local_file_uri_to_path(experiment.artifact_location))
        # Another place is the user's own choice, or a server's.
        ours = not os.environ.get("MLFLOW_TRACKING_URI") and kept.name == own.name
        if ours and kept != own and own.exists() and not kept.exists():
            raise UserError(f"the runs' files were in {kept}, which is gone; make it a link to {own}")
        if experiment.lifecycle_stage == "deleted":
            logger.warning("the experiment %s was deleted; it is restored, since runs go there", EXPERIMENT)
            self.client.restore_experiment(self.experiment)
        mlflow.set_experiment(experiment_id=self.experiment)  # where models are logged
        self._known: dict[tuple[tuple[str, str], ...], _Known] = {}
        self._warned: set[tuple[str, ...]] = set()

    def send(self, events: Sequence[Event], spool: Spool) -> int:
        """Tells the first event, or the first few together, and returns how many they were.

        An event that cannot be told, now or later, is warned of and dealt with: it would stand in the others' way.

        Raises:
            Exception: MLflow cannot be reached, or cannot do it now.
        """
        first = events[0]
        together = 1
        if first["kind"] == "points":
            while together < len(events) and all(events[together][key] == first[key] for key in ("kind", "run")):
                together += 1
        actions: dict[str, Callable[[Any], None]] = {
            "open": self._open,
            "points": lambda _: self._points(events[:together]),
            "image": lambda event: self._image(event, spool.file(event["files"]["image"])),
            "artifact": lambda event: self._artifact(event, spool),
            "restored": lambda event: self._restored(event, spool),
            "dataset": self._dataset,
            "model": lambda event: self._model(event, spool.file(event["files"]["generator"])),
            "register": self._register,
            "tags": self._tags,
            "end": self._end,
        }
        kind = first["kind"]
        if not all(spool.file(name).exists() for name in first.get("files", {}).values()):
            self._warn(first, f"a file of {kind} is lost")
            return together
        try:
            actions[kind](first)
        except Exception as error:
            if not _lasts(error):
                raise
            if together > 1 and not isinstance(error, RunNotFoundError):  # one of them is at fault
                return self.send(events[:1], spool)
            reason = hidden((str(error).splitlines() or [""])[0][:300])
            self._warn(first, f"MLflow is not told of {kind}: {type(error).__name__}: {reason}")
        return together

    def _warn(self, event: Event, sentence: str) -> None:
        about = (event["kind"], *event["run"].values())
        if about not in self._warned:
            logger.warning("%s", sentence)
        self._warned.add(about)

    def forget(self) -> None:
        """Looks anew at what a run has; another may have told it something."""
        self._known.clear()

    def _find_of(self, identity: dict[str, str]) -> Run | None:
        """The run of an identity.

        The first evaluation of a generator goes to the run that trained it, the newest if two trainings gave the same
        bytes; one with other settings to its own.
        """
        evaluation = identity.get(EVALUATION)
        tags = {name: value for name, value in identity.items() if name != EVALUATION}
        where = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        runs = list(self.client.search_runs([self.experiment], where, order_by=["start_time"]))
        trained = [run for run in runs if TRAINED_IN not in run.data.tags][-1:]
        candidates = trained + [run for run in runs if TRAINED_IN in run.data.tags]
        wanted = (None, evaluation) if evaluation else None
        return next((run for run in candidates if wanted is None or run.data.tags.get(EVALUATION) in wanted), None)

    def _state(self, event: Event) -> _Known:
        key = tuple(sorted(event["run"].items()))
        if key not in self._known:
            run = self._find_of(event["run"])
            if run is None:
                raise RunNotFoundError("the run is not there; was it deleted?")
            self._known[key] = _Known.of(run)
        return self._known[key]

    def _open(self, event: Event) -> None:
        identity, client = event["run"], self.client
        run = self._find_of(identity)
        params, settings = event["params"], event["settings"]
        if run is None:
            tags = {**event["tags"], **identity}
            trained = self._find_of({GENERATOR: identity[GENERATOR]}) if GENERATOR in identity else None
            if trained:
                params = {name: value for name, value in trained.data.params.items() if name not in settings}
                tags[TRAINED_IN] = trained.info.run_id
            elif GENERATOR in identity:
                tags[RESTORED] = "true"
            run = client.create_run(self.experiment, event["time"], tags, event["name"])
            if GENERATOR in identity:
                client.set_terminated(run.info.run_id, "FINISHED", event["time"])
        elif GENERATOR not in identity and GENERATOR not in run.data.tags:  # a training that goes on
            client.update_run(run.info.run_id, "RUNNING")
        run_id, wanted = run.info.run_id, {**params, **settings}
        # A parameter that does not decide the training may have changed since it was interrupted.
        missing = [Param(k, v[:_TEXT]) for k, v in wanted.items() if k not in run.data.params]
        tags = {**event["tags"], **({EVALUATION: identity[EVALUATION]} if EVALUATION in identity else {})}
        added = [RunTag(k, v) for k, v in tags.items() if k not in run.data.tags]
        client.log_batch(run_id, params=missing, tags=added)
        self._known[tuple(sorted(identity.items()))] = _Known.of(client.get_run(run_id))

    def _points(self, events: Sequence[Event]) -> None:
        known, metrics = self._state(events[0]), []
        seen: set[tuple[str, int]] = set()
        for event in events:
            for step, values in event["points"]:
                new = {k: v for k, v in values.items() if (k, step) not in seen and self._is_new(known, k, step)}
                metrics += [Metric(key, value, event["time"], step) for key, value in new.items()]
                seen |= {(key, step) for key in new if not key.startswith("system/")}
        for start in range(0, len(metrics), _BATCH):
            batch = metrics[start : start + _BATCH]
            self.client.log_batch(known.run_id, batch)
            for metric in batch:
                known.points.setdefault(metric.key, set()).add(metric.step)

    def _is_new(self, known: _Known, key: str, step: int) -> bool:
        if key.startswith("system/"):  # its steps are seconds of a process, which a resumed training counts anew
            return True
        if key not in known.points:
            known.points[key] = {metric.step for metric in self.client.get_metric_history(known.run_id, key)}
        return step not in known.points[key]

    def _image(self, event: Event, file: Path) -> None:
        known, wanted = self._state(event), (event["key"], event["step"])
        if known.images is None:
            names = [Path(item.path).name.split("+") for item in self.client.list_artifacts(known.run_id, "images")]
            known.images = {(name[0], int(name[2])) for name in names if len(name) > 2}
        if wanted in known.images:
            return
        try:
            with Image.open(file) as opened:
                image = opened.copy()
        except (OSError, SyntaxError) as error:
            raise ValueError(f"a damaged picture, {error}") from None
        self.client.log_image(
            known.run_id, image, key=event["key"], step=event["step"], timestamp=event["time"], synchronous=True
        )
        known.images.add(wanted)

    def _restored(self, event: Event, spool: Spool) -> None:
        known = self._state(event)
        if not known.restored:
            return
        common = {name: event[name] for name in ("run", "time")}
        with spool.file(event["files"]["losses"]).open(newline="") as file:
            rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
        self._points([common | {"points": [(int(row.pop("step")), row) for row in rows]}])
        between = max(known.points["d_loss"]) // max(1, event["grids"] - 1)  # steps
        for number in range(event["grids"]):
            image = common | {"key": "fixed_latents", "step": number * between}
            self._image(image, spool.file(event["files"][f"grid {number}"]))

    def _artifact(self, event: Event, spool: Spool) -> None:
        name, run_id = Path(event["name"]), self._state(event).run_id
        folder = None if name.parent == Path() else str(name.parent)
        if event.get("once") and any(item.path == str(name) for item in self.client.list_artifacts(run_id, folder)):
            return
        with tempfile.TemporaryDirectory(dir=spool.folder) as temporary:
            named = shutil.copyfile(spool.file(event["files"]["artifact"]), Path(temporary) / name.name)
            self.client.log_artifact(run_id, str(named), folder)

    def _dataset(self, event: Event) -> None:
        dataset = Dataset(event["name"], event["digest"], "local", event["source"], profile=event["profile"])
        tagged = DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
        self.client.log_inputs(self._state(event).run_id, [tagged])

    def _model(self, event: Event, generator: Path) -> None:
        """Logs the models of this generator that the run lacks; a half-logged one goes."""
        run_id = self._state(event).run_id
        there = set()
        for model in self.client.search_logged_models([self.experiment], f"source_run_id = '{run_id}'"):
            if model.status != LoggedModelStatus.READY:
                with contextlib.suppress(MlflowException):  # on a shared server only some may delete
                    self.client.delete_logged_model(model.model_id)
            elif model.tags.get(GENERATOR) == event["sha256"]:
                there.add(model.name)
        models.log(
            run_id, generator, [name for name in models.NAMES if name not in there], {GENERATOR: event["sha256"]}
        )

    def _register(self, event: Event) -> None:
        run = self.client.get_run(self._state(event).run_id)
        trained_in = run.data.tags.get(TRAINED_IN, run.info.run_id)
        where = f"source_run_id = '{trained_in}' and name = '{models.SERVED}'"
        for model in self.client.search_logged_models([self.experiment], where):
            if model.tags.get(GENERATOR) == event["run"].get(GENERATOR, run.data.tags[GENERATOR]):
                registry.register(
                    self.client, event["name"], model, run, event["metric"], event["distance"], event["protocol"],
                    event["card"],
                )  # fmt: skip
                return

    def _tags(self, event: Event) -> None:
        self.client.log_batch(self._state(event).run_id, tags=[RunTag(k, v) for k, v in event["tags"].items()])

    def _end(self, event: Event) -> None:
        run = self.client.get_run(self._state(event).run_id)
        if event.get("only_running") and run.info.status != "RUNNING":
            return
        if GENERATOR not in run.data.tags:
            self.client.set_terminated(run.info.run_id, event["status"], event["time"])
        elif run.info.status != "FINISHED":  # what came after the result, as a full disk, does not undo it
            self.client.set_terminated(run.info.run_id, "FINISHED", event["time"])


def _lasts(error: Exception) -> bool:
    """Whether it would go wrong again: what is at fault is the event, and neither network, disk nor database."""
    if isinstance(error, MlflowException):
        return error.error_code in _REFUSED
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return 400 <= error.response.status_code < 500 and error.response.status_code not in _LATER
    at_fault = (UserError, ValueError, TypeError, KeyError, AttributeError)
    return isinstance(error, at_fault) and not isinstance(error, OSError)
