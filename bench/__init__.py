"""Benchmarks, run from a checkout: `uv run python -m bench --help`."""
