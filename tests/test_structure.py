"""The layout's rules: dvc.yaml against the real imports and parameters, the order of the folders, sizes."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from project import ROOT

from dcgan import schema

STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
LIBRARY, PIPELINE = ROOT / "src" / "dcgan", ROOT / "pipeline"
FILES = sorted([*LIBRARY.rglob("*.py"), *PIPELINE.rglob("*.py")])

# Data flows down this list: a room imports from those above its own line, and from itself.
ORDER: list[tuple[str, ...]] = [
    ("system",),
    ("schema",),
    ("combinations",),
    ("params",),
    ("data", "networks"),
    ("sampling",),
    ("training", "metrics"),
    ("tracking", "report", "exploring"),
    ("sharing",),
    ("commands",),
    ("__main__", "pipeline/support"),
    ("pipeline",),
]

# What a stage imports and what is no dependency of it, since it cannot change what the stage writes: files or folders.
EXEMPT = {
    "src/dcgan/params.py": "only checks values; DVC compares the values themselves",
    "src/dcgan/schema.py": "the same",
    "src/dcgan/combinations.py": "the same",
    "src/dcgan/tracking": "tells MLflow alone",
    "src/dcgan/data/fetching.py": "brings files that are verified by hash",
    "src/dcgan/system/choices.py": "declares types alone",
    "src/dcgan/system/errors.py": "holds exceptions that end a stage",
    "src/dcgan/system/gpu_memory.py": "words an error that ends a stage",
    "src/dcgan/system/progress.py": "prints alone",
    "src/dcgan/system/project_files.py": "names the files that dvc.yaml names too",
    "src/dcgan/system/stopwatch.py": "measures times alone",
    "src/dcgan/system/worker_pool.py": "starts processes; a test compares the bytes of one and of two",
    "pipeline/__init__.py": "names the code that is run: that of the stage's own copy",
    "pipeline/support": "starts, ends and describes a stage; what is written there goes to MLflow and runtime.json",
}
NOT_EXEMPT = {"pipeline/support/feature_network.py": "chooses device, threads and graph of what is measured"}
SECTIONS: dict[str, type[schema.Section]] = {
    stage: getattr(schema, f"{stage.title()}Params", schema.Section) for stage in STAGES
}


@cache
def module_file(name: str) -> Path | None:
    """The file of a module of this project, or None."""
    for folder in (ROOT / "src", ROOT):
        path = folder / Path(*name.split("."))
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


@cache
def imports(path: Path) -> set[Path]:
    """The project's files that a file imports, anywhere in it, packages on the way included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path}: write imports in full"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    parts = [name.split(".") for name in names]
    names |= {".".join(words[:n]) for words in parts for n in range(1, len(words))}
    return {file for name in names if (file := module_file(name))} - {path}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def has_code(path: Path) -> bool:
    """Whether a file holds more than a docstring: an `__init__.py` that hands names on does."""
    return any(not isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)


def exempt(path: Path) -> bool:
    names = {relative(path), *(relative(folder) for folder in path.parents if folder.is_relative_to(ROOT))}
    return bool(names & set(EXEMPT)) and relative(path) not in NOT_EXEMPT


