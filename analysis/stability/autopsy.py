"""Why a run went wrong: the causes that small models share with large ones, each scored by what was measured.

    findings = autopsy(read_signals(folder))   every cause, likeliest first
    findings.verdict                           "attention-logit growth (score 0.80), from step 120, with a spike at …"
    epsilon_of("query", config)                AdamW's epsilon, as the parametrisation scales it

A cause has criteria worth points that add up to 1. What it cannot do without is its first criterion: where that
fails, the score is 0. From `LIKELY` on a cause is named, and a verdict never rests on anything else.

- attention-logit growth: the largest attention logit above 10³, from where the loss suffers, and 10⁴, above which
  all runs diverged (Wortsman et al. 2023, arXiv 2309.14322, figures 10 and 9); entropy of attention at half of its
  start or less (Zhai et al. 2023, arXiv 2303.06296); before the loss rose.
- output-logit drift: log Z leaves where it began and keeps going, and the mean logit with it (2309.14322, figure 4).
- epsilon floor: the gradient's RMS at or below AdamW's epsilon, as the parametrisation scales it, so that the update
  shrinks (2309.14322, figure 13).
- stale second moment: RMS of g / sqrt(v) above 2.3, 1 to 8 steps before a spike (Wortsman et al. 2023, arXiv
  2304.13013, section 3.4).
- learning rate too high: the loss rises in the warm-up or just after it, with large gradients and updates, and
  nothing else came before.
- dead model: the residual stream overflows, so that its norm, the logits and the gradient are exactly 0 to the end
  (`train.measure.dead`). It says what the run ended as, and hides no other cause.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.stability.signals import REACH, Event, Signals
from analysis.tables.columns import Array
from conf.config import Config
from models.parametrize import Shape, rule
from models.roles import Role
from train.record.metrics import MATRIX_NAME, TABLE_NAME
from train.record.run import died
from train.timetable.cost import RunCost

LIKELY = 0.5

LOGIT_HURTS, LOGIT_DIVERGES = 1e3, 1e4
ENTROPY_FALLS = 0.5  # of its start
# A choice: healthy small runs let log Z creep by 1 to 3 nats over thousands of steps.
DRIFT, LARGE_DRIFT = 10.0, 30.0  # nats
STEADY = 0.8  # rank correlation of log Z with the step
NEAR_EPS = 10.0  # gradient RMS over epsilon, where it takes a tenth of the update
STALE = 2.3
RARELY = 0.1  # share of steps without a spike that may follow a stale one, or staleness tells nothing
AFTER_WARMUP = 0.1  # of the run
GRADIENT_GROWS = 3.0
LARGE_UPDATE = 0.1  # RMS of the update over that of the weights, in one step

MATRICES = r"(?:hidden|query|residual)"  # roles; a readout that begins small may well grow severalfold in a step


@dataclass(frozen=True)
class Criterion:
    """One observation: what it is worth, whether it was made, and the numbers it rests on."""

    points: float
    met: bool
    text: str


@dataclass(frozen=True)
class Cause:
    """A suspect with its criteria, the first of which it needs; `step` is where it shows first.

    Attributes:
        blind: what could not be seen of it; None if all could.
        below: another cause that explains more, which keeps this one from being named.
    """

    name: str
    criteria: tuple[Criterion, ...] = ()
    step: int | None = None
    blind: str | None = None
    below: str | None = None

    @property
    def score(self) -> float:
        if not self.criteria or not self.criteria[0].met:
            return 0.0
        score = round(sum(c.points for c in self.criteria if c.met), 10)
        return score if self.below is None else min(score, LIKELY - 0.05)


@dataclass(frozen=True)
class Autopsy:
    """Every cause, likeliest first, and the verdict in a sentence."""

    signals: Signals
    causes: tuple[Cause, ...]

    @property
    def likely(self) -> Cause | None:
        return self.causes[0] if self.causes[0].score >= LIKELY else None

    @property
    def verdict(self) -> str:
        event, likely = self.signals.main_event, self.likely
        if likely is not None:
            rose = "though the loss never rose" if event is None else f"with a {event}"
            return f"{likely.name} (score {likely.score:.2f}), from step {likely.step}, {rose}"
        if event is None:
            return "no instability found"
        return f"unknown: a {event}, and no cause has a score of {LIKELY:g}"


def autopsy(signals: Signals) -> Autopsy:
    """Score every cause; the learning rate is named only where nothing more particular is."""
    causes = [examine(signals) for examine in (_attention, _output_logits, _epsilon, _stale)]
    best = max(causes, key=lambda cause: cause.score)
    rate = _learning_rate(signals)
    causes.append(replace(rate, below=best.name) if best.score >= LIKELY else rate)
    causes.insert(0, _dead(signals))  # of equal scores the first is named
    return Autopsy(signals, tuple(sorted(causes, key=lambda cause: -cause.score)))


# --- the causes ------------------------------------------------------------------------------------------


def _attention(signals: Signals) -> Cause:
    name = "attention-logit growth"
    metrics = signals.names(r"block\d+/attention_logit_max")
    series = {metric.split("/")[0]: signals.series(metric, until=signals.sane) for metric in metrics}
    series = {block: (steps, logits) for block, (steps, logits) in series.items() if len(steps)}
    if not series:
        return Cause(name, blind=_unseen("the attention logits", metrics, signals))
    block = max(series, key=lambda b: float(series[b][1].max()))
    steps, logits = series[block]
    peak = int(logits.argmax())
    hurts, diverges = (_first_above(steps, logits, level) for level in (LOGIT_HURTS, LOGIT_DIVERGES))
    largest = (
        f"{block}: largest logit {logits[0]:.3g} at step {steps[0]:.0f}, {logits[peak]:.3g} at step {steps[peak]:.0f}"
    )
    entropy_steps, entropy = signals.series(f"{block}/attention_entropy", until=signals.sane)
    fell = _first_above(entropy_steps, -entropy, -ENTROPY_FALLS * entropy[0]) if len(entropy) else None
    before = signals.before
    first = hurts is not None and (before is None or hurts <= before)
    return Cause(
        name,
        (
            Criterion(0.4, hurts is not None, f"{largest}; {_passed('1e3', hurts, signals)}"),
            Criterion(0.2, diverges is not None, _passed("1e4", diverges, signals)),
            Criterion(
                0.2,
                fell is not None,
                f"{block}: entropy of attention {entropy[0]:.3f} nats at first, {entropy.min():.3f} at least"
                + ("" if fell is None else f", below half from step {fell}")
                if len(entropy)
                else "entropy of attention was not measured",
            ),
            Criterion(0.2, first, _order(hurts, signals)),
        ),
        step=hurts,
        blind=_gap(steps, signals, "the attention logits"),
    )


def _output_logits(signals: Signals) -> Cause:
    name = "output-logit drift"
    steps, log_z = signals.series("log_z_mean", until=signals.sane)
    if not len(steps):
        return Cause(name, blind=_unseen("log Z", signals.names("log_z_mean"), signals))
    drift = log_z - log_z[0]
    far = int(np.abs(drift).argmax())
    # A spike moves log Z for a while; a drift stays, until the run diverges.
    kept = _late(np.abs(drift)) if signals.sane is None else abs(float(drift[far]))
    left = _first_above(steps, np.abs(drift), DRIFT) if kept >= DRIFT else None
    rank = _rank_correlation(log_z)
    _, mean = signals.series("logit_mean", until=signals.sane)
    moved = float(mean[min(far, len(mean) - 1)] - mean[0]) if len(mean) else 0.0
    along = moved * drift[far] > 0 and abs(moved) >= abs(drift[far]) / 2
    return Cause(
        name,
        (
            Criterion(
                0.4,
                left is not None,
                f"log Z {log_z[0]:.3g} at step {steps[0]:.0f}, {log_z[far]:.3g} at step {steps[far]:.0f}"
                + (
                    f"; {DRIFT:g} nats away from step {left}"
                    if left is not None
                    else f"; not {DRIFT:g} nats away to stay"
                ),
            ),
            Criterion(0.2, kept >= LARGE_DRIFT, f"largest drift {drift[far]:+.3g} nats"),
            Criterion(0.2, abs(rank) >= STEADY, f"rank correlation of log Z with the step {rank:+.2f}"),
            Criterion(0.2, along, f"the mean logit moved by {moved:+.3g} meanwhile"),
        ),
        step=left,
        blind=_gap(steps, signals, "log Z"),
    )


def _epsilon(signals: Signals) -> Cause:
    name = "epsilon floor"
    beta1 = signals.config.optim.beta1
    metrics = signals.names(rf"{MATRIX_NAME}/gradient_rms") or signals.names(MATRICES + "/gradient_rms")
    series = {metric: signals.series(metric, until=signals.sane) for metric in metrics}
    series = {metric: (steps, values) for metric, (steps, values) in series.items() if len(steps)}
    if not series:
        return Cause(name, blind=_unseen("gradient RMS of tensors", metrics, signals))
    eps_of = {metric: epsilon_of(metric.split("/")[-2], signals.config) for metric in series}
    late = {metric: _late(values) / eps_of[metric] for metric, (_, values) in series.items()}
    metric = min(late, key=lambda m: late[m])
    tensor = metric.removesuffix("/gradient_rms")
    near = [m for m in late if late[m] <= NEAR_EPS]
    (steps, values), eps = series[metric], eps_of[metric]
    _, adam = signals.series(f"{tensor}/adam_rms", until=signals.sane)
    # With gradients that are noise of constant size, Adam's direction has this RMS, and more with any signal in them.
    noise = float(np.sqrt((1 - beta1) / (1 + beta1)))
    shrunk = len(adam) > 0 and _late(adam) <= noise / 2
    size = f"{tensor}: RMS of Adam's direction {_late(adam):.2g}" if len(adam) else "Adam's direction was not measured"
    return Cause(
        name,
        (
            Criterion(
                0.3,
                bool(near),
                f"{tensor}: gradient RMS {late[metric] * eps:.2g} is {late[metric]:.2g} of epsilon, {eps:g}",
            ),
            Criterion(0.3, late[metric] <= 1, "at or below epsilon" if late[metric] <= 1 else "not below epsilon"),
            Criterion(0.2, shrunk, f"{size}; noise alone gives {noise:.2g}"),
            Criterion(
                0.2, 2 * len(near) >= len(late), f"{len(near)} of {len(late)} tensors within {NEAR_EPS:g} of epsilon"
            ),
        ),
        step=_first_above(steps, -values, -NEAR_EPS * eps),
        blind=_gap(steps, signals, "gradient RMS"),
    )


def _stale(signals: Signals) -> Cause:
    name = "stale second moment"
    metrics = signals.names(rf"(?:{MATRIX_NAME}|{TABLE_NAME})/staleness")
    if not metrics:
        return Cause(name, blind=_missing("staleness"))
    worst: dict[int, tuple[float, str]] = {}
    for metric in metrics:
        for step, value in zip(*signals.series(metric), strict=True):
            worst[int(step)] = max(worst.get(int(step), (0.0, "")), (float(value), metric.removesuffix("/staleness")))
    steps = np.array(sorted(worst), dtype=float)
    events = signals.events
    leads = [lead for event in events if (lead := _lead(worst, event)) is not None]
    near_event = {s for event in events for s in range(event.step - REACH, (event.end or event.step) + REACH + 1)}
    rate = _stale_by_chance(worst, near_event)
    rarely = rate is not None and rate <= RARELY
    largest = max(worst, key=lambda s: worst[s][0])
    told = f"largest {worst[largest][0]:.2f} ({worst[largest][1]}, step {largest})"
    if leads:
        step, value, tensor, event = leads[0]
        told = f"{tensor}: staleness {value:.2f} at step {step}, {event.step - step} before the {event}"
    return Cause(
        name,
        (
            Criterion(
                0.5,
                bool(leads) and (rarely or rate is None),
                told if leads else f"never above {STALE:g} before an event; {told}",
            ),
            Criterion(
                0.25,
                bool(leads) and 2 * len(leads) > len(events),
                f"{len(leads)} of {len(events)} events follow a staleness above {STALE:g}",
            ),
            Criterion(
                0.25,
                rarely,
                "no step away from events was measured"
                if rate is None
                else f"as stale before {rate:.0%} of the other steps; allowed: {RARELY:.0%}, or it says nothing",
            ),
        ),
        step=leads[0][0] if leads else None,
        blind=_gap(steps, signals, "staleness", enough=REACH),
    )


def _learning_rate(signals: Signals) -> Cause:
    name = "learning rate too high"
    event = signals.main_event
    if event is None:
        return Cause(name, (Criterion(0.4, False, "the loss never rose"),))
    steps, rates = signals.series("lr")
    peak = signals.config.optim.lr
    top = int(rates.argmax())
    n_steps = signals.record.get("n_steps", int(steps[-1]))
    grow = signals.config.grow
    begun = grow.step or 0 if grow.schedule == "continue" else 0  # at least: the base may itself continue another run
    before = _warmed_up_before(signals, begun, n_steps)
    # None: the run ended in its warm-up.
    warm = before if before is not None else int(steps[top]) if rates[top] >= 0.99 * peak else None
    early = warm is None or event.step <= warm + AFTER_WARMUP * (begun + n_steps)
    when = "in the warm-up" if warm is None or event.step <= warm else f"{event.step - warm} steps after the warm-up"
    now = float(np.interp(event.step, steps, rates))
    grown, sizes = _gradient_growth(signals, event)
    update, update_text = _largest_update(signals, event)
    return Cause(
        name,
        (
            Criterion(0.4, early, f"the {event} is {when}, at a rate of {now:.3g}"),
            Criterion(0.3, grown >= GRADIENT_GROWS, sizes),
            Criterion(0.3, update >= LARGE_UPDATE, update_text),
        ),
        step=event.step,
        blind=None if signals.names(MATRICES + "/update_rms") else _missing("update RMS"),
    )


def _dead(signals: Signals) -> Cause:
    said = died(signals.record)
    steps, norms = signals.series("grad_norm")
    losses = {row["step"]: row["train_loss"] for row in signals.rows if "train_loss" in row}
    # To the end of the run; where every target is met exactly the loss is 0 too.
    alive = np.flatnonzero((norms > 0) | np.array([losses.get(step, 0.0) == 0 for step in steps], dtype=bool))
    silent = steps[alive[-1] + 1 if len(alive) else 0 :]
    overflowing = [
        (row["step"], name)
        for row in signals.rows
        for name in row.get("non_finite", [])
        if re.fullmatch(r"block\d+/output_rms", name)
    ]
    record = "" if not said else signals.record["diverged_because"]
    return Cause(
        "dead model",
        (
            # Runs that were recorded before dead models were known count as finished; one such row may be chance.
            Criterion(0.6, said or len(silent) > 1, record or "the record does not say so"),
            Criterion(
                0.2,
                len(silent) > 0,
                f"gradient norm exactly 0 from step {silent[0]:.0f} on, at a loss of {losses[silent[0]]:.4g}"
                if len(silent)
                else "gradient norm not exactly 0",
            ),
            Criterion(
                0.2,
                bool(overflowing),
                f"{overflowing[0][1]} overflows at step {overflowing[0][0]}"
                if overflowing
                else "no overflow of the residual stream was measured",
            ),
        ),
        step=signals.record["diverged_at_step"] if said else int(silent[0]) if len(silent) else None,
    )


def _warmed_up_before(signals: Signals, begun: int, n_steps: int) -> int | None:
    """The step, 0 or less, at which the warm-up ended in the runs that this one continues; None if it was not there."""
    if begun == 0:
        return None
    record = signals.record
    whole = RunCost(record["n_params_total"], record["tokens_per_step"], begun + n_steps, 0, 0)  # FLOPs make no step
    ended = whole.steps(signals.config.schedule.warmup) - begun
    return ended if ended <= 0 else None


def epsilon_of(tensor: str, config: Config) -> float:
    """AdamW's epsilon for a kind of matrix, or a role, as its parametrisation scales it."""
    shape = Shape(config.model.width, config.model.depth)
    role = Role.READOUT if tensor == "readout" else Role.TIED_EMBEDDING if tensor == "tokens" else Role.HIDDEN
    return config.optim.eps * rule(role, shape.width, config.param, shape).eps_scale


