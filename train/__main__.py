"""`python -m train model=gpt_1m optim.lr=3e-3 …`: compose, check, run, and say how it ended."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from conf.command_line import SI, human
from conf.compose import GROUPS, choices, compose
from conf.config import Config
from conf.schema import UserError, allowed

USAGE = """usage: python -m train [--help] [--print-config] [key=value | group=choice] ...
       python -m train replay RUN --from STEP [--to STEP]

Trains one model and writes its record to runs/<study>/<run_id>/. Running a finished run again does nothing;
running a killed one resumes it. Under `torchrun --nproc-per-node=N -m train …` the batch is shared.
`replay` carries out a part of a run again, with every probe at every step; see `python -m train replay --help`.

Exit status: 0 finished or diverged (both are results), 1 failed, 2 a mistake in the settings,
130 or 143 interrupted after saving a checkpoint (of several processes, the last checkpoint stands)."""


def main(arguments: list[str] | None = None) -> int:
    """Run one configuration; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    replaying = arguments[:1] == ["replay"]
    if {"--help", "-h"} & set(arguments) and not replaying:
        print("\n".join(_help()))
        return 0
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("train").setLevel(logging.INFO)
    try:
        if replaying:
            from train import replay

            return replay.main(arguments[1:])
        for flag in (a for a in arguments if a.startswith("-") and a != "--print-config"):
            raise UserError(f"{flag}: unknown option; allowed: --help, --print-config")
        config = compose([a for a in arguments if not a.startswith("-")])
        if "--print-config" in arguments:
            from omegaconf import OmegaConf

            print(OmegaConf.to_yaml(OmegaConf.structured(config)), end="")
            return 0
        return _run(config)
    except UserError as error:
        if os.environ.get("RANK", "0") == "0":  # all processes of a run find the same mistake
            print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(config: Config) -> int:
    from train.job import Interrupted
    from train.record.run import divergence
    from train.run import run

    try:
        record = run(config)
    except UserError:
        raise
    except Interrupted as request:
        print("interrupted; the checkpoint is saved, and the same command resumes the run", file=sys.stderr)
        return 128 + request.signum
    except Exception:
        traceback.print_exc()
        return 1
    folder = f"{config.runtime.runs_dir}/{record['study']}/{record['run_id']}"
    if record["state"] == "diverged":
        print(f"diverged: {folder}: {divergence(record)}")
    elif record["state"] == "finished":  # of several processes only one writes the end, and tells of it
        cost = f"{human(record['flops'], SI)} FLOPs"
        if record.get("flops_inherited"):
            cost += f", {human(record['flops_inherited'], SI)} of them inherited"
        loss = f"validation loss {record['val_loss']:.4f} ± {record['val_loss_se']:.4f} nats/token"
        print(f"finished: {folder}: {loss} after {cost}")
    return 0


def _help() -> Iterator[str]:
    """Every group with its choices, and every setting with its default, its range and its meaning."""
    yield USAGE
    yield "\ngroups:"
    for group in GROUPS:
        yield f"  {group}={{{','.join(choices(group))}}}"
    yield "\nsettings:"
    defaults = Config()
    for spec in dataclasses.fields(Config):
        group = getattr(defaults, spec.name)
        if dataclasses.is_dataclass(group):
            yield f"\n  {spec.name}: {(type(group).__doc__ or '').splitlines()[0]}"
            yield from (_setting_help(f"{spec.name}.{inner.name}", inner) for inner in dataclasses.fields(group))
        else:
            yield _setting_help(spec.name, spec)


def _setting_help(path: str, spec: dataclasses.Field[Any]) -> str:
    limits = allowed(spec)
    default = "null" if spec.default is None else spec.default
    return f"    {path}={default}  {spec.metadata['doc']}" + (f" [{limits}]" if limits else "")


if __name__ == "__main__":
    sys.exit(main())
