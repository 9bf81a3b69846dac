"""Keras 3 as its guide to MNIST has it: `compile` and `fit`; the backend is named by KERAS_BACKEND."""

import protocol
import keras

x, y, x_test, y_test, widths, batch_size = protocol.load()
x, x_test = (a.reshape(-1, 784).astype("float32") / 255 for a in (x, x_test))
layers = [keras.layers.Dense(width, activation="relu") for width in widths[1:-1]]
model = keras.Sequential([keras.Input((784,)), *layers, keras.layers.Dense(widths[-1], activation="softmax")])
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])


def epoch() -> None:
    model.fit(x, y, batch_size=batch_size, epochs=1, verbose=0)


def score() -> float:
    return float(model.evaluate(x_test, y_test, batch_size=1000, verbose=0)[1])


versions = {"keras": keras.__version__}
if keras.backend.backend() == "tensorflow":
    import tensorflow

    versions["tensorflow"] = tensorflow.__version__
else:
    import jax

    versions["jax"] = jax.__version__
protocol.serve(versions, epoch, score)
