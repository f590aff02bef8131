"""``python -m fade.cli``."""

from fade.cli import main

main()
