"""The bridges, against the real frameworks: they are installed in .venv-bench alone (`make bridges-test`)."""
