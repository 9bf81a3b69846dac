"""Keras 3 as in its MNIST guide: `compile` and `fit`; KERAS_BACKEND selects the backend."""

import protocol
import keras
import numpy as np

x, y, x_test, y_test, network, batch_size = protocol.load()
x = x.astype("float32") / 255
pool = {"average": keras.layers.AveragePooling2D, "max": keras.layers.MaxPooling2D, "": None}[network.pool]
model = keras.Sequential()
if network.channels:
    model.add(keras.Input((28, 28, 1)))
    for out, padding in zip(network.channels, network.padding):
        model.add(keras.layers.Conv2D(out, network.kernel, padding=padding, activation="relu"))
        model.add(pool(2))
    model.add(keras.layers.Flatten())
else:
    model.add(keras.Input((784,)))
for width in network.dense:
    model.add(keras.layers.Dense(width, activation="relu"))
model.add(keras.layers.Dense(10, activation="softmax"))
x = x.reshape(-1, *model.input_shape[1:])
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])


def epoch() -> None:
    model.fit(x, y, batch_size=batch_size, epochs=1, verbose=0)


def predict(images: np.ndarray) -> np.ndarray:
    pixels = images.reshape(-1, *model.input_shape[1:]).astype("float32") / 255
    return model.predict(pixels, batch_size=len(pixels), verbose=0)


versions = {"keras": keras.__version__}
if keras.backend.backend() == "tensorflow":
    import tensorflow

    versions["tensorflow"] = tensorflow.__version__
else:
    import jax

    versions["jax"] = jax.__version__
protocol.serve(versions, epoch, predict, x_test, y_test)
