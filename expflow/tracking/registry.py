"""Models in MLflow's registry: a logged model becomes a version of a registered one, once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expflow.errors import ServerUnreachable, UserError
from expflow.ledger import read
from expflow.tracking.exported_models import ExportedModel
from expflow.tracking.ledger_translator import LedgerTranslator
from expflow.tracking.logged_models import find_model
from expflow.tracking.store import bounded_environment, connect, errors_as_unreachable, public_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

_NAME = re.compile(r"[\w\-. ]*\w[\w\-. ]*")
_ALIAS = re.compile(r"(?!(?:latest|v\d+)\Z)[A-Za-z0-9_\-]{1,255}", re.IGNORECASE)


@dataclass(frozen=True)
class RegistryName:
    """What a model is called in the registry.

    Attributes:
        name: The registered model's name.
        alias: The alias that the version gets; empty for none.
    """

    name: str
    alias: str = ""

    @property
    def address(self) -> str:
        """What MLflow's ``load_model`` takes, where there is an alias."""
        return f"models:/{self.name}@{self.alias}"


@dataclass(frozen=True)
class RegisteredVersion:
    """A model in the registry.

    Attributes:
        version: Its version.
        created: Whether there was none of this model before.
        address: What MLflow's ``load_model`` takes.
    """

    version: str
    created: bool
    address: str


def parse_registry_name(text: str) -> RegistryName:
    """Read ``NAME`` or ``NAME@alias``.

    Args:
        text: What the user wrote.

    Raises:
        UserError: MLflow's registry takes no such name or alias.
    """
    name, mark, alias = text.partition("@")
    if not _NAME.fullmatch(name):
        raise UserError(
            f"--register {text}: a model's name has letters, digits, spaces and - _ . in it, such as digits"
        )
    if mark and not _ALIAS.fullmatch(alias):
        raise UserError(
            f"--register {text}: an alias has letters, digits, - and _ in it, such as {name}@champion; `latest` and "
            "`v1` mean something else to MLflow"
        )
    return RegistryName(name, alias)


def register_model(
    folder: Path, uri: str, export: ExportedModel, name: RegistryName, description: str
) -> RegisteredVersion:
    """Register the logged model of an export. Where it is a version already, that gets this description and alias.

    Args:
        folder: The experiment's folder, with whose ledger the store is up to date.
        uri: The address of the MLflow store.
        export: The export.
        name: What it is to be called.
        description: What the version's page says, as Markdown.

    Raises:
        ServerUnreachable: The store does not take it, or has no such model.
    """
    translator = LedgerTranslator()
    for record in read(folder):
        translator.apply(record)
        break  # the first header says which sweep it is
    with bounded_environment(), errors_as_unreachable(uri, f"registering {name.name}"):
        client = connect(uri)
        experiment = client.get_experiment_by_name(translator.header.name)
        model = experiment and find_model(client, experiment.experiment_id, translator.sweep_id, export)
        if not model:
            raise ServerUnreachable(
                f"MLflow at {public_uri(uri)} has no model of {folder.name}/{export.trial}: its run was deleted there"
            )
        version, created = _version(client, model, name.name, description)
        if name.alias:
            client.set_registered_model_alias(name.name, name.alias, version.version)
        address = name.address if name.alias else f"models:/{name.name}/{version.version}"
        return RegisteredVersion(str(version.version), created, address)


def _version(client: MlflowClient, model: LoggedModel, name: str, description: str) -> tuple[ModelVersion, bool]:
    """The version of a model, and whether it was made just now."""
    _ensure_registered(client, name)
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.model_id == model.model_id or version.tags.get("expflow.key") == model.tags["expflow.key"]:
            if version.description != description:
                client.update_model_version(name, version.version, description)
            return version, False
    made = client.create_model_version(
        name,
        model.artifact_location,
        run_id=model.source_run_id,
        tags=model.tags,
        description=description,
        model_id=model.model_id,
    )
    return made, True


def _ensure_registered(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
