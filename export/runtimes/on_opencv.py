# /// script
# dependencies = ["opencv-python-headless", "numpy"]
# ///
"""OpenCV's `dnn` module."""

import cv2
from contract import main


def load(path):
    network = cv2.dnn.readNetFromONNX(path)

    def run(images):
        network.setInput(images, "images")
        return network.forward().copy()  # OpenCV reuses the memory

    return run


main(load, cv2.__version__)
