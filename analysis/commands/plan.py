"""`python -m analysis plan`: which runs to make within a budget, and what they promise, before anything runs."""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from analysis.commands.options import add_params, add_study, check_files
from analysis.design.candidates import (
    PLANNED,
    Candidate,
    Setting,
    columns_of,
    grid_of_rates,
    grid_of_sizes,
    widths_of_sizes,
)
from analysis.design.optimal import Limits
from analysis.design.planner import CRITERIA, Planner, quantities, quantity
from analysis.design.prior import NOISE, Prior, assumed_prior, prior_of_fit, single_formula
from analysis.design.words import describe, print_plan, promise
from analysis.fits.files import read_fit
from analysis.fitter.law import Law
from analysis.fitter.options import FitOptions
from analysis.laws.registry import find_law
from analysis.tables.columns import Column, FitError, read_column
from analysis.tables.csv import where
from analysis.tables.runs import read_runs, runs_matching, runs_of_study
from analysis.tables.select import with_loss
from conf.command_line import SECONDS
from train.record.files import write_json

# Hydra takes a while to import and matplotlib too; they wait until a plan needs them.

WIDTHS = (16, 24, 32, 48, 64)
RATIOS = (5.0, 200.0)  # tokens per parameter; below 2 to 5 the two terms of a loss do not add
RATIO_OF_LR = 20.0
LR_REACH = 4.0  # about the best rate the loss is a parabola so far up and down
PRIOR_RESAMPLES = 200
FEWEST_SIMULATIONS = 40  # whose outermost make a 95 % interval


class Allowance(NamedTuple):
    """What the runs may cost: wall-clock seconds, or FLOPs; the other is None."""

    seconds: float | None
    flops: float | None

    @classmethod
    def parse(cls, text: str) -> Allowance:
        """Read `2h`, `30min`, `45s`, `1d` or `1e17flops`; raise `FitError` for anything else."""
        match = re.fullmatch(r"(?P<value>\d+(\.\d*)?([eE][+-]?\d+)?)(?P<unit>s|min|h|d|flops)", text)
        value = float(match["value"]) if match else 0.0
        if match is None or not 0 < value < math.inf:
            raise FitError(f"--budget: {text!r} is not allowed; allowed: such as 2h, 30min, 45s, 1d or 1e17flops")
        if match["unit"] == "flops":
            return cls(None, value)
        return cls(value * SECONDS[match["unit"]], None)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "--for",
        dest="asked",
        metavar="QUANTITY",
        help="a constant of the law (alpha), what follows from it (a), n_params_opt@1e18, n_tokens_opt@1e18, "
        "or lr: the best learning rate of one setting",
    )
    parser.add_argument(
        "--budget", required=True, help="2h, 30min, 45s, 1d (with --rate or measured runs) or 1e17flops"
    )
    parser.add_argument("--law", help="a law with a formula (default: chinchilla; lr_bowl for lr; the law of --fit)")
    parser.add_argument(
        "--criterion",
        choices=tuple(CRITERIA),
        default="c",
        help="; ".join(f"{name}: {meaning}" for name, meaning in CRITERIA.items()) + " (default: c)",
    )
    speed = parser.add_argument_group("speed")
    speed.add_argument("--rate", type=_number, metavar="FLOP/S", help="of one run beside the others, e.g. 4e10")
    speed.add_argument("--jobs", type=_whole, metavar="N", help="runs at a time (default: 1)")

    before = parser.add_argument_group("what is known before (default: constants of small models, ±20 % each)")
    source = before.add_mutually_exclusive_group()
    source.add_argument("--fit", type=Path, metavar="FIT.JSON", help="constants and noise of a fit")
    source.add_argument("--runs", nargs="+", metavar="GLOB", help="measured runs: constants, noise and rate")
    source.add_argument("--study", help="the same, of a study's runs")
    add_study(before)
    before.add_argument("--where", action="append", default=[], metavar="CONDITION", help="keep some measured runs")
    before.add_argument("--besides", action="store_true", help="the fit will have the measured runs too")
    before.add_argument("--noise", type=_number, metavar="SD", help=f"of ln loss between seeds (default: {NOISE})")
    add_params(before)

    runs = parser.add_argument_group("runs that can be made")
    shape = runs.add_mutually_exclusive_group()
    shape.add_argument("--widths", type=_wholes, metavar="16,24,32", help=f"default: {','.join(map(str, WIDTHS))}")
    shape.add_argument("--sizes", type=_span, metavar="LOW..HIGH", help="widths by their parameters: 1e5..1e7")
    runs.add_argument("--depth", type=_whole, metavar="L", help="blocks (default: the trainer's)")
    runs.add_argument("--head-dim", type=_whole, default=8, metavar="K", help="width of a head (default: 8)")
    runs.add_argument("--tokens-per-param", type=_span, metavar="LOW..HIGH", help="default: 5..200; for lr: 20")
    runs.add_argument("--max-tokens", type=_number, default=math.inf, metavar="D", help="no run sees more, e.g. 9e6")
    runs.add_argument("--lr", type=_span, metavar="LOW..HIGH", help="for lr: rates within which the loss is a parabola")
    runs.add_argument("--seeds", type=_whole, default=3, metavar="N", help="of one cell at most (default: 3)")
    runs.add_argument("--max-runs", type=_whole, default=60, metavar="N", help="default: 60")
    runs.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all runs, e.g. param=mup"
    )
    parser.add_argument(
        "--simulations",
        type=_simulations,
        default=100,
        metavar="N",
        help="outcomes of the plan that are drawn and fitted, to see whether the expected interval holds "
        "(default: 100; 0: none)",
    )
    parser.add_argument(
        "--seed", type=_seed, default=0, help="draws what the constants may be, and outcomes (default: 0)"
    )
    parser.add_argument("--name", help="of the study of these runs (default: planned/ and the name of --out)")
    parser.add_argument("--out", type=Path, required=True, metavar="PLAN.JSON", help="the cells, for `sweeps --cells`")
    parser.add_argument("--plot", type=Path, metavar="PLAN.PNG", help="draw candidates and cells (.png, .svg, .pdf)")


