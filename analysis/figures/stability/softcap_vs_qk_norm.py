"""Capped attention logits against QK-norm: how high a learning rate each bears, and what it does to attention."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.claims.claim import Claim
from analysis.claims.seeds import claim_over_seeds
from analysis.drawing import style
from analysis.figures.stability.attention import read_attention, with_attention
from analysis.stability.lr_sweep import (
    MATRICES,
    RISE,
    arms_apart,
    by_seed,
    differences,
    failing_lr,
    lr_window,
    read_sweep,
)
from analysis.stability.plot_arms import draw_against_lr, draw_estimates
from analysis.stability.plot_lr_sweep import loss_limits
from train.record.files import write_bytes

PLAIN, CAP_50, CAP_20, NORM, BOTH, QKV = "none", "none, cap 50", "none, cap 20", "head", "head, cap 50", "qkv"
ARMS = {
    PLAIN: "neither",
    CAP_50: "cap 50",
    CAP_20: "cap 20",
    NORM: "QK-norm",
    BOTH: "QK-norm, cap 50",
    QKV: "QKV-norm",
}
CAPS = {CAP_50: 50.0, CAP_20: 20.0}
ROUNDING = 1e-5  # of tanh
HALF = 0.5
LARGE = "830M parameters (Rybakov et al. 2024), where the rates that fail differ by a factor of 1.5"


def softcap_vs_qk_norm(runs: pl.DataFrame, out: Path) -> list[Claim]:
    """Draw `learning_rate` and `attention` into `out`, and return the claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of the arms at one size over learning rates and seeds.
    """
    cap = pl.col("model.attention_softcap")
    arm = pl.col("model.qk_norm") + pl.when(cap.is_null()).then(pl.lit("")).otherwise(
        ", cap " + cap.cast(pl.Float64).round(0).cast(pl.Int64, strict=False).cast(pl.String)
    )
    sweep = read_sweep(runs, arm, size=MATRICES)
    sweep = with_attention(sweep, read_attention(sweep, context=runs["data.context"][0]))
    _draw_learning_rate(sweep, out)
    _draw_attention(sweep, out)
    return [*_attention_claims(sweep), *_rate_claims(sweep)]


# --- claims ----------------------------------------------------------------------------------------------


def _attention_claims(sweep: pl.DataFrame) -> list[Claim]:
    lowest, highest = lr_window(sweep)
    capped = sweep.filter(pl.col("arm").is_in(list(CAPS)))
    n_runs = len(sweep.filter(pl.col("lr").is_in([lowest, highest]) & pl.col("arm").is_in([PLAIN, NORM, *CAPS])))
    fill = capped.with_columns((pl.col("logit") / pl.col("arm").replace_strict(CAPS)).alias("share"))
    growth = {arm: _decades(sweep, "query_key", arm, lowest, highest) for arm in (PLAIN, *CAPS)}
    shares = [
        (growth[CAP_50][seed] + growth[CAP_20][seed]) / 2 / growth[PLAIN][seed]
        for seed in growth[PLAIN]
        if seed in growth[CAP_50] and seed in growth[CAP_20] and growth[PLAIN][seed] > 0
    ]
    kept = by_seed(sweep, "entropy", arm=NORM, lr=highest)
    left = by_seed(capped, "entropy", lr=highest)
    return [
        claim_over_seeds(
            list(by_seed(fill, "share", lr=highest).values()),
            sentence="A cap bounds the attention logits.",
            statistic=f"largest logit of a run over the cap at a rate of {highest:g}, mean over both caps",
            threshold="at most 1, but for rounding",
            high=1 + ROUNDING,
            n_runs=len(capped.filter(pl.col("lr") == highest)),
        ),
        claim_over_seeds(
            shares,
            sentence="A cap does not stop queries and keys from growing.",
            statistic=f"decades by which RMS of queries times RMS of keys is larger at a rate of {highest:g} than at "
            f"{lowest:g} at the end of a run, with a cap over without; mean over both caps and all blocks",
            threshold=f"above {HALF:g}",
            low=HALF,
            n_runs=n_runs,
            reason=None if shares else "without a cap they do not grow",
        ),
        claim_over_seeds(
            [left[seed] / kept[seed] for seed in left if seed in kept],
            sentence="Under a cap the attention's entropy still collapses.",
            statistic=f"entropy at the end of a run at a rate of {highest:g}, with a cap over with QK-norm, mean over "
            "both caps and all blocks",
            threshold=f"below {HALF:g}",
            high=HALF,
            n_runs=n_runs,
        ),
    ]


def _decades(sweep: pl.DataFrame, value: str, arm: str, lowest: float, highest: float) -> dict[int, float]:
    """For each seed by how many decades a value is larger at the highest rate than at the lowest."""
    logs = sweep.filter(pl.col("arm") == arm).with_columns(pl.col(value).log10())
    low, high = by_seed(logs, value, lr=lowest), by_seed(logs, value, lr=highest)
    return {seed: high[seed] - low[seed] for seed in high if seed in low}


def _rate_claims(sweep: pl.DataFrame) -> list[Claim]:
    fails = failing_lr(sweep, rise=RISE)
    reason = f"no curve rises by {RISE:g} nats within the rates" if fails["censored"].all() else None
    fails = fails.with_columns(pl.col("lr_fail").log10())
    caps = [by_seed(fails, "lr_fail", arm=cap) for cap in CAPS]
    better_cap = {seed: max(cap[seed] for cap in caps) for seed in caps[0] if all(seed in cap for cap in caps)}
    rate = f"log10 of the rate at which the loss is {RISE:g} nats above its lowest"
    censored = "where it never is, the highest rate"
    # The values, sentence, statistic, and scale of each claim.
    claims: list[tuple[list[float], str, str, str | None]] = [
        (
            arms_apart(fails, "lr_fail", NORM, PLAIN),
            "QK-norm bears a higher learning rate than neither.",
            f"{rate}, QK-norm minus neither; {censored}",
            None,
        ),
        (
            differences(by_seed(fails, "lr_fail", arm=NORM), better_cap),
            "QK-norm bears a higher learning rate than either cap.",
            f"{rate}, QK-norm minus the better of both caps; {censored}",
            None,
        ),
        (
            arms_apart(fails, "lr_fail", BOTH, NORM),
            "QK-norm with a cap bears a higher learning rate than QK-norm alone.",
            f"{rate}, QK-norm and cap 50 minus QK-norm; {censored}",
            LARGE,
        ),
        (
            arms_apart(fails, "lr_fail", QKV, NORM),
            "A norm of queries, keys and values in place of the one before them bears a higher rate than QK-norm.",
            f"{rate}, QKV-norm minus QK-norm; {censored}",
            LARGE,
        ),
    ]
    return [
        claim_over_seeds(
            [] if reason else values,
            sentence=sentence,
            statistic=statistic,
            threshold="above 0",
            low=0.0,
            n_runs=len(sweep),
            reason=reason,
            scale=scale,
        )
        for values, sentence, statistic, scale in claims
    ]


# --- figures ---------------------------------------------------------------------------------------------


def _draw_learning_rate(sweep: pl.DataFrame, out: Path) -> None:
    """`learning_rate`: loss over learning rates by arm, and the rate at which each arm fails."""
    fails = failing_lr(sweep, rise=RISE)
    with style.paper():
        figure = Figure(figsize=(8.0, 3.3))
        curves, rates = figure.subplots(1, 2, width_ratios=[1.25, 1])
        draw_against_lr(curves, sweep, ARMS, "loss")
        curves.set_ylim(*loss_limits(sweep))
        style.loss_axis(curves)
        curves.set_ylabel("validation loss (nats per token)")
        curves.legend()
        draw_estimates(rates, fails, ARMS, "lr_fail", log=True)
        rates.set_yscale("log")
        rates.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        rates.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        rates.yaxis.set_minor_formatter(NullFormatter())
        rates.set_ylabel(f"learning rate where the loss\nis {RISE:g} nats above its lowest")
        rates.set_xticks(range(len(ARMS)), list(ARMS.values()), rotation=30, ha="right")
        if fails["censored"].any():
            rates.axhline(lr_window(sweep)[1], color=style.REFERENCE, linestyle=":", linewidth=1)
            rates.set_title("dotted: the highest rate of the grid", color=style.REFERENCE)
        style.save(figure, out / "learning_rate")
    table = sweep.drop("folder").join(fails.select("arm", "seed", "lr_fail", "censored"), on=["arm", "seed"])
    write_bytes(out / "learning_rate.csv", table.write_csv().encode())


def _draw_attention(sweep: pl.DataFrame, out: Path) -> None:
    """`attention`: the largest logit, queries times keys, and the entropy over learning rates, by arm."""
    panels = {
        "logit": "largest attention logit of a run",
        "query_key": "query RMS × key RMS, at the end",
        "entropy": "entropy / largest, at the end",
    }
    with style.paper():
        figure = Figure(figsize=(9.6, 3.1))
        for axes, (value, label) in zip(figure.subplots(1, 3), panels.items(), strict=True):
            draw_against_lr(axes, sweep, ARMS, value, log=value != "entropy")
            axes.set_ylabel(label)
            if value == "entropy":
                axes.set_ylim(-0.02, 1.02)
        logits, _, entropy = figure.axes
        for cap in CAPS.values():
            logits.axhline(cap, color=style.REFERENCE, linestyle=":", linewidth=1)
        figure.legend(*entropy.get_legend_handles_labels(), loc="outside lower center", ncols=len(ARMS))
        style.save(figure, out / "attention")
    drawn = sweep.select("arm", "lr", "seed", "run_id", *panels)
    write_bytes(out / "attention.csv", drawn.write_csv().encode())
