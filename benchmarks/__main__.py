"""``python -m benchmarks``: see ``--help``."""

from benchmarks.commands import main

main()
