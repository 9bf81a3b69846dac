# /// script
# dependencies = ["tract", "numpy"]
# ///
"""tract, Sonos's runtime in Rust, through its Python binding."""

from importlib.metadata import version

import tract
from contract import main


def load(path):
    model = tract.onnx().load(path).into_model().into_runnable()
    return lambda images: model.run([images])[0].to_numpy()


main(load, version("tract"))
