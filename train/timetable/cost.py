"""What a run will take, known before it starts: steps, tokens, FLOPs. No torch, so that a plan can be priced anywhere.

run_cost(config, vocab_size=257)              RunCost(n_params=…, tokens_per_step=…, n_steps=…, flops=…)
run_cost(config, 257, base=cost_of_base)      with what the weights had cost where the run begins, as `inherited`
cost.spent(200)                               Spent(steps, tokens, flops, flops_6nd) up to step 200, inherited ones too
cost.steps("5%"), cost.every("5%")            a duration within this run in whole steps; at least one

FLOPs per token are those of `models.count`.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from conf.config import Config
from conf.duration import Duration
from conf.schema import ConfigError, GrowConfig, ModelConfig
from models.count import count_params, flops_per_token, flops_per_token_6nd, learn_flops


@dataclass(frozen=True)
class Spent:
    """What weights have cost up to some step: optimiser steps, training tokens, and FLOPs as executed and by 6ND."""

    steps: int = 0
    tokens: int = 0
    flops: int = 0
    flops_6nd: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class RunCost:
    """What a run will take, known before it starts. `n_steps`, `n_tokens` and `flops` are its own."""

    n_params: int
    tokens_per_step: int
    n_steps: int
    flops: int
    flops_6nd: int
    inherited: Spent = Spent()  # frozen
    """Of the runs that it grew out of, up to where it began."""
    tuning: Spent = Spent()
    """Of the steps that tuned the map from the base's weights (`grow.learn_steps`); no optimiser step among them. Each
    is charged as a whole step of the grown model, though its backward pass leaves out weights that have no map."""
    model: ModelConfig | None = None
    """What is trained."""
    begun: int = 0
    """Steps of its schedule that others have made before it (`grow.schedule=continue`)."""

    @property
    def n_tokens(self) -> int:
        return self.n_steps * self.tokens_per_step

    @property
    def executed(self) -> Spent:
        """What the run itself computes: the tuning before its first step, and its steps."""
        return self.executed_by(self.n_steps)

    def executed_by(self, step: int) -> Spent:
        """What the run itself has computed when it has made `step` steps."""
        flops, flops_6nd = (total * step // self.n_steps for total in (self.flops, self.flops_6nd))
        return self.tuning + Spent(step, step * self.tokens_per_step, flops, flops_6nd)

    def spent(self, step: int) -> Spent:
        """All that the weights have cost when the run has made `step` steps of its own."""
        return self.inherited + self.executed_by(step)

    def steps(self, duration: str) -> int:
        """A duration within this run, rounded to whole steps."""
        return Duration.parse(duration).steps(
            tokens_per_step=self.tokens_per_step, n_params=self.n_params, run_steps=self.n_steps
        )

    def every(self, duration: str) -> int:
        """Every how many steps something happens; at least one."""
        return max(1, self.steps(duration))


def tuning_tokens(grow: GrowConfig, tokens_per_step: int) -> int:
    """Tokens that tune the map from a base's weights, before the first step; 0 where the map is not learnt."""
    return grow.learn_steps * tokens_per_step if "learn" in (grow.depth, grow.width) else 0


def run_cost(config: Config, vocab_size: int, base: RunCost | None = None) -> RunCost:
    """Steps, tokens and FLOPs of a run, its duration rounded to whole steps.

    Args:
        base: what the run costs that this one grows out of (`grow.base`).

    Raises:
        ConfigError: the duration is shorter than half a step, or the base has no such step.
    """
    context = config.data.context
    n_params = count_params(config.model, vocab_size=vocab_size, context=context).total
    tokens_per_step = config.train.batch_size * context
    duration = Duration.parse(config.train.duration)
    n_steps = duration.steps(tokens_per_step=tokens_per_step, n_params=n_params)
    if n_steps < 1:
        raise ConfigError(
            f"train.duration: {config.train.duration!r} is less than one step of {tokens_per_step} tokens; "
            "allowed: at least one step"
        )
    per_token = flops_per_token(config.model, vocab_size=vocab_size, context=context)
    per_token_6nd = flops_per_token_6nd(config.model, vocab_size=vocab_size, context=context)
    inherited = tuning = Spent()
    begun = 0
    if base is not None:
        assert config.grow.step is not None  # the schema demands it
        if config.grow.step > base.n_steps:
            raise ConfigError(f"grow.step: {config.grow.step} is beyond the base's end; allowed: 0 to {base.n_steps}")
        inherited = base.spent(config.grow.step)
        begun = base.begun + config.grow.step if config.grow.schedule == "continue" else 0
        tokens = tuning_tokens(config.grow, tokens_per_step)
        if tokens:
            assert base.model is not None  # it was priced here
            forward, backward = learn_flops(
                base.model, config.model, config.grow, vocab_size=vocab_size, context=context
            )
            forming = config.grow.learn_steps * (forward + backward) + forward
            tuning = Spent(0, tokens, tokens * per_token + forming, tokens * per_token_6nd)
    tokens = n_steps * tokens_per_step
    return RunCost(
        n_params=n_params,
        tokens_per_step=tokens_per_step,
        n_steps=n_steps,
        flops=tokens * per_token,
        flops_6nd=tokens * per_token_6nd,
        inherited=inherited,
        tuning=tuning,
        model=config.model,
        begun=begun,
    )
