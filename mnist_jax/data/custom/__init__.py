"""Data sets of one's own: arrays, CSV, `.npz` and IDX files, and folders of pictures.

Each source is checked, converted to uint8 `[n, 28, 28]` with labels from 0, and split into training,
validation and test sets.
"""
