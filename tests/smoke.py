"""A process that carries out commands, one after another, for tests of many studies: torch and matplotlib are imported
once, and not for each of them. `python -m tests.smoke` reads a JSON list `[folder, module, arguments]` from each line
of its input, and answers with a line of JSON: the exit status and all output.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path


class Smoke:
    """The other end of that process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.smoke"],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, module: str, *arguments: str) -> tuple[int, str]:
        """What `python -m module arguments` would do in a folder: its exit status and its output."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(folder), module, arguments]) + "\n")
        self._process.stdin.flush()
        status, output = json.loads(self._process.stdout.readline())
        return status, output

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)


def _carry_out(folder: str, module: str, arguments: list[str]) -> tuple[int, str]:
    output = io.StringIO()
    os.chdir(folder)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            status = importlib.import_module(f"{module}.__main__").main(arguments)
        except Exception:
            traceback.print_exc()
            status = 1
    return status, output.getvalue()


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(_carry_out(*json.loads(line))), flush=True)
