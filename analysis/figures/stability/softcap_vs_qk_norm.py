"""Capped attention logits against QK-norm: how high a learning rate each bears, and what it does to attention."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from analysis.claims.claim import Claim
from analysis.claims.region import above, at_most, below
from analysis.claims.sample import Sample, arms_apart, by_seed
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.stability.attention import read_attention, with_attention
from analysis.stability.lr_sweep import RISE, curves_of, failing_lr, lr_window, read_sweep
from analysis.stability.plot_arms import draw_against_lr, draw_estimates, draw_losses

PLAIN, CAP_50, CAP_20, NORM, BOTH, QKV = "none", "none, cap 50", "none, cap 20", "head", "head, cap 50", "qkv"
ARMS = {PLAIN: "neither", CAP_50: "cap 50", CAP_20: "cap 20", NORM: "QK-norm", BOTH: "QK-norm, cap 50", QKV: "QKV-norm"}
CAPS = {CAP_50: 50.0, CAP_20: 20.0}
ROUNDING = 1e-5  # of tanh
HALF = 0.5
LARGE = "830M parameters (Rybakov et al. 2024), where the rates that fail differ by a factor of 1.5"


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `learning_rate` and `attention`."""
    cap = pl.col("model.attention_softcap")
    capped = pl.format(", cap {}", cap.cast(pl.Float64).round(0).cast(pl.Int64, strict=False))
    sweep = read_sweep(runs, pl.col("model.qk_norm") + capped.fill_null(""))
    sweep = with_attention(sweep, read_attention(sweep, curves_of(sweep), context=runs["data.context"][0]))
    _draw_learning_rate(sweep, folder)
    _draw_attention(sweep, folder)
    return [*_attention_claims(sweep), *_rate_claims(sweep)]


def _attention_claims(sweep: pl.DataFrame) -> list[Claim]:
    lowest, highest = lr_window(sweep)
    capped = sweep.filter(pl.col("arm").is_in(list(CAPS)))
    ends = sweep.filter(pl.col("lr").is_in([lowest, highest]) & pl.col("arm").is_in([PLAIN, NORM, *CAPS]))
    fill = capped.with_columns((pl.col("logit") / pl.col("arm").replace_strict(CAPS)).alias("share"))
    logs = sweep.with_columns(pl.col("query_key").log10())

    def growth(arm: str) -> Sample:
        return by_seed(logs, "query_key", arm=arm, lr=highest) - by_seed(logs, "query_key", arm=arm, lr=lowest)

    shares = (growth(CAP_50) + growth(CAP_20)) * 0.5 / growth(PLAIN)
    kept = by_seed(capped, "entropy", lr=highest) / by_seed(sweep, "entropy", arm=NORM, lr=highest)
    return [
        Claim(
            "A cap bounds the attention logits.",
            of=by_seed(fill, "share", lr=highest),
            statistic=f"largest logit of a run over the cap at a rate of {highest:g}, mean over both caps",
            accept=at_most(1, rounding=ROUNDING),
        ),
        Claim(
            "A cap does not stop queries and keys from growing.",
            of=shares.behind(ends).or_say(None if shares.values else "without a cap they do not grow"),
            statistic=f"decades by which RMS of queries times RMS of keys is larger at a rate of {highest:g} than at "
            f"{lowest:g} at the end of a run, with a cap over without; mean over both caps and all blocks",
            accept=above(HALF),
        ),
        Claim(
            "Under a cap the attention's entropy still collapses.",
            of=kept.behind(ends),
            statistic=f"entropy at the end of a run at a rate of {highest:g}, with a cap over with QK-norm, mean over "
            "both caps and all blocks",
            accept=below(HALF),
        ),
    ]


