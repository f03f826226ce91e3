"""The tracking store: uploads the contents of run folders that MLflow lacks."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import mlflow
import requests
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
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES, MLFLOW_RUN_NOTE

from dcgan.system.errors import UserError
from dcgan.system.files import sha256
from dcgan.tracking import grids, models, registry, run_folder
from dcgan.tracking.clones import Clones
from dcgan.tracking.connection import EXPERIMENT, connect, own_files
from dcgan.tracking.experiments import is_listed
from dcgan.tracking.metric_groups import grouped
from dcgan.tracking.private import hidden
from dcgan.tracking.run_folder import (
    DVC_BASELINE,
    DVC_EXPERIMENT,
    EVALUATION,
    GENERATOR_SHA256,
    RESTORED,
    TRAINED_IN,
    UNEVALUATED,
    Description,
    Point,
    files,
)

logger = logging.getLogger(__name__)

_BATCH = 1000  # metrics per request, MLflow's limit
_TEXT = 6000  # characters of a parameter, MLflow's limit
# Error codes of requests that a store would refuse again. Requests with other codes may succeed later, such as a failed
# login, or BAD_REQUEST, which MLflow also returns if its database has no free connection.
_REFUSED = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}
_LATER = {401, 403, 408, 429}  # HTTP 4xx statuses of requests that may succeed later

_Item = tuple[str, object, Callable[[], object]]  # kind, identity among items of this kind, function that uploads it


@dataclass
class _Known:
    """What a run in MLflow already contains."""

    run_id: str
    points: dict[str, set[tuple[int, int | None]]] = field(default_factory=dict)  # by metric, see `_point_id`
    grids: dict[int, str | None] | None = None  # see `grids.logged`; None: not fetched yet


@dataclass
class _Progress:
    """What has been uploaded from a run folder."""

    known: _Known
    read: dict[str, int] = field(default_factory=dict)  # bytes read, by name of the file of metrics
    done: set[tuple[str, object]] = field(default_factory=set)


class Store:
    """The MLflow store of the project at `root`.

    Raises:
        UserError: the project was moved or copied, and the store refers to the old folder of its artifacts.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.client, self.experiment = connect(root)
        experiment, own = self.client.get_experiment(self.experiment), own_files(root)
        kept = Path(local_file_uri_to_path(experiment.artifact_location))
        # Any other location was chosen by the user or by a server.
        ours = not os.environ.get("MLFLOW_TRACKING_URI") and kept.name == own.name
        if ours and kept.resolve() != own:
            if kept.exists():
                raise UserError(
                    f"mlflow.db is a copy of the store of the project in {kept.parent}, and logging to it would change "
                    f"that project's files; remove {root.resolve() / 'mlflow.db'} to start a store of this folder's own"
                )
            if own.exists():
                raise UserError(f"the runs' files were in {kept}, which no longer exists; make it a link to {own}")
        if experiment.lifecycle_stage == "deleted":
            logger.warning("the experiment %s was deleted; it is restored, since runs are logged to it", EXPERIMENT)
            self.client.restore_experiment(self.experiment)
        mlflow.set_experiment(experiment_id=self.experiment)  # the experiment that models are logged to
        self._known: dict[str, _Known] = {}  # by run
        self._progress: dict[Path, _Progress] = {}  # by folder
        self._warned: set[str] = set()
        self._clones = Clones(self.client, self.experiment, root)

    def upload(self, folder: Path) -> bool:
        """Uploads what the folder contains and MLflow lacks; repeated uploads, even by other senders, add nothing.

        Items that MLflow would refuse again are skipped with a warning, so that they do not block other items.

        Returns:
            Whether the writer has ended and the folder is uploaded completely.

        Raises:
            Exception: MLflow cannot be reached or cannot do it now; continue with a new Store.
        """
        over = run_folder.over(folder)  # checked first, since the writer may add something during the upload
        self._try(f"the run in {folder}", lambda: self._upload(folder, run_folder.describe(folder), over))
        return over

    def _upload(self, folder: Path, about: Description, over: bool) -> None:
        self._clones.hold(about)
        progress = self._progress.get(folder) or _Progress(self._opened(about))
        self._progress[folder] = progress
        for what, which, upload in self._items(folder, about, progress, over):
            if (what, which) not in progress.done:
                self._try(f"{what} of {about.name}", upload)
                progress.done.add((what, which))
        if over:
            self._clones.leave(about)

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
        """All items that the run should contain, in the order of upload."""
        known = progress.known
        for name, file in files(folder / run_folder.FIRST):
            yield name, None, partial(self._first, known, name, file)
        if about.restored:
            yield "restored curves", None, partial(self._restored, known, about)
        for name in (run_folder.METRICS, run_folder.LOAD):
            start = progress.read.get(name, 0)
            points, progress.read[name] = run_folder.points(folder / name, start)
            if points:
                yield name, start, partial(self._points, known, points)
        for name, file in files(folder / run_folder.GRIDS):
            yield "grids", name, partial(self._grid, known, int(name), file)
            if over:  # of a sender that was killed before it set it
                yield "grids", "tag", partial(self.client.set_tag, known.run_id, MLFLOW_LOGGED_IMAGES, True)
        for name, file in files(folder / run_folder.ARTIFACTS):
            yield name, file.stat().st_mtime_ns, partial(self._artifact, known, name, file)
        if about.dataset:
            yield "dataset", None, partial(self._dataset, known, about.dataset)
        if (folder / run_folder.MODEL).exists():
            yield "models", None, partial(self._models, known, folder / run_folder.MODEL)
        if about.tags:
            yield "tags", str(about.tags), partial(self._tags, known, about)
        if about.note:
            yield "description", about.note, partial(self._describe, known, about)
        if about.registered:
            yield "registered model", None, partial(self._register, known, about)
        if over:
            yield "end", None, partial(self._end, known, about)

    def _opened(self, about: Description) -> _Known:
        """Finds or creates the run, and adds the parameters that it lacks."""
        identity, params, client = about.identity, about.params, self.client
        run = self._find(identity)
        if run is None:
            tags = about.opened_with | identity
            digest = identity.get(GENERATOR_SHA256)
            trained = self._find({GENERATOR_SHA256: digest}) if digest else None
            if trained:
                params = {name: value for name, value in trained.data.params.items() if name not in about.settings}
                tags[TRAINED_IN] = trained.info.run_id
            elif digest:
                tags[RESTORED] = "true"
            run = client.create_run(self.experiment, about.started, tags, about.name)
        else:
            self._hand_over(run, about)
        # Parameters outside the fingerprint may have changed since the training was interrupted; the run keeps its own.
        wanted = {name: value for name, value in (params | about.settings).items() if name not in run.data.params}
        client.log_batch(
            run.info.run_id,
            params=[Param(name, value[:_TEXT]) for name, value in wanted.items()],
            tags=[RunTag(name, value) for name, value in identity.items() if name == EVALUATION],
        )
        return self._known.setdefault(run.info.run_id, _Known(run.info.run_id))

    def _hand_over(self, run: Run, about: Description) -> None:
        """Gives a run that others left unfinished the name and the tags of the process that goes on with it.

        A training without a generator is unfinished. So is a run without an evaluation, but only its name and its
        experiment change, and not if DVC lists the experiment: the generator was made as the other tags say.
        """
        tags, new, known_as = run.data.tags, about.opened_with, (DVC_EXPERIMENT, DVC_BASELINE)
        if GENERATOR_SHA256 not in tags:
            self.client.update_run(run.info.run_id, "RUNNING", about.name)
        elif EVALUATION in about.identity and EVALUATION not in tags:
            old, new = ({name: which.get(name, "") for name in known_as} for which in (tags, new))
            if old == new or is_listed(self._root, *old.values()):
                return
            self.client.update_run(run.info.run_id, name=about.name)
        else:
            return
        for name in known_as:
            if name in tags and not new.get(name):
                self.client.delete_tag(run.info.run_id, name)
        self.client.log_batch(run.info.run_id, tags=[RunTag(name, value) for name, value in new.items() if value])

    def _tags(self, known: _Known, about: Description) -> None:
        if GENERATOR_SHA256 in about.tags:  # elsewhere, somebody may have gone on with the same training meanwhile
            self._hand_over(self.client.get_run(known.run_id), about)
        self.client.log_batch(known.run_id, tags=[RunTag(name, value) for name, value in about.tags.items()])

    def _find(self, identity: Mapping[str, str]) -> Run | None:
        """The run with this identity, or None.

        The first evaluation of a generator belongs to the run that trained it, or to the newest such run if several
        trainings gave the same bytes. An evaluation with other settings has its own run.
        """
        evaluation = identity.get(EVALUATION)
        query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in identity.items() if name != EVALUATION)
        runs = list(self.client.search_runs([self.experiment], query, order_by=["start_time"]))
        trained = [run for run in runs if TRAINED_IN not in run.data.tags][-1:]
        candidates = trained + [run for run in runs if TRAINED_IN in run.data.tags]
        wanted = (None, evaluation) if evaluation else None
        return next((run for run in candidates if wanted is None or run.data.tags.get(EVALUATION) in wanted), None)

    def _points(self, known: _Known, points: Sequence[Point]) -> None:
        """Logs the points that the run lacks; a point that MLflow refuses does not affect the others."""
        new = []
        for at, step, values in points:
            for name, value in values.items():
                key = grouped(name)
                if key not in known.points:
                    history = self.client.get_metric_history(known.run_id, key)
                    known.points[key] = {_point_id(key, point.step, point.timestamp) for point in history}
                if _point_id(key, step, at) not in known.points[key]:
                    known.points[key].add(_point_id(key, step, at))
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
        """Logs the restored curves, unless the run already has the finer curves of a training."""
        if RESTORED in self.client.get_run(known.run_id).data.tags:
            self._points(known, [(about.started, int(step), values) for step, values in about.restored.items()])

    def _grid(self, known: _Known, step: int, file: Path) -> None:
        if known.grids is None:
            known.grids = grids.logged(self.client, known.run_id)
        unfinished = known.grids.get(step, "")
        if unfinished is None:
            return
        grids.log(self.client, known.run_id, step, file, unfinished)
        self.client.set_tag(known.run_id, MLFLOW_LOGGED_IMAGES, True)
        known.grids[step] = None

    def _artifact(self, known: _Known, name: str, file: Path) -> None:
        self.client.log_artifact(known.run_id, str(file), str(Path(name).parent) if "/" in name else None)

    def _first(self, known: _Known, name: str, file: Path) -> None:
        """Logs a file as an artifact; once there is a generator, an existing artifact of this name is kept."""
        finished = GENERATOR_SHA256 in self.client.get_run(known.run_id).data.tags
        existing = self.client.list_artifacts(known.run_id, str(Path(name).parent)) if finished else []
        if not any(item.path == name for item in existing):
            self._artifact(known, name, file)

    def _dataset(self, known: _Known, about: Mapping[str, str]) -> None:
        dataset = Dataset(about["name"], about["digest"], "local", about["source"], profile=about["profile"])
        self.client.log_inputs(known.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def _models(self, known: _Known, generator: Path) -> None:
        """Logs the models of this generator that the run lacks, and deletes partly logged models."""
        digest, logged = sha256(generator), set()
        for model in self.client.search_logged_models([self.experiment], f"source_run_id = '{known.run_id}'"):
            if model.status != LoggedModelStatus.READY:
                with contextlib.suppress(MlflowException):  # on a shared server, not every user may delete
                    self.client.delete_logged_model(model.model_id)
            elif model.tags.get(GENERATOR_SHA256) == digest:
                logged.add(model.name)
        missing = [name for name in models.NAMES if name not in logged]
        models.log(known.run_id, generator, missing, {GENERATOR_SHA256: digest})

    def _describe(self, known: _Known, about: Description) -> None:
        """Writes the description, unless the run has one that is not that of a run before its evaluation.

        Somebody may have written there. The words {run} and {pictures_of} become the ids of the run, and of the run
        that has the pictures of its generator.
        """
        tags = self.client.get_run(known.run_id).data.tags
        if UNEVALUATED in tags.get(MLFLOW_RUN_NOTE, UNEVALUATED):
            pictures_of = tags.get(TRAINED_IN, known.run_id)
            note = about.note.replace("{run}", known.run_id).replace("{pictures_of}", pictures_of)
            self.client.set_tag(known.run_id, MLFLOW_RUN_NOTE, note)

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
        if GENERATOR_SHA256 in run.data.tags:  # a later failure, such as a full disk, does not change the result
            status = "FINISHED"
        if run.info.status != status:
            self.client.set_terminated(known.run_id, status, about.ended or None)


def _point_id(key: str, step: int, at: int) -> tuple[int, int | None]:
    """The identity of a point of a curve: its step, and for the machine's load also its time.

    The steps of the load are seconds since the start of a process, and a resumed training starts at 0 again.
    """
    return step, at if key.startswith("system/") else None


def _lasts(error: Exception) -> bool:
    """Whether the error would occur again, because its cause is the item, not the network, the disk or the database."""
    if isinstance(error, MlflowException):
        return error.error_code in _REFUSED
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return 400 <= error.response.status_code < 500 and error.response.status_code not in _LATER
    at_fault = (UserError, ValueError, TypeError, KeyError, AttributeError)
    return isinstance(error, at_fault) and not isinstance(error, OSError)
