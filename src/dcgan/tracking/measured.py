"""The runs that DVC or MLflow list, each with its settings, its metrics, and how these were measured."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dcgan.metrics.names import SETTINGS
from dcgan.system.errors import UserError
from dcgan.system.project_files import FACES, METRICS
from dcgan.tracking.metric_groups import current, plain_names
from dcgan.tracking.repository import git
from dcgan.tracking.run_folder import PROTOCOL

SEED = "seed"
CODE = "code"  # a setting beside the parameters: hash of the code that trained
FINISHED = "finished"
# The code that measures. What else a measurement imports builds or runs the generator.
_MEASURING = ("src/dcgan/metrics/", "pipeline/")


@dataclass(frozen=True)
class Measured:
    """A run."""

    name: str
    state: str = FINISHED  # or failed, running, queued, killed, ...
    settings: Mapping[str, str] = field(default_factory=dict)  # what decides the result, but for the seed
    seed: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)  # empty if nothing was measured
    protocol: Mapping[str, str] = field(default_factory=dict)  # what two runs must share to be comparable
    aliases: tuple[str, ...] = ()  # other names that a user may give it


def protocol(metrics: Mapping[str, Any], lock: Mapping[str, Any]) -> dict[str, str]:
    """What two runs must share to be comparable, and `CODE`.

    Args:
        metrics: content of metrics.json. Its results are floats, or None where there is no result, and the verdict
            on copies; all else but the seed says how they were measured.
        lock: entries of dvc.lock, by stage.
    """
    told = "sampling_seed", "copies_verdict"
    how = {name: value for name, value in current(metrics).items() if not isinstance(value, float) and name not in told}
    measuring = {path: md5 for stage in ("reference", "evaluate") for path, md5 in _deps(lock, stage).items()}
    faces = {"faces": measuring[str(FACES)]} if str(FACES) in measuring else {}
    return as_texts(how) | faces | _hash("evaluation_code", measuring, _MEASURING) | training_code(lock)


def training_code(lock: Mapping[str, Any]) -> dict[str, str]:
    """`CODE` and the hash of the code that trained; nothing if `lock`, the entries of dvc.lock, does not list it."""
    return _hash(CODE, _deps(lock, "train"), ("src/", "pipeline/"))


def _hash(name: str, deps: Mapping[str, str], folders: tuple[str, ...]) -> dict[str, str]:
    code = sorted((path, md5) for path, md5 in deps.items() if path.startswith(folders))
    return {name: hashlib.sha256(json.dumps(code).encode()).hexdigest()[:7]} if code else {}


def _deps(lock: Mapping[str, Any], stage: str) -> dict[str, str]:
    return {dep["path"]: dep.get("md5", "") for dep in lock.get(stage, {}).get("deps", [])}


def as_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """The values as texts, equal if they mean the same: 64 and 64.0, true and "True". None and "" are left out."""
    return {name: _text(value) for name, value in values.items() if value is not None and value != ""}


def _text(value: Any) -> str:
    if isinstance(value, bool) or value in ("True", "False"):
        return str(value).lower()
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True)
    try:
        number = float(value)  # dvc.lock and MLflow may hold 1e-05 as text
    except ValueError:
        return str(value)
    return str(int(number)) if number.is_integer() else repr(number)


def of_dvc(root: Path, all_commits: bool = False) -> list[Measured]:
    """The experiments that `dvc exp show` lists, and the commits that they started from.

    What made a result is taken from the commit's dvc.lock, since its params.yaml may have been edited afterwards.

    Args:
        root: the project's folder.
        all_commits: all commits with their experiments; otherwise HEAD's.

    Raises:
        UserError: DVC failed.
    """
    words = [sys.executable, "-m", "dvc", "exp", "show", "--json", "--hide-workspace"]
    words += ["--all-commits"] if all_commits else []
    shown = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    if shown.returncode:
        raise UserError(f"compare: dvc exp show failed: {' '.join(shown.stderr.split())[-300:]}")
    runs = []
    for baseline in json.loads(shown.stdout):
        if recorded := _recorded(root, baseline["rev"], baseline["name"] or baseline["rev"][:7]):
            runs.append(recorded)
        for experiment in baseline["experiments"] or []:
            last = experiment["revs"][0]
            name = experiment["name"] or last["name"] or last["rev"][:7]
            state = (experiment["executor"] or {}).get("state", "success")
            finished = _recorded(root, last["rev"], name) if state == "success" else None
            without = Measured(name, FINISHED if state == "success" else state, aliases=_short(last["rev"]))
            runs.append(finished or without)
    return runs


def _recorded(root: Path, revision: str, name: str) -> Measured | None:
    """What a commit records; None if it has no dvc.lock. Metrics of another result than dvc.lock's do not count."""
    lock, metrics = (git(root, "show", f"{revision}:./{file}") for file in ("dvc.lock", METRICS))
    if lock.returncode:
        return None
    stages: dict[str, Any] = yaml.load(lock.stdout, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]
    params: dict[str, Any] = {}
    for stage in _made_by(stages, "evaluate"):
        params |= stages[stage].get("params", {}).get("params.yaml", {})
    seed = str(params.pop(SEED, ""))
    about = Measured(name, FINISHED, as_texts(params) | training_code(stages), seed, aliases=_short(revision))
    md5 = hashlib.md5(metrics.stdout.encode()).hexdigest()
    if metrics.returncode or not params or _outs(stages, "evaluate").get(str(METRICS)) != md5:
        return about
    values = json.loads(metrics.stdout)
    how = protocol(values, stages)
    how.pop(CODE, None)
    return Measured(name, FINISHED, about.settings, seed, _results(values), how, about.aliases)


