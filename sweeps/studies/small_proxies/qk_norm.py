"""With and without QK-norm over learning rates and sizes (figures 1 and 2).

What the `cpu` profile found (25K to 332K parameters in the blocks, 250 steps, rates 1e-3 to 0.3, three seeds; means
over sizes with 95 % intervals):

- Both arms end within 0.7 % of each other at 1e-3. From 1e-2 on the arm without QK-norm gets worse, up to 0.5 nats at
  0.3; its sensitivity is 0.13 nats higher (0.11 to 0.14), and it fails at a rate 3.5 times lower (2.3 to 5.3).
- Without QK-norm the largest attention logit grows from 8 at 1e-3 to 8e5 at 0.3 in the largest model, with it to 90.
  Queries and keys grow as much as the logits do (0.91 of the decades, 0.86 to 0.95): they do not align, they get long.
- The rate from which on QK-norm is worth 0.25 nats falls as N^-0.5 (-0.9 to -0.1). That the failing rate itself falls
  with size, -0.38, says less: with QK-norm it falls as much, since it is measured from each curve's lowest loss. The
  two statistics that compare the arms were added after the first figure had shown this.
- Nothing diverges: clipped at 1, a model without QK-norm stalls near 2.9 nats, not far below the frequencies of bytes.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.cells.grid import Settings
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import lr_sweep
from train.record.manifest import Profile

ARMS: list[Settings] = [{"model.qk_norm": "none"}, {"model.qk_norm": "head"}]


def qk_norm(profile: Profile) -> list[Settings]:
    """Both arms at every size."""
    return lr_sweep(profile, ARMS)


STUDIES = (
    Study(
        name="small_proxies/qk_norm",
        claim="Attention logits grow until training fails at high learning rates; QK-norm prevents it.",
        cells=qk_norm,
    ),
)
