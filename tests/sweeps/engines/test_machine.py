"""What this machine offers: never more threads than cores, and a rate of a real machine."""

from __future__ import annotations

import pytest

from conf.schema import UserError
from sweeps.engines import machine
from sweeps.engines.machine import core_rate, share_cores, speed, this_machine


@pytest.mark.parametrize("cores", [1, 2, 5, 16])
@pytest.mark.parametrize("n_runs", [0, 1, 3, 100])
def test_jobs_times_threads_never_exceed_the_cores(n_runs, cores):
    for asked in (None, *range(1, cores + 1)):
        jobs, threads = share_cores(n_runs, jobs=asked, cores=cores)
        assert threads >= 1
        assert 1 <= jobs * threads <= cores
        assert jobs <= max(1, n_runs)
    for bad in (0, -1, cores + 1):
        with pytest.raises(UserError, match="--jobs"):
            share_cores(n_runs, jobs=bad, cores=cores)


def test_runs_beside_each_other_share_a_gpu():
    half, whole = (speed("cuda", jobs=jobs, threads=1).flops_per_second for jobs in (2, 1))
    assert 2 * half == whole


def test_a_gpu_that_is_not_here_is_planned_with_the_cores_of_a_machine_that_has_one(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    for here, jobs in ((False, machine.GPU_JOBS), (True, 2)):
        monkeypatch.setattr(machine, "has_gpu", lambda here=here: here)
        assert this_machine(20, "cuda").jobs == jobs
        assert this_machine(20, "cpu").jobs == 2


def test_the_matmul_rate_is_one_of_a_real_machine():
    assert 1e8 < core_rate() < 1e13
