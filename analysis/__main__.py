"""`python -m analysis`: fit laws to runs or to a CSV, predict with them, and draw the figures of studies.

A command is a module of `analysis.commands`, imported when it is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from conf.command_line import Parser
from conf.schema import UserError

# Each command with what `--help` says of it.
COMMANDS = {
    "fit": "fit a law, with intervals, held-out error and warnings",
    "compare": "two methods by one law, or two laws on the same points",
    "plan": "which runs to make within a budget, and the interval they promise",
    "autopsy": "draw what happened to a run, and name the likely cause",
    "difference": "B against A over runs paired by seed, with the smallest effect they could show",
    "growth": "grown runs against training from scratch at equal total FLOPs: loss, gap and speed-up",
    "predict": "predict losses with a fit",
    "laws": "every law: formula, columns, constants, source",
    "table": "runs as one table, a row each",
    "claims": "the verdicts of all studies whose figures were drawn",
    "figure": "draw a study's figures and judge its claims",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 2 for a user's mistake, else what the command says, or 0."""
    try:
        words = sys.argv[1:] if arguments is None else arguments
        options = _parser(words[0] if words else "").parse_args(words)
        status: int | None = options.run(options)
        sys.stdout.flush()
        return status or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `… | head` has read enough
        sys.stdout = None  # or Python would flush into the closed pipe at exit
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def _parser(command: str) -> Parser:
    """What reads the command line; only the module of the named command is imported."""
    parser = Parser(prog="python -m analysis", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, text in COMMANDS.items():
        options = commands.add_parser(name, help=text, description=text)
        if name == command:
            module = import_module(f"analysis.commands.{name}")
            module.add_options(options)
            options.epilog = module.__dict__.get("EPILOG")
            options.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
