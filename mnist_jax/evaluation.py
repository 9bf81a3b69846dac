"""Scores over every example of a set, whatever the batch size."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Int32

from mnist_jax.checks import as_examples, check_pixels
from mnist_jax.metrics import confusion_matrix, cross_entropy
from mnist_jax.models import apply
from mnist_jax.networks import Spec
from mnist_jax.settings import check_whole
from mnist_jax.types import Array, Confusion, Examples, HeldOut, Params, Scalar


class Evaluation(NamedTuple):
    """What a network scores on a set.

    Attributes:
        loss: mean cross-entropy, in nats.
        accuracy: the share of right answers.
        confusion: int32 `[10, 10]`, row true class, column predicted class.
        n: how many examples were counted, int32.
    """

    loss: Scalar
    accuracy: Scalar
    confusion: Confusion
    n: Int32[Array, ""]


@jax.transfer_guard("allow")  # a caller's guard is for transfers that are not meant; these are
def evaluate(
    spec: Spec, params: Params, examples: Examples | HeldOut, *, batch_size: int = 1000
) -> Evaluation:
    """Evaluates every example once; the last batch is padded, and its padding not counted.

    Raises:
        InputError: shapes or dtypes do not fit, or there is no example; outside `jit`, where numbers can be
            seen: a label or a float32 pixel is out of its range.
        SpecError: the batch size is not a whole number of at least 1; or as `apply`.
    """
    images, labels = as_examples(examples)
    check_pixels(images)
    count = labels.shape[0]
    batch_size = min(check_whole("batch size", batch_size), count)
    batches = -(-count // batch_size)
    rows = jnp.arange(batches * batch_size).reshape(batches, batch_size)
    images, labels = jnp.asarray(images), jnp.asarray(labels)

    def add(sums: tuple[jax.Array, Confusion], rows: jax.Array) -> tuple[tuple[jax.Array, Confusion], None]:
        loss, confusion = sums
        counted = rows < count
        taken = jnp.minimum(rows, count - 1)
        logits = apply(spec, params, images[taken])
        losses = cross_entropy(spec.output, logits, labels[taken])
        matrix = confusion_matrix(logits.argmax(axis=-1), labels[taken], counted.astype(jnp.int32))
        return (loss + jnp.where(counted, losses, 0).sum(), confusion + matrix), None

    start = (jnp.zeros((), jnp.float32), jnp.zeros((10, 10), jnp.int32))
    (loss, confusion), _ = jax.lax.scan(add, start, rows)
    return Evaluation(
        loss=loss / count,
        accuracy=jnp.trace(confusion).astype(jnp.float32) / count,
        confusion=confusion,
        n=confusion.sum(dtype=jnp.int32),
    )