# --- measures --------------------------------------------------------------------------------------------


def _first_above(steps: Array, values: Array, level: float) -> int | None:
    above = np.flatnonzero(values >= level)
    return int(steps[above[0]]) if len(above) else None


def _late(values: Array) -> float:
    """The median of the last quarter: a floor is reached late, and one step is noisy."""
    return float(np.median(values[-max(1, len(values) // 4) :]))


def _rank_correlation(values: Array) -> float:
    """Spearman's, with time; 0 for fewer than three values."""
    if len(values) < 3 or np.ptp(values) == 0:
        return 0.0
    ranks = values.argsort().argsort()
    return float(np.corrcoef(np.arange(len(values)), ranks)[0, 1])


def _lead(worst: dict[int, tuple[float, str]], event: Event) -> tuple[int, float, str, Event] | None:
    """The stalest step 1 to `REACH` steps before an event, if it is stale enough."""
    window = [step for step in range(event.step - REACH, event.step) if step in worst]
    step = max(window, key=lambda s: worst[s][0], default=None)
    return None if step is None or worst[step][0] <= STALE else (step, *worst[step], event)


def _stale_by_chance(worst: dict[int, tuple[float, str]], near_event: set[int]) -> float | None:
    """The share of steps away from events that a stale step precedes by 1 to `REACH`; None if none was measured."""
    away = [step for step in worst if step not in near_event]
    follow = {step + lead for step in away for lead in range(1, REACH + 1)}
    stale = {step + lead for step in away if worst[step][0] > STALE for lead in range(1, REACH + 1)}
    return len(stale) / len(follow) if follow else None


def _gradient_growth(signals: Signals, event: Event) -> tuple[float, str]:
    steps, norms = signals.series("grad_norm")
    before, during = (
        norms[(steps < event.step) & (steps >= event.step - 50)],
        norms[np.abs(steps - event.step) <= REACH],
    )
    if not len(before) or not len(during):
        return 0.0, "the gradient norm was not measured around it"
    usual, largest = float(np.median(before)), float(during.max())
    grown = largest / max(usual, 1e-300)
    return grown, f"gradient norm {usual:.3g} before (median), {largest:.3g} around it: {grown:.3g} times"


def _largest_update(signals: Signals, event: Event) -> tuple[float, str]:
    """Of the blocks' matrices, up to the event: RMS of the update over RMS of the weights."""
    largest = (0.0, "update RMS was not measured before it")
    for metric in signals.names(MATRICES + "/update_rms"):
        role = metric.removesuffix("/update_rms")
        for row in signals.rows:
            if metric in row and f"{role}/parameter_rms" in row and row["step"] <= event.step:
                ratio = row[metric] / max(row[f"{role}/parameter_rms"], 1e-300)
                if ratio > largest[0]:
                    largest = ratio, f"{role}: an update of {ratio:.2g} times the weights at step {row['step']}"
    return largest


# --- words -----------------------------------------------------------------------------------------------


def _passed(level: str, step: int | None, signals: Signals) -> str:
    never = f"never above {level}" + ("" if signals.sane is None else " before the loss rose")
    return never if step is None else f"above {level} from step {step}"


def _order(step: int | None, signals: Signals) -> str:
    event = signals.main_event
    if step is None:
        return "it did not come before the loss rose"
    if event is None:
        return "the loss never rose"
    return f"that is {'before' if step < event.step else 'not before'} the {event}"


def _missing(what: str) -> str:
    return f"{what}: not measured (probe.every, probe.recorder, or a replay)"


def _unseen(what: str, metrics: Sequence[str], signals: Signals) -> str:
    """Why nothing of these metrics is to be seen up to a divergence: not measured, or only later."""
    return _gap([], signals, what) or _missing(what) if metrics else _missing(what)


def _gap(steps: Sequence[float] | Array, signals: Signals, what: str, *, enough: int | None = None) -> str | None:
    """What coarse probes hide: none in the last steps before the loss rose."""
    before = signals.before
    if before is None:
        return None
    seen = [step for step in steps if step <= before]
    if not seen:
        return f"{what}: no probe before the loss rose at step {before + 1}"
    gap = int(before - seen[-1])
    limit = enough if enough is not None else max(1, len(signals.rows) // 50)
    return f"{what}: no probe in the last {gap} steps before the loss rose" if gap >= limit else None