def _rate_claims(sweep: pl.DataFrame) -> list[Claim]:
    fails = failing_lr(sweep, rise=RISE)
    no_rise = f"no curve rises by {RISE:g} nats within the rates" if fails["censored"].all() else None
    fails = fails.with_columns(pl.col("lr_fail").log10())
    best_cap = _higher(*(by_seed(fails, "lr_fail", arm=cap) for cap in CAPS))
    return [
        Claim(
            sentence,
            of=apart.behind(sweep).unless(no_rise),
            statistic=f"log10 of the rate at which the loss is {RISE:g} nats above its lowest, {arms}; where it never "
            "is, the highest rate",
            accept=above(0),
            needs=needs,
        )
        for sentence, apart, arms, needs in (
            (
                "QK-norm bears a higher learning rate than neither.",
                arms_apart(fails, "lr_fail", NORM, PLAIN),
                "QK-norm minus neither",
                None,
            ),
            (
                "QK-norm bears a higher learning rate than either cap.",
                by_seed(fails, "lr_fail", arm=NORM) - best_cap,
                "QK-norm minus the better of both caps",
                None,
            ),
            (
                "QK-norm with a cap bears a higher learning rate than QK-norm alone.",
                arms_apart(fails, "lr_fail", BOTH, NORM),
                "QK-norm and cap 50 minus QK-norm",
                LARGE,
            ),
            (
                "A norm of queries, keys and values in place of the one before them bears a higher rate than QK-norm.",
                arms_apart(fails, "lr_fail", QKV, NORM),
                "QKV-norm minus QK-norm",
                LARGE,
            ),
        )
    ]


def _higher(one: Sample, other: Sample) -> Sample:
    """The higher value of each seed that both have."""
    both = [seed for seed in one.values if seed in other.values]
    return Sample({seed: max(one.values[seed], other.values[seed]) for seed in both}, one.n_runs + other.n_runs)


def _draw_learning_rate(sweep: pl.DataFrame, folder: Path) -> None:
    """`learning_rate`: loss over learning rates by arm, and the rate at which each arm fails."""
    fails = failing_lr(sweep, rise=RISE)
    with style.panels((8.0, 3.3), 1, 2, width_ratios=[1.25, 1]) as (figure, (curves, rates)):
        draw_losses(curves, sweep, ARMS)
        draw_estimates(rates, fails, ARMS, "lr_fail", log=True)
        rates.set(yscale="log", ylabel=f"learning rate where the loss\nis {RISE:g} nats above its lowest")
        style.plain_ticks(rates.yaxis, (1.0, 2.0, 5.0))
        rates.set_xticks(range(len(ARMS)), list(ARMS.values()), rotation=30, ha="right")
        if fails["censored"].any():
            rates.axhline(lr_window(sweep)[1], color=style.REFERENCE, linestyle=":", linewidth=1)
            rates.set_title("dotted: the highest rate of the grid", color=style.REFERENCE)
    table = sweep.drop("folder").join(fails.select("arm", "seed", "lr_fail", "censored"), on=["arm", "seed"])
    write_picture(figure, table, folder / "learning_rate")


def _draw_attention(sweep: pl.DataFrame, folder: Path) -> None:
    """`attention`: the largest logit, queries times keys, and the entropy over learning rates, by arm."""
    panels = {
        "logit": "largest attention logit of a run",
        "query_key": "query RMS × key RMS, at the end",
        "entropy": "entropy / largest, at the end",
    }
    with style.panels((9.6, 3.1), 1, 3) as (figure, row):
        for axes, (value, label) in zip(row, panels.items(), strict=True):
            draw_against_lr(axes, sweep, ARMS, value, log=value != "entropy")
            axes.set_ylabel(label)
        logits, _, entropy = row
        entropy.set_ylim(-0.02, 1.02)
        for cap in CAPS.values():
            logits.axhline(cap, color=style.REFERENCE, linestyle=":", linewidth=1)
        figure.legend(*entropy.get_legend_handles_labels(), loc="outside lower center", ncols=len(ARMS))
    drawn = sweep.select("arm", "lr", "seed", "run_id", *panels)
    write_picture(figure, drawn, folder / "attention")
