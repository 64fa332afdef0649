"""What a plan says on a terminal: each run with what tells it apart, how far it has come, and what is still to do."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from conf.schema import UserError
from sweeps.cells.cell import Cell
from sweeps.cells.graph import grown
from sweeps.cells.study import Study
from sweeps.cells.widen import Widen
from sweeps.engines.base import LOG
from sweeps.plan.plan import make_plan
from sweeps.words import print_edges, print_plan, print_states, print_study, print_totals, verdicts
from train.record.metrics_file import MetricsWriter
from train.record.run import locked, write_run

ONE = {"model.depth": 2, "model.width": 16, "model.heads": 2, "train.duration": "10steps"}
FINISHED = {"state": "finished", "val_loss": 2.0, "val_loss_se": 0.1, "seconds": 90.0}
DIVERGED = {"state": "diverged", "diverged_at_step": 3, "seconds": 7.0, "diverged_because": "dead: block0"}


def plan_of(tmp_path, *cells, widen=None):
    study = Study(name="fake/words", claim="Words.", cells=lambda _: list(cells), widen=widen)
    return make_plan(study, "smoke", runs_dir=tmp_path / "runs")


def seeds(tmp_path, n):
    return plan_of(tmp_path, *(ONE | {"seed": seed} for seed in range(n)))


def end(run, record):
    run.folder.mkdir(parents=True, exist_ok=True)
    write_run(run.folder, {"run_id": run.run_id, **record})


def said(show, *given, **named):
    console = Console(file=io.StringIO(), width=200, highlight=False)
    show(*given, console, **named)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_each_run_is_told_by_what_varies_and_by_what_became_of_it(tmp_path):
    runs = seeds(tmp_path, 5).runs
    end(runs[0], FINISHED)
    end(runs[1], DIVERGED)
    end(runs[2], {"state": "failed", "error": "ValueError: odd"})
    runs[4].folder.mkdir(parents=True)
    (runs[4].folder / LOG).write_text("loading\n")
    with locked(runs[3].folder):
        end(runs[3], {"state": "running"})
        writer = MetricsWriter(runs[3].folder, after_step=0)
        writer.append({"step": 4})
        writer.close()
        title, header, *rows = said(print_states, seeds(tmp_path, 5))
    assert (title, header) == ("fake/words (smoke)", "run seed state result")
    assert rows == [
        f"{runs[0].run_id[:8]} 0 finished loss 2.0000 ± 0.1000",
        f"{runs[1].run_id[:8]} 1 diverged at step 3, dead: block0",
        f"{runs[2].run_id[:8]} 2 failed ValueError: odd",
        f"{runs[3].run_id[:8]} 3 running step 4 of 10",
        f"{runs[4].run_id[:8]} 4 planned loading",
    ]


def test_a_run_that_can_never_begin_says_from_where(tmp_path):
    cells = [grown(ONE, 5, {"model.depth": 4})]
    base, _ = plan_of(tmp_path, *cells).runs
    end(base, DIVERGED)
    plan = plan_of(tmp_path, *cells)
    assert said(print_states, plan)[-1].endswith(f"base diverged it starts from step 5 of {base.run_id[:8]}")
    assert said(print_totals, plan) == ["2 runs: 1 done, 1 whose base diverged, 0 to start"]


def test_totals_count_what_is_done_and_price_what_is_not(tmp_path):
    before, seconds = said(print_totals, seeds(tmp_path, 2))
    assert before == "2 runs: 0 done, 2 to start"
    assert "FLOPs, about" in seconds
    assert seconds.endswith("with 1 at a time, threads for each: 1 (assumed, not measured: 2e+10 FLOP/s)")
    for run in seeds(tmp_path, 2).runs:
        end(run, FINISHED)
    assert said(print_totals, seeds(tmp_path, 2)) == ["2 runs: 2 done, 0 to start"]


def test_cells_that_are_one_run_are_told(tmp_path):
    first, _ = said(print_totals, plan_of(tmp_path, ONE, ONE | {"seed": 0}))
    assert first.endswith(" (2 cells, some of them the same run): 0 done, 1 to start")


def test_a_plan_shows_the_graph_and_what_it_saves(tmp_path):
    alone = said(print_plan, seeds(tmp_path, 2), elsewhere=0)
    assert not any("the graph" in line for line in alone)
    plan = plan_of(tmp_path, *(grown(ONE, 5, {"model.depth": 4, "optim.lr": lr}) for lr in (0.1, 0.2)))
    lines = said(print_plan, plan, elsewhere=0)
    assert "the graph: bases, and by step the runs that start from them" in lines
    base, *children = (run.run_id[:8] for run in plan.runs)
    assert f"{base} (10 steps)" in lines
    assert f"5: {children[0]}, 5: {children[1]}" in lines
    assert any(line.startswith("1 base shared by 2 runs: ") and "no run here uses the last" in line for line in lines)


def test_a_study_has_a_row_for_each_profile(tmp_path):
    plan = seeds(tmp_path, 3)
    end(plan.runs[0], FINISHED)
    plan = seeds(tmp_path, 3)
    claims = tmp_path / "results" / "fake" / "words" / "smoke" / "claims.json"
    claims.parent.mkdir(parents=True)
    claims.write_text('{"claims": [{"verdict": "reproduced"}, {"verdict": "inconclusive"}, {"verdict": "reproduced"}]}')
    console = Console(file=io.StringIO(), width=200, highlight=False)
    print_study(plan.study, [plan], [2], console, results_dir=tmp_path / "results")
    title, header, row = (" ".join(line.split()) for line in console.file.getvalue().splitlines())
    assert title == "fake/words Words."
    assert header == "profile runs done FLOPs minutes verdicts"
    assert row.startswith("smoke 3 1 ")
    assert row.endswith(" 1.5 2 reproduced, 1 inconclusive")  # the one that is done took as long as the others together


@pytest.mark.parametrize("content", ["", "{}", "[]", "3", '{"claims": [{}]}', '{"claims": [1]}', '{"claims": null}'])
def test_a_file_without_claims_is_one_line(tmp_path, content):
    path = tmp_path / "claims.json"
    assert verdicts(path) == "none"
    path.write_text(content)
    with pytest.raises(UserError, match=r"claims\.json: not the claims of a study"):
        verdicts(path)
    path.write_text('{"claims": []}')
    assert verdicts(path) == ""


def test_a_grid_that_is_best_at_an_end_is_told(tmp_path):
    widen = Widen(at_most=0, profiles=("smoke",))
    cells = [Cell(ONE | {"optim.lr": lr}) for lr in (0.01, 0.1)]
    for run, loss in zip(plan_of(tmp_path, *cells).runs, (3.0, 2.0), strict=True):
        end(run, FINISHED | {"val_loss": loss})
    line = "optim.lr: the best value 0.1 is still the largest after 0 extensions"
    assert said(print_edges, plan_of(tmp_path, *cells, widen=widen)) == [line]
    assert said(print_edges, plan_of(tmp_path, *cells)) == []
