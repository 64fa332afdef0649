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

# What each package may import of ours: itself, whole packages below, and parts of them that need no torch.
ALLOWED = {
    "conf": ("conf",),
    "models": ("models", "conf"),
    "train": ("train", "models", "conf"),
    "sweeps": ("sweeps", "conf", "models.count", "train.record", "train.timetable"),
    "analysis": (
        "analysis",
        "conf",
        "models.count",
        "models.parametrize",
        "models.roles",
        "train.record",
        "train.timetable",
    ),
}

# Within a package a folder or file stands on the floor of its line: it imports from lower lines, or within itself.
FLOORS = {
    "conf": ("duration", "schema", "checks", "config", "identity", "vocab compose command_line"),
    "models": ("roles count", "parametrize blocks", "templates tokenformer", "gpt", "build growth"),
    "train": (
        "timetable distributed watch",
        "record optim",
        "step checkpoint data hardware",
        "measure",
        "job",
        "traced_step",
        "keep growth",
        "loop",
        "describe",
        "run",
        "replay preflight",
        "__main__",
    ),
    "sweeps": ("cells", "plan studies", "engines", "preflight words", "__main__"),
    "analysis": (
        "tables claims",
        "drawing fitter",
        "laws difference growth stability",
        "fits design",
        "compare figures",
        "commands",
        "__main__",
    ),
}

# Folders whose files are all of one kind, each a law, a study, a figure.
ALIKE = ("analysis/laws", "analysis/figures", "sweeps/studies")
MOST_UNLIKE_FILES = 14

TORCH_FREE = (
    "conf.config",
    "conf.compose",
    "conf.vocab",
    "models.count",
    "models.growth.rules",
    "models.parametrize",
    "models.roles",
    "train.data.corpus",
)
TORCH_FREE_PACKAGES = ("sweeps", "analysis", "train/record", "train/timetable")


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
    assert forbidden("sweeps", "from analysis.fitter.law import Law") == ["analysis.fitter.law"]
    assert forbidden("conf", "from .schema import Config") == [""]


def floor_of(module: str) -> int | None:
    """The floor that a module stands on within its package, or None where the package has no floors."""
    package, _, rest = module.partition(".")
    if package not in FLOORS:
        return None
    room = rest.split(".")[0]
    return next(number for number, rooms in enumerate(FLOORS[package]) if room in rooms.split())


def upward(module: str, source: str) -> list[str]:
    """The imports of a module that point to its own floor or above, but for those within its own folder."""
    package, room = module.split(".")[:2]
    return [
        target
        for target in modules_of(source)
        if target.split(".")[0] == package
        and package in FLOORS
        and target.split(".")[1] != room
        and (floor_of(target) or 0) >= (floor_of(module) or 0)
    ]


def modules_of(source: str) -> Iterator[str]:
    """Every module of ours that a file imports, lazily or for its types too: `from a import b` may name one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            known = [".".join(name.split(".")[:length]) for length in range(len(name.split(".")), 0, -1)]
            found = next((module for module in known if module in MODULES), None)
            if found is not None:
                yield found


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = {name_of(path): path for package in PACKAGES for path in sources(package) if path.name != "__init__.py"}


def circles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """The groups of modules that reach each other."""
    found, state = [], {"order": 0}
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(module: str) -> None:  # Tarjan 1972
        order[module] = lowest[module] = state["order"] = state["order"] + 1
        stack.append(module)
        for target in arrows.get(module, ()):
            if target not in order:
                visit(target)
                lowest[module] = min(lowest[module], lowest[target])
            elif target in stack:
                lowest[module] = min(lowest[module], order[target])
        if lowest[module] == order[module]:
            group = {stack.pop()}
            while module not in group:
                group.add(stack.pop())
            if len(group) > 1:
                found.append(group)

    for module in arrows:
        if module not in order:
            visit(module)
    return found


def test_no_modules_import_each_other_lazily_or_for_types() -> None:
    assert circles({name: set(modules_of(path.read_text())) for name, path in MODULES.items()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]


@pytest.mark.parametrize("package", sorted(FLOORS))
def test_folders_stand_on_floors(package: str) -> None:
    named = {room for rooms in FLOORS[package] for room in rooms.split()}
    rooms = {name.split(".")[1] for name in MODULES if name.split(".")[0] == package}
    assert rooms <= named
    for name in sorted(MODULES):
        if name.split(".")[0] == package:
            assert upward(name, MODULES[name].read_text()) == [], name


def test_floors_can_be_left() -> None:
    assert upward("analysis.tables.runs", "from analysis.laws.registry import LAWS") == ["analysis.laws.registry"]
    assert upward("analysis.laws.power", "def f():\n    import analysis.growth.gain") == ["analysis.growth.gain"]
    assert upward("analysis.laws.power", "from analysis.laws.registry import LAWS") == []


def test_no_folder_is_a_crowd() -> None:
    folders: dict[str, int] = {}
    for path in MODULES.values():
        folder = str(path.parent.relative_to(ROOT))
        if not folder.startswith(ALIKE) and path.name != "__main__.py":
            folders[folder] = folders.get(folder, 0) + 1
    assert max(folders.values()) <= MOST_UNLIKE_FILES, folders


def imports_torch(module: str) -> bool:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip() == "True"


def test_leaves_and_upper_layers_need_no_torch() -> None:
    modules = list(TORCH_FREE)
    for package in TORCH_FREE_PACKAGES:
        modules += [name_of(path) for path in sources(package) if path.name != "__init__.py"]
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
