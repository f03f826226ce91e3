"""What has changed since a stage took in its inputs, and how to go on."""

from __future__ import annotations

import hashlib
import subprocess
from datetime import datetime
from typing import NamedTuple

from dcgan.params import override_value, overrides, parse
from dcgan.system.errors import UserError
from pipeline.support.dvc_files import ROOT, outs_of, stages
from pipeline.support.inputs import Inputs, take


class Change(NamedTuple):
    """An input of a stage that changed while the stage was running."""

    what: str
    before: str
    now: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} changed from {self.before} to {self.now}"


def first_change(taken: Inputs) -> Change | None:
    """The first input that differs from what was taken in; None if there is none."""
    now = take(taken.stage)
    return _params(taken, now) or _code(taken, now) or _data(taken, now) if now != taken else None


def _choice(back: str) -> str:
    return f"run `dvc repro` for the result with this change, or {back} for the one without it"


def _params(taken: Inputs, now: Inputs) -> Change | None:
    if now.params == taken.params:
        return None
    before = parse(taken.params)
    try:
        present = parse(now.params)
    except UserError:
        return Change("params.yaml", "valid", "not valid", "correct it and run `dvc repro`")
    old, new = before.model_dump(), present.model_dump()
    for key in stages()[taken.stage].get("params", []):
        if old[key] != new[key]:
            back = " ".join(["dvc exp run", *(f"-S {override}" for override in overrides(present, before))])
            values = override_value(old[key]), override_value(new[key])
            return Change(f"params.yaml: {key}", values[0], values[1], _choice(f"`{back}`"))
    return None


def _code(taken: Inputs, now: Inputs) -> Change | None:
    for path, md5 in taken.code.items():
        if now.code[path] != md5:
            shown = subprocess.run(["git", "show", f"HEAD:./{path}"], cwd=ROOT, capture_output=True, check=False).stdout
            committed = hashlib.md5(shown).hexdigest() == md5
            back = f"`git checkout HEAD -- {path} && dvc repro`" if committed else "restore it and run `dvc repro`"
            present = f"MD5 {now.code[path][:8]}" if now.code[path] else "missing"
            return Change(path, f"MD5 {md5[:8]}", present, _choice(back))
    return None


def _data(taken: Inputs, now: Inputs) -> Change | None:
    made = {out for stage in stages() for out in outs_of(stage)}
    for dep, before in taken.data.items():
        for path in sorted({*before, *now.data[dep]}):
            old, new = before.get(path), now.data[dep].get(path)
            if old != new:
                again = "run `dvc repro`, which makes it again" if dep in made else None
                return Change(path, _shown(old), _shown(new), again or _choice("restore it and run `dvc repro`"))
    return None


def _shown(file: list[int] | None) -> str:
    return f"{file[0]:,} bytes of {datetime.fromtimestamp(file[1] / 1e9):%H:%M:%S.%f}" if file else "missing"
