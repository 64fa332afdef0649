"""What a run costs adds up: over its steps, over the runs that it grew out of, and over the tuning before it."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.config import Config
from conf.schema import ConfigError, DataConfig, GrowConfig, ModelConfig, TrainConfig
from models.count import count_params, flops_per_token, flops_per_token_6nd, learn_flops
from train.timetable.cost import RunCost, Spent, run_cost, tuning_tokens

V, T, B = 50, 16, 4
SMALL = ModelConfig(depth=2, width=16, heads=2)
SPENT = st.builds(Spent, *4 * [st.integers(0, 10**15)])
COUNTS = st.integers(1, 10**4)


def config(duration: str = "10steps", model: ModelConfig = SMALL, grow: GrowConfig | None = None) -> Config:
    train = TrainConfig(duration=duration, batch_size=B)
    return Config(data=DataConfig(context=T), model=model, train=train, grow=grow or GrowConfig())


def grown(step: int = 5, model: ModelConfig = SMALL, **how: object) -> Config:
    return config(model=model, grow=GrowConfig(base="0" * 16, step=step, **how))


@settings(max_examples=50, deadline=None)
@given(SPENT, SPENT, SPENT)
def test_what_is_spent_adds_up(a: Spent, b: Spent, c: Spent) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Spent() == a
    assert (a + b).flops - b.flops == a.flops


@settings(max_examples=50, deadline=None)
@given(COUNTS, COUNTS, st.integers(1, 10**6), SPENT, st.data())
def test_the_cost_of_steps_rises_from_what_was_inherited_to_the_whole(
    n_steps: int, tokens_per_step: int, flops: int, inherited: Spent, data: st.DataObject
) -> None:
    tuning = Spent(0, 7, 11, 13)
    cost = RunCost(1, tokens_per_step, n_steps, flops, 2 * flops, inherited, tuning)
    first, later = sorted(data.draw(st.tuples(*2 * [st.integers(0, n_steps)])))
    assert cost.spent(0) == inherited + tuning
    assert cost.spent(n_steps) == inherited + cost.executed
    assert cost.executed == tuning + Spent(n_steps, cost.n_tokens, flops, 2 * flops)
    assert cost.spent(later).tokens - cost.spent(first).tokens == (later - first) * tokens_per_step
    assert cost.spent(first).flops <= cost.spent(later).flops
    assert abs(cost.executed_by(first).flops - tuning.flops - flops * first / n_steps) <= 1 + 1e-9 * flops


@pytest.mark.parametrize("model", [SMALL, replace(SMALL, depth=0), replace(SMALL, tie_embeddings=True)], ids=str)
def test_a_run_from_scratch_costs_its_tokens(model: ModelConfig) -> None:
    cost = run_cost(config("10steps", model), V)
    assert (cost.n_steps, cost.tokens_per_step, cost.n_tokens) == (10, B * T, 10 * B * T)
    assert cost.n_params == count_params(model, vocab_size=V, context=T).total
    assert cost.flops == cost.n_tokens * flops_per_token(model, vocab_size=V, context=T)
    assert cost.flops_6nd == cost.n_tokens * flops_per_token_6nd(model, vocab_size=V, context=T)
    assert (cost.inherited, cost.tuning, cost.begun, cost.model) == (Spent(), Spent(), 0, model)


def test_a_duration_is_rounded_to_whole_steps_and_is_one_at_least() -> None:
    for tokens, steps in ((B * T // 2 + 1, 1), (B * T, 1), (2 * B * T - 1, 2), (2.4 * B * T, 2)):
        assert run_cost(config(f"{tokens}tok"), V).n_steps == steps
    with pytest.raises(ConfigError, match=r"^train\.duration: '32tok' is less than one step of 64 tokens; allowed"):
        run_cost(config(f"{B * T // 2}tok"), V)  # halves are rounded to even


@given(st.sampled_from(["steps", "tok", "%"]), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_what_happens_every_so_often_happens_each_step_at_most(unit: str, value: int) -> None:
    cost = RunCost(1000, tokens_per_step=10, n_steps=200, flops=1, flops_6nd=1)
    steps = cost.steps(f"{value}{unit}")
    assert cost.every(f"{value}{unit}") == max(1, steps)
    assert abs(steps - value * {"steps": 1, "tok": 1 / 10, "%": 2}[unit]) <= 0.5


# --- growth -----------------------------------------------------------------------------------------------


def test_a_chain_inherits_all_that_went_before_it() -> None:
    first = run_cost(config(), V)
    second = run_cost(grown(5), V, base=first)
    third = run_cost(grown(3, replace(SMALL, depth=4)), V, base=second)
    assert second.inherited == first.spent(5)
    assert third.inherited == first.spent(5) + second.executed_by(3) == second.spent(3)
    assert third.inherited.steps == 8
    assert third.spent(10).tokens == 18 * B * T
    # The price of a step is that of the model that made it.
    assert third.spent(10).flops == first.executed_by(5).flops + second.executed_by(3).flops + third.flops
    assert third.flops > second.flops == first.flops


def test_a_step_that_the_base_has_not_is_refused() -> None:
    base = run_cost(config("10steps"), V)
    assert run_cost(grown(10), V, base=base).inherited == base.executed
    with pytest.raises(ConfigError, match=r"^grow\.step: 11 is beyond the base's end; allowed: 0 to 10$"):
        run_cost(grown(11), V, base=base)


def test_only_a_schedule_that_goes_on_counts_the_steps_of_others() -> None:
    base = replace(run_cost(config(), V), begun=100)
    assert run_cost(grown(5, schedule="continue"), V, base=base).begun == 105
    assert run_cost(grown(5), V, base=base).begun == 0


@pytest.mark.parametrize("how", [{"depth": "learn"}, {"width": "learn"}, {"depth": "learn", "width": "learn"}, {}])
def test_tuning_is_charged_where_a_map_is_learnt(how: dict[str, str]) -> None:
    bigger = ModelConfig(depth=4, width=32, heads=4)
    after = grown(5, bigger, learn_steps=3, **how) if how else grown(5, bigger)
    cost = run_cost(after, V, base=run_cost(config(), V))
    tokens = 3 * B * T if how else 0
    assert (cost.tuning.steps, cost.tuning.tokens) == (0, tokens)
    assert tuning_tokens(after.grow, B * T) == tokens
    assert cost.tuning.flops_6nd == tokens * flops_per_token_6nd(bigger, vocab_size=V, context=T)
    if how:
        forward, backward = learn_flops(SMALL, bigger, after.grow, vocab_size=V, context=T)
        forming = cost.tuning.flops - tokens * flops_per_token(bigger, vocab_size=V, context=T)
        assert forming == 3 * (forward + backward) + forward > 0
    assert cost.spent(0) == cost.inherited + cost.tuning
    assert cost.spent(0).steps == 5
    assert ceil(cost.spent(0).tokens / (B * T)) == 5 + tokens // (B * T)