def run(options: argparse.Namespace) -> None:
    """Carry out `plan`; raises `UserError`."""
    check_files(options.out, options.plot)
    allowance = Allowance.parse(options.budget)
    measured = _measured(options)
    rate = options.rate or (None if measured is None else _rate(measured))
    if allowance.seconds is not None and rate is None:
        raise FitError(f"--budget {options.budget}: needs a speed; allowed: --rate, --runs, --study, or FLOPs")
    if allowance.seconds is None and options.jobs is not None:
        raise FitError(f"--jobs: does nothing with --budget {options.budget}; allowed: with a time")

    given, law = _prior(options, measured)
    setting = _setting(options)
    candidates = _candidates(options, setting, given)
    prior = given or assumed_prior(law, columns_of(candidates), options.noise or NOISE, options.seed)
    if options.besides and measured is None:
        raise FitError("--besides: needs measured runs; allowed: with --runs or --study")
    known = None
    if options.besides and measured is not None:
        known = {column.name: read_column(measured, column) for column in law.columns}
    planner = Planner(law, prior, candidates, known)
    limits = Limits(
        costs_M=np.array([c.flops for c in candidates]),
        budget=allowance.flops if allowance.flops is not None else float(allowance.seconds or 0) * float(rate or 0),
        slots=options.jobs or 1,
        most_runs=options.max_runs,
        most_seeds=options.seeds,
    )
    asked = None
    if options.asked is not None:
        asked = quantity(law, "lr_opt" if options.asked == "lr" else options.asked)
    elif options.criterion == "c":
        raise FitError("--for: is needed by the criterion c; allowed: a quantity, or --criterion a or d")
    every = quantities(law)
    design = planner.design(limits, asked, options.criterion, every, options.simulations, options.seed)

    # A seed that was measured already would give the same loss again.
    first_seed = 0 if measured is None else int(read_column(measured, Column("seed", "", "", "non-negative")).max()) + 1
    described = describe(design, planner, limits, rate, first_seed=first_seed)
    study = options.name or f"planned/{options.out.stem}"
    content = {"study": study, "claim": promise(design, law), **described, "criterion": options.criterion}
    content |= {"budget": options.budget, "jobs": limits.slots, "rate": rate, "params": options.params}
    content["besides"] = _patterns(options) if options.besides else []
    write_json(options.out, content)
    print_plan(design, planner, limits, content, options.out)
    if options.plot is not None:
        from analysis.design.plot import plot_design
        from analysis.drawing.style import write_figure

        write_figure(plot_design(design, candidates), options.plot)


# --- what the command line says --------------------------------------------------------------------------


def _measured(options: argparse.Namespace) -> pl.DataFrame | None:
    """The measured runs that have a loss, or None where none were named."""
    if options.runs is None and options.study is None:
        if options.where:
            raise FitError("--where: keeps some of the measured runs; allowed: with --runs or --study")
        return None
    if options.study is not None:
        folders = runs_of_study(options.runs_dir, options.study, options.profile)
    else:
        folders = runs_matching(options.runs)
    points = with_loss(read_runs(folders, params=options.params))
    for condition in options.where:
        points = where(points, condition)
    return points


def _patterns(options: argparse.Namespace) -> list[str]:
    """Where the measured runs lie, as `fit --runs` takes them."""
    return options.runs if options.study is None else [str(options.runs_dir / options.study / "*")]


