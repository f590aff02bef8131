"""Processes: accelerate's launcher, process groups, environment, git worktrees."""
