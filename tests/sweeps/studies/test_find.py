"""A study is found by the path of its file, and what is near a name is told."""

from __future__ import annotations

import re

import pytest

from conf.schema import UserError
from sweeps.studies.find import find_study, studies


def test_a_name_is_the_path_of_a_file_and_leads_back_to_it():
    every = studies()
    assert list(every) == sorted(every)
    for name, study in every.items():
        assert study.name == name
        assert re.fullmatch(r"\w+/\w+", name)
    name = next(iter(every))
    assert find_study(name).claim == every[name].claim


@pytest.mark.parametrize("name", ["", "gstack", "gstack/recipe", "gstack/timin", "gstack.timing", "../studies/gstack"])
def test_what_is_no_study_is_refused_with_those_that_are(name):
    with pytest.raises(UserError) as caught:
        find_study(name)
    assert str(caught.value).startswith(f"study: {name!r} is unknown; ")
    assert str(caught.value).endswith(f"allowed: {', '.join(studies())}")
    assert ("did you mean gstack/timing?" in str(caught.value)) == (name in {"gstack/timin", "gstack.timing"})
