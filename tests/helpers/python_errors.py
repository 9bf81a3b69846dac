"""Common mistakes in Python, with the errors that they raise."""

from collections.abc import Callable
from types import SimpleNamespace

import jax
import numpy as np
import optax
from PIL import Image

import mnist_jax
import mnist_onnx
from mnist_jax import Config, Examples, HyperParams, errors

KEY = jax.random.key(0)
SPEC = mnist_jax.MLP((5,), ("relu",))
CONFIG = Config(SPEC, epochs=1)
SURROGATE = "\ud800"  # half a character
MISTAKES: dict[str, tuple[Callable[[SimpleNamespace], object], type[Exception], str]] = {
    "the test set for a step": (
        lambda a: mnist_jax.train_step(CONFIG, HyperParams(), mnist_jax.init_state(CONFIG, KEY), a.data.test),
        errors.InputError,
        "must be Examples; got the held-out test set",
    ),
    "the test set for an epoch": (
        lambda a: mnist_jax.train_epoch(
            CONFIG, HyperParams(), mnist_jax.init_state(CONFIG, KEY), a.data.test
        ),
        errors.InputError,
        "must be Examples; got the held-out test set",
    ),
    "labels that are no digits": (
        lambda a: mnist_jax.evaluate(SPEC, a.params, Examples(a.images, a.labels + 77)),
        errors.InputError,
        "labels must lie in 0..9; got 77..86",
    ),
    "fractions up to 255": (
        lambda a: mnist_jax.evaluate(SPEC, a.params, Examples(np.float32(a.images), a.labels)),
        errors.InputError,
        "float32 images must lie in 0..1; got 0..255",
    ),
    "keys for labels": (
        lambda a: mnist_jax.evaluate(SPEC, a.params, Examples(a.images, jax.random.split(KEY, 20))),
        errors.InputError,
        "labels must be integers from 0 to 9; got key",
    ),
    "an array for a layer size": (
        lambda _: mnist_jax.MLP((np.array([2, 3]),), ("relu",)),
        errors.SpecError,
        "a hidden layer size must be a whole number",
    ),
    "an array for a name": (
        lambda _: mnist_jax.MLP((3,), (np.array(["relu", "tanh"]),)),
        errors.SpecError,
        "activation must be one of relu",
    ),
    "a network too large": (
        lambda _: mnist_jax.MLP((1_000_000, 1_000_000), ("relu", "relu")),
        errors.SpecError,
        "at most 2,147,483,647 parameters; got 1,000,",
    ),
    "a list for a preset": (
        lambda _: mnist_jax.preset([]),
        errors.SpecError,
        r"preset must be one of .*; got \[\]",
    ),
    "a number for a folder": (
        lambda _: mnist_jax.load("mnist", 3),
        errors.DatasetError,
        "must be a directory's path; got 3",
    ),
    "no name for a folder": (
        lambda _: mnist_jax.load("mnist", ""),
        errors.DatasetError,
        "must be a directory's path; got ''",
    ),
    "true for a seed": (
        lambda _: mnist_jax.load("digits", validation_seed=True),
        errors.SpecError,
        "must be a whole number of at least 0; got True",
    ),
    "no classes": (
        lambda a: mnist_onnx.to_onnx(SPEC, a.params, classes=list("abc")),
        errors.SpecError,
        "classes must be 10 names, all different, printable, of at most 200 characters; got ",
    ),
    "a list for metadata": (
        lambda a: mnist_onnx.to_onnx(SPEC, a.params, metadata=["a"]),
        errors.SpecError,
        r"metadata must be a mapping of strings; got \['a'\]",
    ),
    "half a character": (
        lambda a: mnist_onnx.to_onnx(SPEC, a.params, metadata={"a": SURROGATE}),
        errors.SpecError,
        "metadata must be strings; got .*ud800",
    ),
    "bytes to save": (
        lambda a: mnist_onnx.save(a.model.SerializeToString(), "a.onnx"),
        errors.ModelError,
        "save takes a model that to_onnx built, and a file's path; got bytes and 'a.onnx'",
    ),
    "a negative seed for noise": (
        lambda a: mnist_onnx.check_parity(SPEC, a.params, a.model, a.images, seed=-1),
        errors.InputError,
        "seed must be a whole number of at least 0; got -1",
    ),
    "a zero byte in a name": (
        lambda _: mnist_onnx.Classifier("a\0b"),
        errors.ModelError,
        "it cannot be read: .*embedded null",
    ),
    "the name in capitals": (
        lambda _: mnist_jax.load("MNIST"),
        errors.SpecError,
        "data set must be one of mnist, fashion_mnist, kmnist, digits; got 'MNIST'",
    ),
    "the whole data set": (
        lambda a: mnist_jax.fit(CONFIG, a.data, key=KEY),
        errors.InputError,
        "examples must have images and labels, as Examples has; got Dataset; take its train or test",
    ),
    "a plain tuple": (
        lambda a: mnist_jax.fit(CONFIG, (a.images, a.labels), key=KEY),
        errors.InputError,
        r"examples must have images and labels, as Examples has; got tuple; make it one: Examples\(\*pair\)",
    ),
    "no key": (
        lambda a: mnist_jax.fit(CONFIG, a.data.train),
        errors.SpecError,
        "fit takes either a key, to train from scratch or from params, or a state, to go on from",
    ),
    "a seed for a key": (
        lambda a: mnist_jax.fit(CONFIG, a.data.train, key=0),
        errors.SpecError,
        r"key must be one typed key, such as jax.random.key\(0\); got 0",
    ),
    "an old key": (
        lambda a: mnist_jax.fit(CONFIG, a.data.train, key=jax.random.key_data(KEY)),
        errors.SpecError,
        r"key must be one typed key, .*; got uint32\[2\]",
    ),
    "several keys": (
        lambda _: mnist_jax.init_state(CONFIG, jax.random.split(KEY)),
        errors.SpecError,
        r"key must be one typed key, .*; got key<fry>\[2\]",
    ),
    "a dict of numbers": (
        lambda a: mnist_jax.fit(CONFIG, a.data.train, key=KEY, hyperparams={"learning_rate": 0.1}),
        errors.SpecError,
        "hyperparams must be a HyperParams; got {'learning_rate': 0.1}",
    ),
    "a spec for a config": (
        lambda a: mnist_jax.fit(SPEC, a.data.train, key=KEY),
        errors.SpecError,
        r"config must be a Config; got MLP; put it into one: Config\(spec\)",
    ),
    "a spec for a config, in a step": (
        lambda a: mnist_jax.train_step(SPEC, HyperParams(), None, Examples(a.images, a.labels)),
        errors.SpecError,
        "config must be a Config; got MLP",
    ),
    "a number for hyperparams, in a step": (
        lambda a: mnist_jax.train_step(
            CONFIG, 1e-3, mnist_jax.init_state(CONFIG, KEY), Examples(a.images, a.labels)
        ),
        errors.SpecError,
        "hyperparams must be a HyperParams; got float",
    ),
    "params for a state, in a step": (
        lambda a: mnist_jax.train_step(CONFIG, HyperParams(), a.params, Examples(a.images, a.labels)),
        errors.SpecError,
        "state must be a TrainState; got dict; init_state makes one",
    ),
    "params for a state, in an epoch": (
        lambda a: mnist_jax.train_epoch(CONFIG, HyperParams(), a.params, a.data.train),
        errors.SpecError,
        "state must be a TrainState; got dict; init_state makes one",
    ),
    "a dtype that layers cannot compute in": (
        lambda a: mnist_jax.apply(SPEC, a.params, a.images, dtype=np.float16),
        errors.SpecError,
        "dtype must be one of float32, bfloat16; got <class 'numpy.float16'>",
    ),
    "half an image in a batch": (
        lambda a: mnist_jax.evaluate(SPEC, a.params, a.data.test, batch_size=1.5),
        errors.SpecError,
        "batch size must be a whole number of at least 1; got 1.5",
    ),
    "a string for a callback": (
        lambda a: mnist_jax.fit(CONFIG, a.data.train, key=KEY, callback="print"),
        errors.SpecError,
        "callback must be a function of a record and a state, or several; got 'print'",
    ),
    "a state without its average": (
        lambda a: mnist_jax.train_step(
            Config(SPEC, ema_decay=0.9),
            HyperParams(),
            mnist_jax.init_state(CONFIG, KEY),
            Examples(a.images, a.labels),
        ),
        errors.SpecError,
        "a state must have an average exactly where its config has an ema_decay; use init_state",
    ),
    "a config for a spec": (
        lambda a: mnist_jax.evaluate(CONFIG, a.params, a.data.test),
        errors.SpecError,
        "spec must be an MLP, a CNN, an Ensemble or a FlaxModel; got Config; take its model",
    ),
    "another state": (
        lambda a: mnist_jax.fit(
            CONFIG, a.data.train, state=mnist_jax.init_state(Config(mnist_jax.MLP((), ())), KEY)
        ),
        errors.SpecError,
        "a state to go on from must be of this config; got one of another model or optimizer",
    ),
    "a state for params": (
        lambda a: mnist_jax.predict(SPEC, mnist_jax.init_state(CONFIG, KEY), a.images),
        errors.SpecError,
        r"params must be those of 784-5-10 \(relu, softmax\), a nested dict; got TrainState",
    ),
    "another network's params": (
        lambda a: mnist_jax.apply(mnist_jax.MLP((6,), ("relu",)), a.params, a.images),
        errors.SpecError,
        r"params must be those of 784-6-10 \(relu, softmax\), where Dense_0/bias is \(6,\); got \(5,\)",
    ),
    "a deeper network's params": (
        lambda a: mnist_onnx.to_onnx(mnist_jax.MLP((), ()), a.params),
        errors.SpecError,
        r"where Dense_0/bias is \(10,\); got \(5,\)",
    ),
    "one image": (
        lambda a: mnist_jax.apply(SPEC, a.params, a.images[0]),
        errors.InputError,
        r"shape \[batch, 28, 28\]; got shape \(28, 28\); add the batch axis: images\[None\]",
    ),
    "flat images": (
        lambda a: mnist_jax.apply(SPEC, a.params, a.images.reshape(-1, 784)),
        errors.InputError,
        r"got shape \(20, 784\); reshape to \(-1, 28, 28\)",
    ),
    "images with a channel": (
        lambda a: mnist_jax.apply(SPEC, a.params, a.images[..., None]),
        errors.InputError,
        "drop the channel axis",
    ),
    "images that were divided": (
        lambda a: mnist_jax.apply(SPEC, a.params, a.images / 255),
        errors.InputError,
        r"got float64; convert what lies in 0..1: images.astype\(np.float32\)",
    ),
    "one-hot labels": (
        lambda a: mnist_jax.fit(CONFIG, Examples(a.images, np.eye(10, dtype=int)[a.labels]), key=KEY),
        errors.InputError,
        r"got shape \(20, 10\); if they are one-hot, pass labels.argmax\(axis=1\)",
    ),
    "labels in a list": (
        lambda a: mnist_jax.fit(CONFIG, Examples(a.images, a.labels.tolist()), key=KEY),
        errors.InputError,
        r"one entry for each of 20 images; got list; convert it first: np.asarray\(labels\)",
    ),
    "masked labels": (
        lambda a: mnist_jax.evaluate(SPEC, a.params, Examples(a.images, np.ma.masked_array(a.labels))),
        errors.InputError,
        r"got MaskedArray; fill it first: labels.filled\(0\)",
    ),
    "pixels that were standardized": (
        lambda a: mnist_jax.predict(SPEC, a.params, ((a.images / 255 - 0.13) / 0.31).astype(np.float32)),
        errors.InputError,
        r"must lie in 0\.\.1; got -0.41.*; pass raw pixels, .*, not standardized ones",
    ),
    "a confusion matrix in lists": (
        lambda _: mnist_jax.metrics.class_scores([[1] * 10] * 10),
        errors.InputError,
        r"confusion must be an array; got list; convert it first: np.asarray\(confusion\)",
    ),
    "shares for a confusion matrix": (
        lambda _: mnist_jax.metrics.class_scores(np.full((10, 10), 0.1)),
        errors.InputError,
        r"confusion must be integer counts \[classes, classes\]; got float64",
    ),
    "a picture without pixels": (
        lambda _: mnist_jax.preprocess.prepare(Image.new("L", (0, 10))),
        errors.ImageError,
        "a picture must have pixels; got 0 x 10",
    ),
    "images without labels": (
        lambda a: mnist_jax.evaluate(SPEC, a.params, a.images),
        errors.InputError,
        "examples must have images and labels, as Examples has; got ndarray",
    ),
    "a layer size without a tuple": (
        lambda _: mnist_jax.MLP(100, "relu"),
        errors.SpecError,
        "hidden_sizes must be a tuple with one entry per layer; got 100",
    ),
    "an unknown activation for all layers": (
        lambda _: mnist_jax.MLP((100,), "relu6"),
        errors.SpecError,
        "activation must be one of relu, .*; got 'relu6'",
    ),
    "an activation that is no name": (
        lambda _: mnist_jax.MLP((100,), None),
        errors.SpecError,
        "activations must be a tuple with one entry per layer; got None",
    ),
    "an unknown optimizer's name": (
        lambda _: Config(SPEC, optimizer="adm"),
        errors.SpecError,
        "optimizer must be one of adam, .*; got 'adm'",
    ),
    "an optimizer with its learning rate": (
        lambda _: Config(SPEC, optimizer=optax.adam(1e-3)),
        errors.SpecError,
        r"optimizer must be a function of the learning rate, such as optax.adam or lambda .*; got Gradient",
    ),
    "an optimizer that is a number": (
        lambda _: Config(SPEC, optimizer=3),
        errors.SpecError,
        "optimizer must be a name, an Optimizer or an optax function; it must be a function; got 3",
    ),
    "a schedule that is a number": (
        lambda _: Config(SPEC, schedule=1e-3),
        errors.SpecError,
        "schedule must be a name, a Schedule or a function of the step; it must be a function; got 0.001",
    ),
    "a loss by name": (
        lambda _: Config(SPEC, loss="cross_entropy"),
        errors.SpecError,
        "loss must be a function; got 'cross_entropy'",
    ),
    "a file's bytes": (
        lambda a: mnist_onnx.Classifier(a.model.SerializeToString()),
        errors.ModelError,
        "a Classifier is made from a file's path; got bytes",
    ),
    "a missing file": (
        lambda _: mnist_onnx.Classifier("none.onnx"),
        errors.ModelError,
        "none.onnx must be an ONNX file; it cannot be read: No such file or directory",
    ),
    "the test set for its images": (
        lambda a: mnist_onnx.check_parity(SPEC, a.params, a.model, a.data.test),
        errors.InputError,
        r"images must be an array of shape \[batch, 28, 28\]; got TestSet",
    ),
    "a picture's path": (
        lambda _: mnist_jax.preprocess.prepare("seven.png"),
        errors.ImageError,
        r"prepare takes a Pillow image or an array; got 'seven.png'; read\(\) opens files",
    ),
}
