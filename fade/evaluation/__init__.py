"""Evidence: what an eraser removed and what it left; nothing here trains, but an attack that undoes it again.

`fade.evaluation.metrics` declares every number. Importing the package imports no torch."""
