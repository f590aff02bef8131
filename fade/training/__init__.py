"""The training loop, its batches, prompts, checkpoints and worker."""
