"""What the stages of one run share: parameters, paths, lock, loaded models."""
