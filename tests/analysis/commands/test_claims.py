"""The overview of verdicts says what the studies' own files say."""

from __future__ import annotations

import math

import pytest

from analysis.__main__ import main
from analysis.claims.claim import Claim, write_claims
from analysis.claims.region import above
from analysis.claims.sample import Measured


def claim(sentence, interval, needs=None):
    of = Measured(estimate=min(interval, key=abs), interval=interval, n_seeds=3, n_runs=9) if interval else SILENT
    return Claim(sentence, of=of, statistic="s", accept=above(0), needs=needs)


SILENT = Measured(reason="one seed", n_seeds=3, n_runs=9)


@pytest.fixture
def results(tmp_path):
    for study, interval in (("paper/one", (1.0, 3.0)), ("paper/two", (-3.0, -1.0))):
        folder = tmp_path / study / "cpu"
        folder.mkdir(parents=True)
        claims = [claim(f"Of {study} | it holds.", interval), claim("Open.", None, needs="a GPU.")]
        write_claims(folder / "claims.json", study, "cpu", claims)
    return tmp_path


def test_every_claim_is_listed_with_its_verdict(results, capsys):
    assert main(["claims", "--results-dir", str(results)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith("paper")] == ["paper/one", "paper/two"]
    assert "1 to 3" in next(line for line in lines if "Of paper/one" in line)
    assert " not reproduced" in next(line for line in lines if "Of paper/two" in line)


def test_an_interval_may_have_no_end(results, capsys):
    for k, (interval, words) in enumerate((((1.0, math.inf), "1 or more"), ((-math.inf, 3.0), "3 or less"))):
        (results / f"paper/open{k}/cpu").mkdir(parents=True)
        bounded = claim("It is bounded.", interval)
        write_claims(results / f"paper/open{k}/cpu/claims.json", f"paper/open{k}", "cpu", [bounded])
        assert main(["claims", f"paper/open{k}", "--results-dir", str(results)]) == 0
        assert words in capsys.readouterr().out


def test_the_page_counts_them_and_keeps_its_columns(results, capsys):
    assert main(["claims", "paper/two", "paper/one", "--results-dir", str(results), "--markdown"]) == 0
    page = capsys.readouterr().out
    assert "4 claims of 2 studies: 1 reproduced, 1 not reproduced, 2 inconclusive" in page
    assert page.index("paper/two") < page.index("paper/one")
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {8}
    assert "*Needs a GPU.*" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["claims"], "no study has results"), (["claims", "paper/three"], "there is no such file")],
)
def test_what_is_missing_is_one_line(tmp_path, capsys, arguments, words):
    assert main([*arguments, "--results-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_damaged_file_is_one_line(results, capsys):
    (results / "paper/one/cpu/claims.json").write_text("{}")
    assert main(["claims", "--results-dir", str(results)]) == 2
    assert "not the claims of a study" in capsys.readouterr().err
