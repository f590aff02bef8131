"""Registered models in MLflow: their names, and search for their versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fade.data.vocabulary import slug
from tasks.registry.connection import Tracking, registry_errors

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel


def model_name(prefix: str, concept: str) -> str:
    """``("fade", "Grinning cat")`` -> ``"fade-grinning-cat"``."""
    return f"{prefix}-{slug(concept)}"


def ensure_model(tracking: Tracking, name: str, **facts: Any) -> None:
    """Register the model ``name``, unless it exists. Raises MLflow's exceptions (see `registry_errors`)."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

    try:
        tracking.client.create_registered_model(name, **facts)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def set_tags(tracking: Tracking, version: ModelVersion, tags: Mapping[str, str]) -> None:
    """Write tags of a version. Raises RegistryError."""
    with registry_errors(tracking.address):
        for key, value in tags.items():
            tracking.client.set_model_version_tag(str(version.name), str(version.version), key, value)


def search_versions(tracking: Tracking, filter_string: str | None = None) -> list[ModelVersion]:
    """The versions that match an MLflow filter, newest first. Raises RegistryError."""
    versions = _pages(tracking, tracking.client.search_model_versions, filter_string, 10_000)
    return sorted(versions, key=lambda version: (-int(version.version), version.name))


def search_models(tracking: Tracking, filter_string: str | None = None) -> list[RegisteredModel]:
    """The registered models that match an MLflow filter. Raises RegistryError."""
    return _pages(tracking, tracking.client.search_registered_models, filter_string, 1000)


def _pages(tracking: Tracking, search: Callable[..., Any], filter_string: str | None, size: int) -> list[Any]:
    with registry_errors(tracking.address):
        page = search(filter_string, max_results=size)
        results = list(page)
        while page.token:
            page = search(filter_string, max_results=size, page_token=page.token)
            results += page
    return results


def all_versions(tracking: Tracking, name: str) -> list[ModelVersion]:
    """Every version of the model ``name``, newest first; empty when there is none. Raises RegistryError."""
    return search_versions(tracking, f"name = '{name}'")
