"""The parameters of a run beside those of the nearest preset, and the command that rebuilds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How a run was made.

    Args:
        preset: name of the preset that differs in the fewest parameters.
        changed: for each parameter that differs from it, the value of the preset and that of the run.
        same: the other parameters.
    """

    preset: str
    changed: dict[str, tuple[str, str]]
    same: dict[str, str]

    def commands(self) -> list[str]:
        """The commands that make the run again, in a clone of the project."""
        if not self.changed:
            return [f"make repro PRESET={self.preset}"]
        overrides = (f"-S {key}={value or 'null'}" for key, (_, value) in self.changed.items())
        return [f"dcgan preset {self.preset}", " ".join(["dvc exp run", *overrides])]


def recipe(params: Values, presets: Mapping[str, Values]) -> Recipe:
    """Compares all parameters of a run with those of each preset; of two that are as near, takes the first by name."""

    def changed(name: str) -> dict[str, tuple[str, str]]:
        return {
            key: (text(presets[name][key]), text(params[key])) for key in params if presets[name][key] != params[key]
        }

    nearest = min(sorted(presets), key=lambda name: len(changed(name)))
    differing = changed(nearest)
    return Recipe(nearest, differing, {key: text(value) for key, value in params.items() if key not in differing})


def text(value: Any) -> str:
    """A value as params.yaml has it; empty for None."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
