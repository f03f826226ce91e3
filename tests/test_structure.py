"""The layout's rules: dvc.yaml against the real imports and parameters, sizes, and what is ignored."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from project import ROOT

from dcgan import params

STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

# Modules that a stage imports and that are no dependency of it, since they cannot change what it writes.
EXEMPT = {
    "src/dcgan/params.py": "only checks values; DVC compares the values themselves",
    "src/dcgan/tracking/events.py": "writes to MLflow alone",
    "src/dcgan/system/progress.py": "prints alone",
    "src/dcgan/data/fetching.py": "brings files that are verified by hash",
    "src/dcgan/system/workers.py": "starts processes; a test compares the bytes of one and of two",
    "src/dcgan/system/errors.py": "holds exceptions that end a stage",
    "pipeline/support/environment.py": "reads what cannot change an out",
    "pipeline/support/digests.py": "describes a run to MLflow, and tells trainings apart that are to be resumed",
    "pipeline/support/record.py": "writes to MLflow alone",
    "pipeline/support/training_run.py": "writes to MLflow alone",
    "pipeline/support/runtime.py": "writes to the git-ignored reports/runtime.json",
    "src/dcgan/system/stopwatch.py": "measures times alone",
    "pipeline/support/launch.py": "starts processes; a rank's own script is the same",
    "pipeline/support/signals.py": "ends a stage, or lets it save",
    "pipeline/support/stage.py": "turns errors into exit codes; a wrong path in it fails the stage",
    "pipeline/support/lineage.py": "describes a run to MLflow, and tells trainings apart that are to be resumed",
}
SECTIONS: dict[str, type[params.Section]] = {
    "inventory": params.InventoryParams,
    "download": params.DownloadParams,
    "weights": params.WeightsParams,
    "crop": params.CropParams,
    "train": params.TrainParams,
    "sample": params.SampleParams,
    "reference": params.ReferenceParams,
    "evaluate": params.EvaluateParams,
    "report": params.Section,
}
# A source of pictures is imported by the stages that fetch, and nowhere else.
SOURCES = {f"src/dcgan/data/sources/{name}.py" for name in ("avatars", "celeba", "cifar10", "folder", "lsun")}


def module_file(name: str) -> Path | None:
    """The file of a module of this project, or None."""
    for folder in ("src", "pipeline"):
        path = ROOT / folder / Path(*name.split("."))
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def imports(path: Path) -> set[Path]:
    """The project's files that a file imports, anywhere in it, packages on the way included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    names |= {name.rpartition(".")[0] for name in names if "." in name}
    return {file for name in names if (file := module_file(name))}


def has_code(path: Path) -> bool:
    """Whether a file holds more than a docstring: an `__init__.py` that hands names on does."""
    return any(not isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)


def closure(start: Path) -> set[str]:
    """All files that a stage's script imports, directly or not, but for those that are exempt."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        for file in imports(waiting.pop()) - seen:
            if str(file.relative_to(ROOT)) not in EXEMPT:
                seen.add(file)
                waiting.append(file)
    return {str(file.relative_to(ROOT)) for file in seen if has_code(file)}


@pytest.mark.parametrize("stage", STAGES)
def test_the_deps_are_the_code_that_is_imported(stage: str) -> None:
    script = f"pipeline/{stage}.py"
    code = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert code == closure(ROOT / script) | {script}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_handed_the_parameters_that_dvc_compares(stage: str) -> None:
    assert set(STAGES[stage].get("params", [])) == set(SECTIONS[stage].model_fields)
    script = (ROOT / "pipeline" / f"{stage}.py").read_text()
    assert f"run({SECTIONS[stage].__name__}, main)" in script


def test_every_parameter_belongs_to_a_stage() -> None:
    assert {key for stage in STAGES.values() for key in stage.get("params", [])} == set(params.Params.model_fields)


def test_sources_are_imported_by_the_fetching_stages_alone() -> None:
    for stage in set(STAGES) - {"inventory", "download"}:
        assert not SOURCES & closure(ROOT / "pipeline" / f"{stage}.py"), stage


def test_a_folder_says_what_it_is_and_at_most_hands_names_on() -> None:
    for path in [*(ROOT / "src").rglob("__init__.py"), ROOT / "pipeline" / "support" / "__init__.py"]:
        docstring, *rest = ast.parse(path.read_text()).body
        assert isinstance(docstring, ast.Expr), path
        assert all(isinstance(node, ast.ImportFrom) or ast.unparse(node).startswith("__all__") for node in rest), path


def test_the_library_knows_nothing_of_dvc_params_yaml_and_the_command_line() -> None:
    for path in (ROOT / "src" / "dcgan").rglob("*.py"):
        if path.name in ("__main__.py", "params.py", "reproduce.py"):
            continue
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert "argv" not in names, path
        assert not {file.name for file in imports(path)} & {"params.py", "stage.py", "lineage.py"}, path


def test_the_code_reads_in_an_evening() -> None:
    for path in (ROOT / "pipeline").glob("*.py"):
        assert len(path.read_text().splitlines()) < 80, path
    for path in (ROOT / "src").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path


def test_every_out_is_ignored_by_git_and_every_report_is_committed() -> None:
    for stage in STAGES.values():
        for out in stage.get("outs", []):
            ignored = subprocess.run(["git", "check-ignore", "-q", out], cwd=ROOT, check=False)
            assert ignored.returncode == 0, f"{out}: DVC would add it to .gitignore, and roll that back on a failure"
        for kept in (*stage.get("metrics", []), *stage.get("plots", [])):
            ((path, options),) = kept.items()
            assert options == {"cache": False}
            assert subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False).returncode == 1


def test_nothing_is_pickled() -> None:
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "pipeline").glob("*.py")]:
        text = path.read_text()
        assert "import pickle" not in text and "allow_pickle=True" not in text, path
        for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
            if ast.unparse(call.func) == "torch.load":
                assert "weights_only=True" in ast.unparse(call), path
            assert ast.unparse(call.func) != "torch.save", path


def test_every_pinned_package_can_be_installed_on_the_oldest_python_that_is_promised() -> None:
    pins = [line.split("==")[0] for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line]
    assert len(pins) > 100
    for name in pins:
        needed = importlib.metadata.metadata(name).json.get("requires_python")
        assert needed is None or "3.11.0" in SpecifierSet(str(needed)), (name, needed)


def test_what_is_installed_is_what_is_pinned() -> None:
    pins = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line)
    assert pins == {name: importlib.metadata.version(name).partition("+")[0] for name in pins}
