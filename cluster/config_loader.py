"""Read a ClusterConfig from a file, the environment and the command line; explain what is wrong in sentences."""

import difflib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from cluster.config import ClusterConfig
from workers.contract.errors import ConfigurationError

M = TypeVar("M", bound=BaseModel)

ENV_PREFIX = "OUTRIDER_"
ENV_SEPARATOR = "__"
"""``OUTRIDER_TARGET__TP=3`` sets ``target.tp``. Variables without the separator are not settings."""


def load_config(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> ClusterConfig:
    """Return the settings of ``path``, with ``environ`` over the file and ``overrides`` over both.

    ``overrides`` is a nested mapping like the file; None values in it are taken as not given.

    Raises:
        ConfigurationError: The file cannot be read, or a value or key is wrong; says which and how to mend it.
    """
    values = read_file(path) if path is not None else {}
    values = merge(values, from_environment(environ or {}))
    values = merge(values, overrides or {})
    return parse_config(values)


def parse_config(values: Mapping[str, Any]) -> ClusterConfig:
    """Validate a nested mapping.

    Raises:
        ConfigurationError: One line for each wrong key or value.
    """
    try:
        return ClusterConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(explain(error, ClusterConfig)) from None


def read_file(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        ConfigurationError: There is no such file, or it holds no YAML mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read the settings file {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"the settings file {path} is not valid YAML: {reason}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigurationError(f"the settings file {path} must hold a mapping, not a {type(values).__name__}")
    return values


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings among environment variables, nested; values are read as YAML scalars."""
    nested: dict[str, Any] = {}
    for name, text in environ.items():
        path = name.removeprefix(ENV_PREFIX).lower().split(ENV_SEPARATOR)
        if not name.startswith(ENV_PREFIX) or len(path) < 2:
            continue
        try:
            value: Any = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigurationError(f"the value of the environment variable {name} is not valid YAML") from None
        for key in reversed(path):
            value = {key: value}
        nested = merge(nested, value)
    return nested


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the leaves of ``over`` put in its place; None in ``over`` leaves the base."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping):
            merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return one sentence per mistake, naming the key by its dotted path."""
    return "\n".join(_sentence(item, model) for item in error.errors(include_url=False))


def validated(kind: type[M], **values: object) -> M:
    """Return a model of the values that are given, those that are not None.

    Raises:
        ConfigurationError: one sentence per mistake.
    """
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise ConfigurationError(explain(error, kind)) from None


def _sentence(item: Any, model: type[BaseModel]) -> str:
    path = [str(part) for part in item["loc"]]
    dotted = ".".join(path) or "settings"
    if item["type"] == "extra_forbidden":
        known = _fields_at(model, path[:-1])
        close = difflib.get_close_matches(path[-1], known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known keys: {', '.join(sorted(known))}"
        return f"unknown key {dotted}: {hint}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{dotted}: {message}"
    return f"{dotted}: {message[0].lower()}{message[1:]}, got {item['input']!r}"


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Return the keys that the model nested at ``path`` knows."""
    for key in path:
        field = model.model_fields.get(key)
        inner = field.annotation if field else None
        candidates = [inner, *typing.get_args(inner)]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), BaseModel)
    return list(model.model_fields)
