"""New blocks that fade in after growth."""

from __future__ import annotations

from dataclasses import dataclass

from models.gpt import GPT, Block


@dataclass(frozen=True)
class Ramp:
    """Y = X + c branch(X) in the new blocks, with c from 0 to 1 in equal steps (Yao et al. 2023, arXiv 2305.02869).

    In post-norm the sum is normalised from the start, so that a new block is no identity at c = 0.

    Args:
        multiplier: on the branches of every other block, and of these ones at the end.
        blocks: the new ones.
        n_steps: the step, counted from 0, that is the first with c = 1.
    """

    model: GPT
    multiplier: float
    blocks: range
    n_steps: int

    def set(self, step: int) -> None:
        """Make the model what it is at optimiser step `step`, counted from 0."""
        share = min(1.0, step / self.n_steps)
        for place in self.blocks:
            block = self.model.blocks[place]
            assert isinstance(block, Block)
            for sublayer in (block.attention, block.mlp):
                sublayer.multiplier = self.multiplier * share
