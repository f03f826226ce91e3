"""MLflow's model registry: each evaluated generator is a version; the champion has the smallest distance."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from dcgan.tracking.run_folder import GENERATOR_SHA256

CHAMPION = "champion"
_ABOUT = (
    "Generators of faces, trained as DCGANs. The alias `champion` is the version with the smallest distance among all "
    "that were measured with the champion's protocol. To use another protocol, move the alias by hand."
)


def protocol_id(protocol: Mapping[str, str]) -> str:
    """A short hash of a protocol, the values that two distances must have in common to be comparable."""
    return hashlib.sha256(json.dumps(dict(protocol), sort_keys=True).encode()).hexdigest()[:12]


def register(
    client: MlflowClient,
    name: str,
    model: LoggedModel,
    run: Run,
    metric: str,
    distance: float,
    protocol: Mapping[str, str],
    card: str,
) -> None:
    """Registers the generator as a version of `name`, unless it already is one, and adds its distance as a tag.

    Moves the alias `champion` to the version with the smallest distance in the champion's protocol. Versions whose run
    or model was deleted, as by `mlflow gc`, are removed if they are this generator's or would be the champion.

    Args:
        client: client of the tracking store.
        name: name of the registered model.
        model: the logged model of the generator.
        run: run in which the generator was evaluated.
        metric: name of the distance.
        distance: the measured distance.
        protocol: values that two distances must have in common to be comparable.
        card: the model card in Markdown, used as description of a new version.
    """
    try:
        client.create_registered_model(name, description=_ABOUT)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    sha, measured_by = model.tags[GENERATOR_SHA256], protocol_id(protocol)
    same = [version for version in _versions(client, name) if version.tags.get(GENERATOR_SHA256) == sha]
    version = next((version for version in same if _kept(client, version)), None)
    if version is None:
        tags = {GENERATOR_SHA256: sha, "protocol": measured_by, "metric": metric}
        version = client.create_model_version(
            name, f"models:/{model.model_id}", run.info.run_id, tags, description=card, model_id=model.model_id
        )
    client.set_model_version_tag(name, version.version, _key(measured_by), str(distance))
    champion = _champion(client, name)
    counts = _key(champion.tags.get("protocol", measured_by) if champion else measured_by)
    if champion and not _kept(client, champion):
        champion = None
    measured = [version for version in _versions(client, name) if counts in version.tags]
    for best in sorted(measured, key=lambda version: (float(version.tags[counts]), int(version.version))):
        if champion and float(best.tags[counts]) >= float(champion.tags.get(counts, "inf")):
            return
        if _kept(client, best):
            client.set_registered_model_alias(name, CHAMPION, best.version)
            return


def _kept(client: MlflowClient, version: ModelVersion) -> bool:
    """Whether the run and the model of a version still exist; if not, removes the version, with its alias.

    A version that was not registered here is left alone, and so is one that this user may not delete.
    """
    if GENERATOR_SHA256 not in version.tags:
        return True
    try:
        client.get_run(version.run_id)
        client.get_logged_model(version.source.removeprefix("models:/"))
        return True
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    with contextlib.suppress(MlflowException):
        client.delete_model_version(version.name, version.version)
    return False


def _key(protocol: str) -> str:
    return f"distance.{protocol}"


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    versions: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        versions += page
        token = page.token
        if not token:
            return versions


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
