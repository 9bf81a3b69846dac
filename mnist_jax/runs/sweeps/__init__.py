"""Sweeps on disk: their results, and the session that trains and resumes them."""
