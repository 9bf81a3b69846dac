"""Keras 3 as its guide to MNIST has it: `compile` and `fit`; the backend is named by KERAS_BACKEND."""

import protocol
import keras

x, y, x_test, y_test, network, batch_size = protocol.load()
x, x_test = (a.astype("float32") / 255 for a in (x, x_test))
pool = {"average": keras.layers.AveragePooling2D, "max": keras.layers.MaxPooling2D, "": None}[network.pool]
model = keras.Sequential()
if network.channels:
    x, x_test = x[..., None], x_test[..., None]
    model.add(keras.Input((28, 28, 1)))
    for out, padding in zip(network.channels, network.padding):
        model.add(keras.layers.Conv2D(out, network.kernel, padding=padding, activation="relu"))
        model.add(pool())
    model.add(keras.layers.Flatten())
else:
    x, x_test = x.reshape(-1, 784), x_test.reshape(-1, 784)
    model.add(keras.Input((784,)))
for width in network.dense:
    model.add(keras.layers.Dense(width, activation="relu"))
model.add(keras.layers.Dense(10, activation="softmax"))
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
