"""params.yaml and the presets, read, checked and written.

A stage validates the whole file and receives only its own section (`Params.section`).
"""

from __future__ import annotations

import io
import itertools
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from dcgan.combinations import impossible
from dcgan.schema import Params
from dcgan.system.errors import UserError
from dcgan.system.files import atomic


def validate(values: Any, file: str = "params.yaml") -> Params:
    """Checks `values`, the content of a parameter file, and returns the parameters.

    Args:
        file: name of the file, for the error message.

    Raises:
        UserError: the message has one line for each wrong key, with the key, its value and what is allowed. If only a
            combination of keys is wrong, it has one line about the combination.
    """
    if not isinstance(values, dict):
        raise UserError(f"{file}: it holds no keys; restore the committed file with `git checkout {file}`.")
    try:
        params = Params(**{str(key): value for key, value in values.items()})
    except ValidationError as error:
        raise UserError("\n".join(f"{file}: {_sentence(dict(e))}" for e in error.errors())) from None
    if problem := impossible(params):
        raise UserError(f"{file}: {problem}")
    return params


def _sentence(error: dict[str, Any]) -> str:
    key = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"{key}: there is no such parameter; remove it, or use one of {', '.join(Params.model_fields)}."
    allowed = _allowed(Params.model_fields[key])
    if error["type"] == "missing":
        return f"{key}: the key is missing; set it to {allowed}."
    if error["input"] is None:
        return f"{key}: it is empty; give {allowed}."
    return f"{key}: {error['input']!r} is not allowed; give {allowed}."


def _allowed(field: FieldInfo) -> str:
    """Describes in words which values a field accepts."""
    choices = get_args(field.annotation) if get_origin(field.annotation) in (Union, types.UnionType) else ()
    kind = choices[0] if choices else field.annotation
    empty = ", or leave it empty" if choices else ""
    if get_origin(kind) is Literal:
        *others, last = map(str, get_args(kind))
        return f"{', '.join(others)} or {last}{empty}"
    if kind is bool:
        return "true or false"
    low = next((f"of at least {m.ge}" for m in field.metadata if isinstance(m, Ge)), None) or next(
        f"above {m.gt}" for m in field.metadata if isinstance(m, Gt)
    )
    high = next((f"at most {m.le}" for m in field.metadata if isinstance(m, Le)), None) or next(
        f"below {m.lt}" for m in field.metadata if isinstance(m, Lt)
    )
    return f"a {'whole ' if kind is int else ''}number {low} and {high}{empty}"


def _yaml() -> YAML:
    # DVC also uses ruamel.yaml for params.yaml, so the same text has the same meaning here and in DVC.
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", ""))
    return yaml


def _read(path: Path) -> Any:
    try:
        return _parse(path.read_text(), path.name)
    except FileNotFoundError:
        raise UserError(f"{path.name}: there is no such file; restore it with `git checkout {path.name}`.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name}: it is not valid YAML: {error}; correct the file.") from None


def _parse(text: str, file: str) -> Any:
    try:
        return _yaml().load(text)
    except (YAMLError, ValueError) as error:  # ValueError: an invalid date or number
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        what = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise UserError(f"{file}: it is not valid YAML{where}: {what}; correct the file.") from None


def parse(text: str, file: str = "params.yaml") -> Params:
    """Checks the text of a parameter file, and returns the parameters.

    Args:
        file: name of the file, for the error message.

    Raises:
        UserError: the text is not YAML, or `validate` rejects its content.
    """
    return validate(_parse(text, file), file)


def load(path: Path) -> Params:
    """Reads and checks params.yaml.

    Raises:
        UserError: the file is missing, is not YAML, or `validate` rejects its content.
    """
    return validate(_read(path), path.name)


def preset_names(presets: Path) -> list[str]:
    return sorted(path.stem for path in presets.glob("*.yaml"))


def describe_presets(presets: Path) -> dict[str, str]:
    """Returns the comment at the head of each preset, by the name of the preset."""
    return {
        name: " ".join(
            line.removeprefix("#").strip()
            for line in itertools.takewhile(
                lambda line: line.startswith("#"), (presets / f"{name}.yaml").read_text().splitlines()
            )
        )
        for name in preset_names(presets)
    }


def load_preset(presets: Path, name: str) -> Params:
    """Reads and checks `presets/NAME.yaml`.

    Raises:
        UserError: there is no such preset.
    """
    if name not in preset_names(presets):
        raise UserError(f"preset: there is no preset {name!r}; give one of {', '.join(preset_names(presets))}.")
    return load(presets / f"{name}.yaml")


def write_preset(path: Path, preset: Params) -> None:
    """Writes every value of `preset` into the params.yaml at `path`, and keeps the comments there."""
    document = _read(path)
    if not isinstance(document, dict) or set(document) != set(Params.model_fields):
        validate(document, path.name)  # raises an error that names the missing or unknown key
    for key, value in preset.model_dump().items():
        document[key] = value
    text = io.StringIO()
    _yaml().dump(document, text)
    with atomic(path) as temporary:
        temporary.write_text(text.getvalue())


def overrides(present: Params, preset: Params) -> list[str]:
    """Returns the changes that turn `present` into `preset`, each as `key=value` for `dvc exp run -S`."""
    old, new = present.model_dump(), preset.model_dump()
    return [f"{key}={override_value(value)}" for key, value in new.items() if old[key] != value]


def override_value(value: Any) -> str:
    """Returns a value as `dvc exp run -S` takes it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
