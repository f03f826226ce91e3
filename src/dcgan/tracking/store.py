"""The tracking store: makes MLflow hold what the folder of a run says, by adding what is missing."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import filelock
import requests
from PIL import Image

from dcgan.system.errors import UserError
from dcgan.system.files import sha256
from dcgan.tracking import run_folder
from dcgan.tracking.private import hidden
from dcgan.tracking.run_folder import EVALUATION, GENERATOR_SHA256, TRAINED_IN, Description, Point, files

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
# With the server down MLflow would retry every call for about four minutes; here the folders wait for it.
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
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES

from dcgan.tracking import models, registry

logger = logging.getLogger(__name__)
logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.ERROR)

EXPERIMENT = "dcgan"
_GRIDS = "fixed_latents"  # MLflow's key of a series of pictures, and the ends of the names of two files of each
_SUFFIXES = (".png", "+compressed.webp")
RESTORED = "restored"
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # a training, not a chat
_BATCH = 1000  # metrics in a request, MLflow's limit
_TEXT = 6000  # characters of a parameter, MLflow's limit
# What a store says of a request that it would refuse again. Others may pass later, as a login that failed, or
# BAD_REQUEST, which MLflow says too where its database has no connection to spare.
_REFUSED = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}
_LATER = {401, 403, 408, 429}  # those of HTTP's 4xx that may pass

_Item = tuple[str, object, Callable[[], object]]  # what it is, what tells it from others of its kind, how it is sent


@dataclass
class _Known:
    """What a run has already."""

    run_id: str
    unread: set[str]  # metrics that it has, whose points have not been asked for
    points: dict[str, set[tuple[int, int | None]]] = field(default_factory=dict)  # by metric, see `_told_by`
    grids: dict[int, str | None] | None = None  # see `_grids`; None: not asked for yet


@dataclass
class _Progress:
    """What a folder's run has been given."""

    known: _Known
    read: dict[str, int] = field(default_factory=dict)  # of files of metrics, the bytes
    done: set[tuple[str, object]] = field(default_factory=set)


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
        self._known: dict[str, _Known] = {}  # by run
        self._progress: dict[Path, _Progress] = {}  # by folder
        self._warned: set[str] = set()

    def upload(self, folder: Path) -> bool:
        """Makes MLflow hold what the folder says by now; however often it is called, and by whom, it counts once.

        What MLflow refuses, now and later, is warned of and left out: it would stand in the way of all else.

        Returns:
            Whether the folder has been dealt with to its end.

        Raises:
            Exception: MLflow cannot be reached, or cannot do it now; go on with another Store.
        """
        over = run_folder.over(folder)  # asked first, since its writer may add something meanwhile
        self._try(f"the run in {folder}", lambda: self._upload(folder, run_folder.describe(folder), over))
        return over

    def _upload(self, folder: Path, about: Description, over: bool) -> None:
        progress = self._progress.get(folder) or _Progress(self._opened(about))
        self._progress[folder] = progress
        for what, which, upload in self._items(folder, about, progress, over):
            if (what, which) not in progress.done:
                self._try(f"{what} of {about.name}", upload)
                progress.done.add((what, which))

    def _try(self, what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:
            if not _lasts(error):
                raise
            if what not in self._warned:
                reason = hidden((str(error).splitlines() or [""])[0][:300])
                logger.warning("Cannot log %s (%s: %s); continuing without it", what, type(error).__name__, reason)
            self._warned.add(what)

    def _items(self, folder: Path, about: Description, progress: _Progress, over: bool) -> Iterator[_Item]:
        """All that the run should hold, in the order in which it is sent."""
        known = progress.known
        for name, file in files(folder / run_folder.FIRST):
            yield name, None, partial(self._artifact, known, name, file, keep=True)
        if about.restored:
            yield "restored curves", None, partial(self._restored, known, about)
        for name in (run_folder.METRICS, run_folder.LOAD):
            start = progress.read.get(name, 0)
            points, progress.read[name] = run_folder.points(folder / name, start)
            if points:
                yield name, start, partial(self._points, known, points)
        for name, file in files(folder / run_folder.GRIDS):
            yield "grids", name, partial(self._grid, known, int(name), file)
            if over:  # which MLflow does last for each
                yield "grids", "tag", partial(self.client.set_tag, known.run_id, MLFLOW_LOGGED_IMAGES, True)
        for name, file in files(folder / run_folder.ARTIFACTS):
            yield name, file.stat().st_mtime_ns, partial(self._artifact, known, name, file)
        if about.dataset:
            yield "dataset", None, partial(self._dataset, known, about.dataset)
        if (folder / run_folder.MODEL).exists():
            yield "models", None, partial(self._models, known, folder / run_folder.MODEL)
        if about.tags:
            yield "tags", str(about.tags), partial(self._tags, known, about.tags)
        if about.registered:
            yield "registered model", None, partial(self._register, known, about)
        if over:
            yield "end", None, partial(self._end, known, about)

    def _opened(self, about: Description) -> _Known:
        """Finds the run, or makes it, and gives it those parameters and tags that it lacks."""
        identity, params, client = about.identity, about.params, self.client
        run = self._find(identity)
        if run is None:
            tags = about.opened_with | identity
            trained = (
                self._find({GENERATOR_SHA256: identity[GENERATOR_SHA256]}) if GENERATOR_SHA256 in identity else None
            )
            if trained:
                params = {name: value for name, value in trained.data.params.items() if name not in about.settings}
                tags[TRAINED_IN] = trained.info.run_id
            elif GENERATOR_SHA256 in identity:
                tags[RESTORED] = "true"
            run = client.create_run(self.experiment, about.started, tags, about.name)
        elif GENERATOR_SHA256 not in run.data.tags:  # a training that goes on
            client.update_run(run.info.run_id, "RUNNING")
        # A parameter that does not decide the training may have changed since it was interrupted.
        wanted = {name: value for name, value in (params | about.settings).items() if name not in run.data.params}
        tags = about.opened_with | {name: value for name, value in identity.items() if name == EVALUATION}
        client.log_batch(
            run.info.run_id,
            params=[Param(name, value[:_TEXT]) for name, value in wanted.items()],
            tags=[RunTag(name, value) for name, value in tags.items() if name not in run.data.tags],
        )
        return self._known.setdefault(run.info.run_id, _Known(run.info.run_id, set(run.data.metrics)))

    def _find(self, identity: Mapping[str, str]) -> Run | None:
        """The run of an identity.

        The first evaluation of a generator goes to the run that trained it, the newest if two trainings gave the same
        bytes; one with other settings to its own.
        """
        evaluation = identity.get(EVALUATION)
        query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in identity.items() if name != EVALUATION)
        runs = list(self.client.search_runs([self.experiment], query, order_by=["start_time"]))
        trained = [run for run in runs if TRAINED_IN not in run.data.tags][-1:]
        candidates = trained + [run for run in runs if TRAINED_IN in run.data.tags]
        wanted = (None, evaluation) if evaluation else None
        return next((run for run in candidates if wanted is None or run.data.tags.get(EVALUATION) in wanted), None)

    def _points(self, known: _Known, points: Sequence[Point]) -> None:
        """Adds points that the run lacks. One that MLflow refuses does not cost the others."""
        new = []
        for at, step, values in points:
            for key, value in values.items():
                if key in known.unread:
                    history = self.client.get_metric_history(known.run_id, key)
                    known.points[key] = {_told_by(key, point.step, point.timestamp) for point in history}
                    known.unread.remove(key)
                logged = known.points.setdefault(key, set())
                if _told_by(key, step, at) not in logged:
                    logged.add(_told_by(key, step, at))
                    new.append(Metric(key, value, at, step))
        for start in range(0, len(new), _BATCH):
            self._log(known.run_id, new[start : start + _BATCH])

    def _log(self, run_id: str, metrics: Sequence[Metric]) -> None:
        try:
            self.client.log_batch(run_id, metrics)
        except Exception as error:
            if len(metrics) == 1 or not _lasts(error):
                raise
            for metric in metrics:
                self._try(f"{metric.key} in run {run_id}", partial(self._log, run_id, [metric]))

    def _restored(self, known: _Known, about: Description) -> None:
        """Adds curves that are coarser than those of a training, unless the run is that of a training."""
        if RESTORED in self.client.get_run(known.run_id).data.tags:
            self._points(known, [(about.started, int(step), values) for step, values in about.restored.items()])

    def _grid(self, known: _Known, step: int, file: Path) -> None:
        if known.grids is None:
            known.grids = self._grids(known.run_id)
        unfinished = known.grids.get(step, "")
        if unfinished is None:
            return
        try:
            with Image.open(file) as opened:
                image = opened.copy()
        except (OSError, SyntaxError) as error:
            raise ValueError(f"a damaged picture, {error}") from None
        if unfinished:
            for suffix in _SUFFIXES:
                self.client.log_image(known.run_id, image, artifact_file=unfinished + suffix)
        else:
            self.client.log_image(known.run_id, image, key=_GRIDS, step=step, synchronous=True)
        known.grids[step] = None

    def _grids(self, run_id: str) -> dict[int, str | None]:
        """By step None, or the name of a picture that a sender was killed in, of whose files one is missing."""
        grids: dict[int, str | None] = {}
        files = {item.path: item.file_size for item in self.client.list_artifacts(run_id, "images")}
        for path in files:
            name = path.removesuffix(_SUFFIXES[1]).removesuffix(_SUFFIXES[0])
            if name.startswith(f"images/{_GRIDS}+step+"):
                whole = all(files.get(name + suffix) for suffix in _SUFFIXES)
                grids[int(name.split("+")[2])] = None if whole else name
        return grids

    def _artifact(self, known: _Known, name: str, file: Path, keep: bool = False) -> None:
        """Adds a file, or replaces the run's unless that is to be kept."""
        folder = str(Path(name).parent) if "/" in name else None
        if not (keep and any(item.path == name for item in self.client.list_artifacts(known.run_id, folder))):
            self.client.log_artifact(known.run_id, str(file), folder)

    def _dataset(self, known: _Known, about: Mapping[str, str]) -> None:
        dataset = Dataset(about["name"], about["digest"], "local", about["source"], profile=about["profile"])
        self.client.log_inputs(known.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def _models(self, known: _Known, generator: Path) -> None:
        """Logs the models of this generator that the run lacks; a half-logged one goes."""
        digest, logged = sha256(generator), set()
        for model in self.client.search_logged_models([self.experiment], f"source_run_id = '{known.run_id}'"):
            if model.status != LoggedModelStatus.READY:
                with contextlib.suppress(MlflowException):  # on a shared server only some may delete
                    self.client.delete_logged_model(model.model_id)
            elif model.tags.get(GENERATOR_SHA256) == digest:
                logged.add(model.name)
        models.log(
            known.run_id, generator, [name for name in models.NAMES if name not in logged], {GENERATOR_SHA256: digest}
        )

    def _tags(self, known: _Known, tags: Mapping[str, str]) -> None:
        self.client.log_batch(known.run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    def _register(self, known: _Known, about: Description) -> None:
        run = self.client.get_run(known.run_id)
        digest = about.identity.get(GENERATOR_SHA256, run.data.tags[GENERATOR_SHA256])
        trained_in = run.data.tags.get(TRAINED_IN, run.info.run_id)
        query = f"source_run_id = '{trained_in}' and name = '{models.SERVED}'"
        for model in self.client.search_logged_models([self.experiment], query):
            if model.tags.get(GENERATOR_SHA256) == digest:
                registry.register(self.client, model=model, run=run, **about.registered)
                return

    def _end(self, known: _Known, about: Description) -> None:
        run = self.client.get_run(known.run_id)
        status = about.status if about.ended else "KILLED"
        if GENERATOR_SHA256 in run.data.tags:  # what came after the result, as a full disk, does not undo it
            status = "FINISHED"
        if run.info.status != status:
            self.client.set_terminated(known.run_id, status, about.ended or None)


def _told_by(key: str, step: int, at: int) -> tuple[int, int | None]:
    """What tells a point of a curve from others: the step; of the machine's load, whose steps are seconds of a
    process, which a resumed training counts anew, the time too."""
    return step, at if key.startswith("system/") else None


def _lasts(error: Exception) -> bool:
    """Whether it would go wrong again: what is at fault is the event, and neither network, disk nor database."""
    if isinstance(error, MlflowException):
        return error.error_code in _REFUSED
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return 400 <= error.response.status_code < 500 and error.response.status_code not in _LATER
    at_fault = (UserError, ValueError, TypeError, KeyError, AttributeError)
    return isinstance(error, at_fault) and not isinstance(error, OSError)
