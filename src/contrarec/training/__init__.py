"""Training: the min–max loop, its state, checkpoints, log and progress."""
