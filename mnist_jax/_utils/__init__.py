"""Helpers without machine learning: files, processes, text, nested dicts."""
