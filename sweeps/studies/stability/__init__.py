"""Other studies of stability: capped attention logits, collapse of the attention's entropy, spikes of the loss."""