def closure(start: Path) -> set[str]:
    """All files that a stage's script imports, directly or not, but for those that are exempt."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        by_name = set(LIBRARY.glob("data/sources/*.py")) if path == PIPELINE / "download.py" else set()
        for file in (imports(path) | by_name) - seen:
            if not exempt(file):
                seen.add(file)
                waiting.append(file)
    return {relative(file) for file in seen if has_code(file)}


def room(path: Path) -> str:
    """The entry of ORDER that a file belongs to; empty for those `__init__.py` that all files below them import."""
    if path in (LIBRARY / "__init__.py", PIPELINE / "__init__.py"):
        return ""
    if path.is_relative_to(PIPELINE):
        return relative(path.parent)
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def test_every_file_has_a_place_in_the_order() -> None:
    places = {place for line in ORDER for place in line}
    assert {room(path) for path in FILES} - {""} == places


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_folder_imports_from_those_before_it_alone(path: Path) -> None:
    level = {place: number for number, line in enumerate(ORDER) for place in line}
    for imported in imports(path):
        mine, other = room(path), room(imported)
        assert not (mine and other) or mine == other or level[other] < level[mine], (
            f"{relative(path)} imports {relative(imported)}, but {other} does not stand before {mine}: "
            "move what both need to a folder before them, or hand it over as an argument"
        )


def test_no_two_files_import_each_other() -> None:
    done: set[Path] = set()

    def visit(path: Path, way: tuple[Path, ...]) -> None:
        assert path not in way, " -> ".join(relative(each) for each in (*way[way.index(path) :], path))
        if path not in done:
            for imported in imports(path):
                if imported.name != "__init__.py":
                    visit(imported, (*way, path))
            done.add(path)

    for path in FILES:
        visit(path, ())


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
    assert {key for stage in STAGES.values() for key in stage.get("params", [])} == set(schema.Params.model_fields)


def test_sources_are_imported_by_the_fetching_stages_alone() -> None:
    """So that a change of one data set's code makes no other stage stale."""
    for stage in set(STAGES) - {"inventory", "download"}:
        assert not [path for path in closure(PIPELINE / f"{stage}.py") if "/sources/" in path], stage


def test_a_folder_says_what_it_is_and_at_most_hands_names_on() -> None:
    for path in FILES:
        if path.name == "__init__.py" and path.parent != PIPELINE:
            docstring, *rest = ast.parse(path.read_text()).body
            assert isinstance(docstring, ast.Expr), path
            assert all(isinstance(node, ast.ImportFrom) or ast.unparse(node).startswith("__all__") for node in rest)
    folders = {path.parent for path in FILES}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_the_library_knows_nothing_of_dvc_params_yaml_and_the_command_line() -> None:
    for path in LIBRARY.rglob("*.py"):
        if path.name not in ("__main__.py", "params.py", "combinations.py"):
            names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
            known = {LIBRARY / "params.py", LIBRARY / "schema.py"} & imports(path)
            assert "argv" not in names and not known, path


def test_pipeline_holds_the_stages_and_nothing_else() -> None:
    assert {path.stem for path in PIPELINE.glob("*.py")} - {"__init__"} == set(STAGES)


def test_the_code_reads_in_an_evening() -> None:
    for path in FILES:
        text = path.read_text()
        assert len(text.splitlines()) < (80 if path.is_relative_to(PIPELINE) else 400), path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno is not None and node.end_lineno - node.lineno < 60, (path, node.name)


def test_every_out_is_ignored_by_git_and_every_report_is_committed() -> None:
    for stage in STAGES.values():
        for out in stage.get("outs", []):
            ignored = subprocess.run(["git", "check-ignore", "-q", out], cwd=ROOT, check=False)
            assert ignored.returncode == 0, f"{out}: DVC would add it to .gitignore, and roll that back on a failure"
        for kept in (*stage.get("metrics", []), *stage.get("plots", [])):
            ((path, options),) = kept.items()
            assert options["cache"] is False
            assert subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False).returncode == 1


def test_nothing_is_pickled() -> None:
    for path in FILES:
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


def test_what_torch_needs_is_pinned_beside_it_since_both_parts_are_installed_at_once() -> None:
    first, others = (ROOT / "requirements.txt").read_text().split("\n\n")
    needed = {"torch", "torchvision"}
    while more := {name for package in needed for name in _required(package)} - needed:
        needed |= more
    pinned = {canonicalize_name(line.split("==")[0]) for line in first.splitlines() if "==" in line}
    also = {name for name in needed if f"\n{name}==" in f"\n{others}".lower().replace("_", "-")}
    assert pinned <= needed and not also
    assert all(name.startswith(("cuda-", "nvidia-", "triton")) for name in needed - pinned)


def _required(package: str) -> set[str]:
    """What a package needs on Linux, without its extras."""
    requirements = [Requirement(text) for text in importlib.metadata.requires(package) or []]
    here = {"platform_system": "Linux", "extra": ""}
    return {canonicalize_name(r.name) for r in requirements if r.marker is None or r.marker.evaluate(here)}
