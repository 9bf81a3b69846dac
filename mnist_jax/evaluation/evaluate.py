"""Evaluation of a network on every example of a data set, for any batch size."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Int32

from mnist_jax._utils.kept_programs import KEPT_PROGRAMS
from mnist_jax.config.input_checks import as_examples, check_spec
from mnist_jax.config.networks import Spec
from mnist_jax.config.pixel_checks import check_pixels
from mnist_jax.config.validation import check_positive_int
from mnist_jax.data.examples import Examples, TestSet
from mnist_jax.evaluation.metrics import confusion_matrix, example_losses
from mnist_jax.nn.model import apply
from mnist_jax.parallel.mesh import Devices, as_mesh, batch_sharding, replicate, split_rows
from mnist_jax.types import Array, Confusion, Params, Scalar


class Evaluation(NamedTuple):
    """Metrics of a network on a data set.

    Attributes:
        loss: mean cross-entropy in nats, float32.
        accuracy: fraction of correct predictions, float32.
        confusion: int32 `[classes, classes]`; rows are true classes, columns predicted ones.
        n: number of examples, int32.

    Examples:
        >>> import numpy as np
        >>> from mnist_jax import Evaluation
        >>> result = Evaluation(loss=0.1, accuracy=0.9, confusion=np.diag([9] * 10), n=100)
        >>> f"{result.accuracy:.0%} of {result.n}"
        '90% of 100'
    """

    loss: Scalar
    accuracy: Scalar
    confusion: Confusion
    n: Int32[Array, ""]

    def __repr__(self) -> str:
        if isinstance(self.loss, jax.core.Tracer) or jnp.ndim(self.loss):
            return f"Evaluation(loss={self.loss}, accuracy={self.accuracy})"  # traced, or of several networks
        return f"Evaluation(loss={float(self.loss):.4f}, accuracy={float(self.accuracy):.4f}, n={self.n})"


@jax.transfer_guard("allow")  # these transfers are intended, even if the caller forbids implicit ones
def evaluate(
    spec: Spec,
    params: Params,
    examples: Examples | TestSet,
    *,
    batch_size: int = 1000,
    loss: Callable[..., Any] | None = None,
    devices: Devices | None = None,
) -> Evaluation:
    """Evaluate a network on every example; the last batch is padded, and the padding is not counted.

    Args:
        spec: network spec.
        params: its parameters.
        examples: images and labels, at least one.
        batch_size: examples per batch; affects speed and memory only.
        loss: as in `Config`; None for the cross-entropy.
        devices: share the batches out, as in `fit`; None for JAX's default device.

    Returns:
        Loss, accuracy, confusion matrix and number of examples.

    Raises:
        InputError: if shapes or dtypes do not match or there is no example; or, except during tracing, if a
            label or a float32 pixel is out of range.
        SpecError: if `batch_size` is not a whole number of at least 1; or as `apply`.

    Examples:
        >>> import jax, mnist_jax
        >>> data = mnist_jax.load("digits")
        >>> spec = mnist_jax.MLP((), ())
        >>> params = mnist_jax.init(spec, jax.random.key(0))
        >>> result = mnist_jax.evaluate(spec, params, data.test)
        >>> int(result.n), result.confusion.shape
        (297, (10, 10))
    """
    check_spec(spec)
    images, labels = as_examples(examples, num_classes=spec.num_classes)
    check_pixels(images)
    mesh = as_mesh(devices)
    batch_size = min(check_positive_int("batch size", batch_size), len(labels))
    if mesh is not None:
        batch_size = -(-batch_size // mesh.size) * mesh.size
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    if mesh is not None:
        params, images, labels = replicate((params, images, labels), mesh)
    scores: Evaluation = _program(spec, batch_size, loss, mesh)(params, images, labels)
    return scores


@functools.lru_cache(KEPT_PROGRAMS)
def _program(spec: Spec, batch_size: int, loss: Callable[..., Any] | None, mesh: Mesh | None) -> Any:
    return jax.jit(functools.partial(_evaluate, spec, batch_size, loss, mesh))


def _evaluate(
    spec: Spec,
    batch_size: int,
    loss: Callable[..., Any] | None,
    mesh: Mesh | None,
    params: Params,
    images: Array,
    labels: Array,
) -> Evaluation:
    count = len(labels)
    batches = -(-count // batch_size)
    rows = jnp.arange(batches * batch_size).reshape(batches, batch_size)
    sharding = None if mesh is None else batch_sharding(mesh)

    def add(sums: tuple[jax.Array, Confusion], rows: jax.Array) -> tuple[tuple[jax.Array, Confusion], None]:
        total, confusion = sums
        valid = rows < count
        rows = split_rows(jnp.minimum(rows, count - 1), sharding)
        logits = apply(spec, params, images[rows])
        losses = example_losses(loss, spec.output, logits, labels[rows])
        matrix = confusion_matrix(
            logits.argmax(axis=-1), labels[rows], valid.astype(jnp.int32), num_classes=spec.num_classes
        )
        return (total + jnp.where(valid, losses, 0).sum(), confusion + matrix), None

    start = (jnp.zeros((), jnp.float32), jnp.zeros((spec.num_classes,) * 2, jnp.int32))
    (total, confusion), _ = jax.lax.scan(add, start, rows)
    if mesh is not None:
        total, confusion = replicate((total, confusion), mesh)
    # Not by the constant `count`: XLA would multiply by its reciprocal, which rounds twice.
    n = confusion.sum(dtype=jnp.int32)
    correct, number = jnp.trace(confusion).astype(jnp.float32), n.astype(jnp.float32)
    return Evaluation(loss=total / number, accuracy=correct / number, confusion=confusion, n=n)
