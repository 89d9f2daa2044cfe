"""The snapshot in force, as the metadata and health calls of both protocols see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway._fast.served import ServedModel, ServedVersion
from gateway.core.errors import ModelNotFound, VersionNotFound
from gateway.serving.model_directory import ModelDescription


class ServedDirectory:
    """A :class:`gateway.serving.model_directory.ModelDirectory` over what the pipeline serves."""

    def __init__(self, *, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready
        self._models: Mapping[str, ServedModel] = {}

    def adopt(self, models: Mapping[str, ServedModel]) -> None:
        """Describe these models from now on."""
        self._models = models

    def live(self) -> bool:
        """The process answers."""
        return True

    def ready(self) -> bool:
        """Every version was tried and the server is not stopping."""
        return self._is_ready()

    def models(self) -> list[str]:
        """Names of the models that are served."""
        return sorted(self._models)

    def model_ready(self, model: str, version: str) -> bool:
        """Whether inference may be sent there; unknown names are not ready."""
        served = self._models.get(model)
        return served is not None and self._is_ready() and (not version or _find(served, version) is not None)

    def describe(self, model: str, version: str) -> ModelDescription:
        """What the version (or label; empty: the default one) takes and gives.

        Raises ModelNotFound, VersionNotFound.
        """
        served = self._models.get(model)
        if served is None:
            raise ModelNotFound(f"Request for unknown model: '{model[:200]}' is not found")
        chosen = served.default if not version else _find(served, version)
        if chosen is None:
            raise VersionNotFound(f"Request for unknown model: '{model}' version {version[:200]} is not found")
        names = sorted((name.decode() for name in served.versions), key=_version_order)
        return ModelDescription(
            name=model,
            versions=(chosen.version,) if version else tuple(names),
            inputs=tuple(chosen.inputs.specs),
            outputs=tuple(chosen.outputs),
        )


def _find(model: ServedModel, version: str) -> ServedVersion | None:
    name = version.encode()
    return model.versions.get(name) or model.labels.get(name)


def _version_order(version: str) -> tuple[int, int, str]:
    return (0, int(version), "") if version.isdigit() else (1, 0, version)
