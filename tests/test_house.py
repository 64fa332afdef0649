"""The house: which way imports point, what needs no torch, what is packaged, and that every YAML composes."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from conf.compose import GROUPS, choices, compose
from conf.schema import ConfigError

ROOT = Path(__file__).parent.parent
PACKAGES = ("conf", "models", "train", "sweeps", "analysis")

# What each package may import of ours: itself, whole packages below, and single torch-free leaves.
ALLOWED = {
    "conf": ("conf",),
    "models": ("models", "conf"),
    "train": ("train", "models", "conf"),
    "sweeps": ("sweeps", "conf", "models.count", "train.lineage", "train.record", "train.schedule"),
    "analysis": (
        "analysis",
        "conf",
        "models.count",
        "models.parametrize",
        "models.roles",
        "train.record",
        "train.shift",
        "train.spikes",
    ),
}
TORCH_FREE = (
    "conf.schema",
    "conf.compose",
    "conf.vocab",
    "models.count",
    "models.growth_rules",
    "models.parametrize",
    "models.roles",
    "train.lineage",
    "train.record",
    "train.schedule",
    "train.shift",
    "train.spikes",
    "train.data",
)
TORCH_FREE_PACKAGES = ("sweeps", "analysis")


def imports(source: str) -> Iterator[str]:
    """Every module that a source file imports, wherever it does; a relative import counts as ''."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "" if node.level else node.module or ""


def forbidden(package: str, source: str) -> list[str]:
    """The imports of a file of `package` that point the wrong way."""

    def within(module: str, allowed: str) -> bool:
        return module == allowed or module.startswith(f"{allowed}.")

    return [
        module
        for module in imports(source)
        if module == ""
        or (module.split(".")[0] in (*PACKAGES, "tests") and not any(within(module, a) for a in ALLOWED[package]))
    ]


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_down(package: str) -> None:
    assert sources(package)
    for path in sources(package):
        assert forbidden(package, path.read_text()) == [], path


def test_import_check_can_fail() -> None:
    assert forbidden("models", "from train.loop import train") == ["train.loop"]
    assert forbidden("analysis", "def f():\n    import models.gpt") == ["models.gpt"]
    assert forbidden("sweeps", "from analysis.fit import fit") == ["analysis.fit"]
    assert forbidden("conf", "from .schema import Config") == [""]


def imports_torch(module: str) -> bool:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip() == "True"


def test_leaves_and_upper_layers_need_no_torch() -> None:
    modules = list(TORCH_FREE)
    for package in TORCH_FREE_PACKAGES:
        modules += [
            ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for path in sources(package)
            if path.name != "__init__.py"
        ]
    assert not imports_torch(", ".join(modules))
    assert imports_torch("train.loop")


def test_package_modules_are_docstrings_only() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("__init__.py"):
            body = ast.parse(path.read_text()).body
            assert len(body) == 1, path
            assert isinstance(body[0], ast.Expr), path


def test_every_folder_with_code_is_packaged() -> None:
    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    folders = {path.parent.relative_to(ROOT).parts[0] for package in PACKAGES for path in sources(package)}
    tracked = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert tracked == folders == set(PACKAGES)
    assert all(any(fnmatch(folder, pattern) for pattern in include) for folder in folders)


NEEDS = {
    ("data", "text"): ["data.path=some.txt"],
    ("data", "hub"): ["data.name=some"],
}


@pytest.mark.parametrize(("group", "choice"), [(group, choice) for group in GROUPS for choice in choices(group)])
def test_every_yaml_composes(group: str, choice: str) -> None:
    """Alone it composes, given what it cannot know; what is required is missed when it is not given."""
    needs = NEEDS.get((group, choice), [])
    compose([f"{group}={choice}", *needs])
    if needs:
        with pytest.raises(ConfigError, match="null is not allowed"):
            compose([f"{group}={choice}"])


def test_every_yaml_is_in_a_group() -> None:
    assert {path.parent.name for path in (ROOT / "conf").rglob("*.yaml")} == {*GROUPS, "conf"}
