"""Reads a YAML document into a pydantic model and reports every problem at once.

The producer and the trainer have different configurations but one way of reading them: defaults in the model, a file,
then `--set a.b=value`. An unknown key is an error that names the nearest known one, since an option that is silently
ignored is the worst kind.
"""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas import redaction
from schemas.errors import ConfigurationError

TAG = "kind"  # tells the branches of a union apart, wherever there is one


class Strict(BaseModel):
    """A configuration node: unknown keys are errors, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


def load(model: type[Model], path: str | Path | None, overrides: Sequence[str] = ()) -> Model:
    """The validated configuration of a YAML file with `a.b=value` overrides applied.

    Raises:
      ConfigurationError: one message with every problem, one a line, each with the path of its key.
    """
    document = {} if path is None else read_document(Path(path))
    for override in overrides:
        apply_override(document, override)
    return validate(model, document, source=str(path) if path else "the command line")


def read_document(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"configuration {path} cannot be read: {error.strerror}; give a readable file with --config"
        raise ConfigurationError(message) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"configuration {path} is not UTF-8 text: {error}") from error
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"configuration {path} is not valid YAML: {_of_yaml(error)}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigurationError(
            f"configuration {path} must be a mapping of keys; it holds a {type(document).__name__}"
        )
    return document


def _of_yaml(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the line itself, in which a password may stand."""
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or "it cannot be read"
    return f"line {mark.line + 1}, column {mark.column + 1}: {what}" if mark else str(what)


def apply_override(document: dict[str, Any], override: str) -> None:
    """Sets one `a.b.c=value` in place; the value is read as YAML, list positions are numbers."""
    name, separator, text = override.partition("=")
    if not separator or not name.strip():
        raise ConfigurationError(f"--set expects a.b=value; it got {redaction.text(override)!r}")
    try:
        value = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        shown = redaction.HIDDEN if redaction.is_secret_name(name) else repr(redaction.text(text))
        raise ConfigurationError(f"--set {name}: the value {shown} is not valid YAML") from None
    *parents, last = name.strip().split(".")
    node: Any = document
    for parent in parents:
        if isinstance(node, list):
            node = _list_entry(node, parent, override)
            continue
        if not isinstance(node.get(parent), dict | list):
            node[parent] = {}
        node = node[parent]
    if isinstance(node, list):
        _list_entry(node, last, override)
        node[int(last)] = value
    else:
        node[last] = value


def _list_entry(node: list[Any], position: str, override: str) -> Any:
    if not position.isdecimal() or int(position) >= len(node):
        raise ConfigurationError(
            f"--set {redaction.text(override)}: expected a position below {len(node)}, got {position!r}"
        )
    return node[int(position)]


def validate(model: type[Model], document: dict[str, Any], source: str) -> Model:
    """`document` as `model`, or one ConfigurationError with every problem in it."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = [_explain(model, problem) for problem in error.errors()]
    count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
    raise ConfigurationError(f"{source}: {count} in the configuration\n" + "\n".join(f"  {text}" for text in problems))


def _explain(model: type[BaseModel], problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    path, _ = _followed(model, location)
    where = ".".join(path) or "configuration"
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key{_nearest(location[-1], _known_keys(model, location[:-1]))}"
    if problem["type"] == "union_tag_invalid":
        given, known = problem["ctx"]["tag"], problem["ctx"]["expected_tags"].replace("'", "").split(", ")
        return f"{where}.{TAG}: unknown {given!r}{_nearest(given, known)}"
    if problem["type"] == "missing":
        return f"{where}: required, but missing"
    if problem["type"] == "value_error":
        return f"{where}: {problem['ctx']['error']}"
    value = redaction.HIDDEN if redaction.is_secret_name(where) else redaction.document(problem.get("input"))
    shown = "" if isinstance(value, dict) else f" (got {value!r})"
    return f"{where}: {problem['msg'][0].lower()}{problem['msg'][1:]}{shown}"


def _nearest(given: str, known: list[str]) -> str:
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def _known_keys(model: Any, location: Iterable[str]) -> list[str]:
    """Keys allowed at a location of error."""
    names: list[str] = []
    for candidate in _followed(model, location)[1]:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            names.extend(field.alias or name for name, field in candidate.model_fields.items())
    return list(dict.fromkeys(names))


def _followed(model: Any, location: Iterable[str]) -> tuple[list[str], list[Any]]:
    """The keys a person would write for a location of error, and the models it leads to.

    pydantic names the branch of a tagged union as if it were a key; it picks the branch here and is no part of the
    path. Other unions' branches and dict keys are passed through.
    """
    path: list[str] = []
    candidates = [model]
    for part in location:
        branch = [candidate for candidate in candidates if part in _tags(candidate)]
        if branch and not any(part in _fields(candidate) for candidate in candidates):
            candidates = branch
            continue
        path.append(part)
        reached: list[Any] = []
        for candidate in candidates:
            field = _fields(candidate).get(part)
            reached.extend([candidate] if field is None else _models_within(field.annotation))
        candidates = reached or candidates
    return path, candidates


def _fields(model: Any) -> dict[str, Any]:
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return {}
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _tags(model: Any) -> tuple[Any, ...]:
    """The values of the key that tells the branches of a tagged union apart."""
    field = _fields(model).get(TAG)
    return get_args(field.annotation) if field is not None else ()


def _models_within(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_within(argument)]
