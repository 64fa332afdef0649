"""Designs and truths for the laws of `analysis.laws.tasks`."""

import numpy as np

from tests.analysis.simulate import Example

# Ten sizes from 30 million to 2.4 billion, three seeds; rates from 1e-5 up, each of about
# 1000 passed answers.
PASS_UNTIL = Example(
    law="pass_until",
    truth={"c": 1.2e3, "alpha": 0.27},
    table=lambda _: {"n_params": np.repeat(np.geomspace(3e7, 2.4e9, 10), 3)},
    noise=0.03,
    tolerance={"default": 0.05, "c": 0.5},
)

# One learning rate, twelve sizes of 2.4 million to 1.2 billion, four seeds; at 4.8 billion the logit passes 1e4.
LOGIT_GROWTH = Example(
    law="logit_growth",
    truth={"A": 40.0, "b": 0.4, "c": 0.08},
    table=lambda _: {"n_params": np.repeat(np.geomspace(2.4e6, 1.2e9, 12), 4)},
    noise=0.1,
    tolerance={"default": 0.3},
)

EXAMPLES = (PASS_UNTIL, LOGIT_GROWTH)