def _results(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in current(metrics).items() if isinstance(value, float)}


def _short(revision: str) -> tuple[str, ...]:
    return revision, revision[:7]


def _made_by(stages: Mapping[str, Any], last: str) -> list[str]:
    """The stages that lead to the stage `last`, with it; none if dvc.lock lists results that do not fit together."""
    maker = {path: name for name in stages for path in _outs(stages, name)}
    found, waiting = set[str](), [last] if last in stages else []
    while waiting:
        name = waiting.pop()
        found.add(name)
        for path, md5 in _deps(stages, name).items():
            if path in maker:
                if _outs(stages, maker[path])[path] != md5:
                    return []
                waiting += {maker[path]} - found
    return sorted(found)


def _outs(stages: Mapping[str, Any], stage: str) -> dict[str, str]:
    return {out["path"]: out.get("md5", "") for out in stages[stage].get("outs", [])}


def of_mlflow(root: Path) -> list[Measured]:
    """The runs of the project's experiment in MLflow, oldest first.

    Raises:
        UserError: MLflow cannot be reached.
    """
    from dcgan.tracking.connection import connect
    from dcgan.tracking.reproduce import asking

    with asking():
        return of_experiment(*connect(root))


def of_experiment(client: Any, experiment: str) -> list[Measured]:
    """The runs of an experiment of the store that an MlflowClient is connected to, oldest first."""
    return [_of_run(run) for run in _all_runs(client, experiment)]


def _all_runs(client: Any, experiment: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment], order_by=["start_time"], page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _of_run(run: Any) -> Measured:
    params, tags = dict(run.data.params), run.data.tags
    seed = params.pop(SEED, "")
    how = current(json.loads(tags[PROTOCOL])) if PROTOCOL in tags else {}
    code = {CODE: how.pop(CODE)} if CODE in how else {}
    # Runs of older versions have only the parameters of the evaluation.
    asked = {name: params[key] for key, name in SETTINGS.items() if key in params}
    return Measured(
        run.info.run_name,
        run.info.status.lower(),
        as_texts(params) | code,
        seed,
        plain_names(run.data.metrics),
        as_texts(asked) | how,
        (run.info.run_id, run.info.run_id[:8]),
    )