def _rate(measured: pl.DataFrame) -> float:
    """FLOP/s of a run as it was measured, evaluations and start included; its seconds are its own, and so its FLOPs."""
    if "flops_own" in measured.columns:
        measured = measured.with_columns(flops=pl.coalesce("flops_own", "flops"))
    flops, seconds = read_column(measured, "flops"), read_column(measured, "seconds")
    return float(flops.sum() / seconds.sum())


def _prior(options: argparse.Namespace, measured: pl.DataFrame | None) -> tuple[Prior | None, Law]:
    """The prior of a fit or of measured runs, None where it is to be assumed; and the law."""
    default = "lr_bowl" if options.asked == "lr" else "chinchilla"
    if options.fit is not None:
        result = read_fit(options.fit)
        if options.law not in (None, result.law.name):
            raise FitError(f"--law {options.law}: {options.fit} is a fit of {result.law.name}; allowed: that law")
        prior = prior_of_fit(result, options.noise, options.seed)
        law = single_formula(result.law)
    else:
        law, prior = single_formula(find_law(options.law or default)), None
        if measured is not None:
            asked = FitOptions(delta=2 * NOISE, bootstrap=PRIOR_RESAMPLES, seed=options.seed)
            result = law.fit(measured, asked)
            prior = prior_of_fit(result, options.noise, options.seed)
    if options.asked == "lr" and law.name != "lr_bowl":
        raise FitError(f"--for lr: {law.name} says nothing of the best learning rate; allowed: lr_bowl")
    return prior, law


def _setting(options: argparse.Namespace) -> Setting:
    """The base config of --set and --depth, checked; raises `UserError`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from conf.compose import compose
    from conf.vocab import vocab_size

    for key in (text.partition("=")[0].lstrip("+~") for text in options.set):
        if key in PLANNED or key.startswith("runtime.") or (key == "optim.lr" and options.asked == "lr"):
            use = PLANNED.get(key, "options of `sweeps run`" if key.startswith("runtime.") else "--lr")
            raise FitError(f"--set {key}: a plan leaves it open; allowed: {use}")
        if key.startswith("grow."):
            raise FitError(f"--set {key}: a plan prices runs that start from nothing; allowed: without it")
    base = compose(options.set)
    parsed = OverridesParser.create().parse_overrides(list(options.set))
    given = {override.key_or_group: override.value() for override in parsed}
    if options.depth is not None:
        base = dataclasses.replace(base, model=dataclasses.replace(base.model, depth=options.depth))
    return Setting(base, given, vocab_size(base.data), options.params)


def _candidates(options: argparse.Namespace, setting: Setting, prior: Prior | None) -> list[Candidate]:
    head_dim = options.head_dim
    if options.asked == "lr":
        ratio = options.tokens_per_param or (RATIO_OF_LR, RATIO_OF_LR)
        if options.widths is None or len(options.widths) != 1:
            raise FitError("--widths: a plan for lr is about one setting; allowed: one width, e.g. --widths 32")
        if ratio[0] != ratio[1]:
            raise FitError("--tokens-per-param: a plan for lr is about one setting; allowed: one number, e.g. 20")
        middle = math.exp(prior.values["m"]) if prior is not None else setting.base.optim.lr
        span = options.lr or (middle / LR_REACH, middle * LR_REACH)
        if span[0] == span[1]:
            raise FitError("--lr: one rate has no best; allowed: LOW..HIGH with LOW < HIGH")
        return grid_of_rates(setting, options.widths[0], head_dim, ratio[0], span)
    if options.lr is not None:
        raise FitError("--lr: is for --for lr; allowed: --set optim.lr=… for one rate of all runs")
    widths = options.widths or WIDTHS
    if options.sizes is not None:
        widths = widths_of_sizes(setting, options.sizes, head_dim)
    found = grid_of_sizes(setting, widths, head_dim, options.tokens_per_param or RATIOS, options.max_tokens)
    if not found:
        raise FitError(f"--max-tokens {options.max_tokens:g}: leaves no run; allowed: more, or smaller sizes")
    return found


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: a positive number")
    return value


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: 1, 2, 3, …")
    return int(text)


def _simulations(text: str) -> int:
    if not text.isdecimal() or 0 < int(text) < FEWEST_SIMULATIONS:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: 0, or at least {FEWEST_SIMULATIONS}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed: 0, 1, 2, …")
    return int(text)


def _wholes(text: str) -> tuple[int, ...]:
    return tuple(_whole(part) for part in text.split(","))


def _span(text: str) -> tuple[float, float]:
    low, dots, high = text.partition("..")
    ends = (_number(low), _number(high) if dots else _number(low))
    if ends[0] > ends[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is upside down; allowed: LOW..HIGH")
    return ends
