"""Simulated photographs of handwritten digits, drawn by program."""
