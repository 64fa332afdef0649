"""With and without QK-norm over learning rates and sizes (figures 1 and 2).

- Queries and keys grow as much as the logits do: they do not align, they get long.
- That the failing rate itself falls with size says little: with QK-norm it falls as much, since it is measured from
  each curve's lowest loss. The two statistics that compare the arms were added after the first figure had shown this.
- Nothing diverges: clipped at 1, a model without QK-norm stalls near 2.9 nats, not far below the frequencies of bytes.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import lr_sweep
from train.record.manifest import Profile


def cells(profile: Profile) -> list[GridPoint]:
    """Both arms at every size."""
    return lr_sweep(profile, [{"model.qk_norm": "none"}, {"model.qk_norm": "head"}])


STUDY = Study(
    claim="Attention logits grow until training fails at high learning rates; QK-norm prevents it.", cells=cells
)
