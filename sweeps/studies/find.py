"""Studies by name: `sweeps/studies/<paper>/<figure>.py` with a `STUDY` is the study `<paper>/<figure>`.

studies()                      every study by its name, in the order of names
find_study("gstack/timing")    that one
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import sweeps.studies
from conf.command_line import pick
from conf.schema import UserError
from sweeps.cells.study import Study


class StudyError(UserError):
    """A study's file that cannot be used."""


def studies(tell: Callable[[str], object] | None = None) -> dict[str, Study]:
    """Every study by its name.

    Args:
        tell: is given one line for each file that cannot be used, which leaves the other studies as they are; standard
            error if there is no such function.
    """
    every: dict[str, Study] = {}
    for name in _names():
        try:
            module = _module(name)
            if hasattr(module, "STUDY"):  # or it is what the studies of a paper share
                every[name] = _study(name, module)
        except StudyError as error:
            line = f"left out: {error}"
            print(line, file=sys.stderr) if tell is None else tell(line)
    return every


def find_study(name: str) -> Study:
    """The study of a name.

    Raises:
        UserError: there is none; the line names those that there are.
        StudyError: its file cannot be used.
    """
    if name in _names() and hasattr(module := _module(name), "STUDY"):
        return _study(name, module)
    return pick("study", name, studies())


def _names() -> list[str]:
    files = [file for root in sweeps.studies.__path__ for file in Path(root).glob("*/*.py")]
    return sorted({f"{file.parent.name}/{file.stem}" for file in files if file.name != "__init__.py"})


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"sweeps.studies.{name.replace('/', '.')}")
    except (Exception, SystemExit) as error:  # whatever a file may raise while it is imported
        words = " ".join(str(error).split())
        raise StudyError(f"sweeps/studies/{name}.py: {type(error).__name__}: {words}") from error


def _study(name: str, module: ModuleType) -> Study:
    study = module.STUDY
    if not isinstance(study, Study):
        raise StudyError(f"sweeps/studies/{name}.py: STUDY is a {type(study).__name__}; allowed: a Study")
    return replace(study, name=name)
