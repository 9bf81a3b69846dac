"""Any Flax module as a network spec, without importing Flax."""

import functools
import math
import sys
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any, get_args

from mnist_jax._utils.frozen import set_fields
from mnist_jax._utils.nested_dicts import flatten_dict
from mnist_jax.config.networks.choices import (
    DEFAULT_CLASSES,
    IMAGE_SHAPE,
    Output,
    check_num_classes,
)
from mnist_jax.config.validation import check_choice, is_label, shorten
from mnist_jax.errors import SpecError

# How modules name the argument that tells training from evaluation, and its value in training.
MODES = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}


@dataclass(frozen=True)
class FlaxModel:
    """A network of one's own: a Flax module from images `[batch, 28, 28]`, float32 0..1, to logits.

    Its parameters are Flax's variables, `{"params": ..., "batch_stats": ...}`. An argument `train`,
    `training` or `deterministic` of its `__call__` is set in training and in evaluation. Its random streams
    get keys in training. NNX modules are wrapped first: `flax.nnx.bridge.to_linen(MyModule)`.

    Attributes:
        module: an instance of `flax.linen.Module`, or anything hashable with its `init` and `apply`; None
            where a config was read from JSON, which cannot hold it.
        num_classes: number of logits, 2 to 1,000.
        output: as in `MLP`.
        name: what files call it; by default the name of its class.

    Raises:
        SpecError: if `module` has no `init` and `apply`, needs further arguments or is not hashable, or
            another value is invalid.

    Examples:
        >>> import flax.linen as nn
        >>> import jax, mnist_jax
        >>> class Linear(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, images):
        ...         return nn.Dense(10)(images.reshape(len(images), -1))
        >>> spec = mnist_jax.FlaxModel(Linear())
        >>> print(spec, spec.num_params)
        Linear (softmax) 7850
        >>> params = mnist_jax.init(spec, jax.random.key(0))
        >>> mnist_jax.apply(spec, params, jax.numpy.zeros((2, 28, 28))).shape
        (2, 10)
    """

    module: Any = field(repr=False)
    num_classes: int = DEFAULT_CLASSES
    output: Output = "softmax"
    name: str = ""

    def __post_init__(self) -> None:
        set_fields(self, num_classes=check_num_classes(self.num_classes))
        check_choice("output", self.output, get_args(Output))
        set_fields(self, name=self.name or type(self.module).__name__)
        if not is_label(self.name):
            raise SpecError(f"a module's name must be short and printable; got {self.name!r}")
        if self.module is None:
            return
        if isinstance(self.module, type) or not all(hasattr(self.module, name) for name in ("init", "apply")):
            got = shorten(self.module, 60) if isinstance(self.module, type) else type(self.module).__name__
            raise SpecError(
                "module must be an instance of flax.linen.Module, or have its init and apply; "
                f"got {got}; wrap NNX modules: flax.nnx.bridge.to_linen"
            )
        try:
            hash(self.module)
        except TypeError:
            raise SpecError(
                f"{self.name} must be hashable, to be a static argument of jit; use tuples for lists"
            ) from None
        required = [
            name for name, parameter in self._arguments.items() if parameter.default is Parameter.empty
        ]
        if odd := [name for name in required[1:] if name not in MODES]:
            raise SpecError(
                f"{self.name} must be called with images, and perhaps `train`; it needs {odd[0]!r} too; give "
                "it a default"
            )

    @property
    def num_params(self) -> int:
        """Number of trainable parameters."""
        shapes = self.param_shapes.items()
        return sum(math.prod(shape) for path, shape in shapes if path.startswith("params/"))

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each variable by its path, such as `params/Dense_0/kernel`."""
        return dict(_shapes(self))

    def require_module(self) -> Any:
        """The module.

        Raises:
            SpecError: if the config was read from JSON.
        """
        if self.module is None:
            raise SpecError(
                f"{self.name} is a Flax module, which a run's config.json cannot hold; use it from Python"
            )
        return self.module

    def mode(self, *, training: bool) -> dict[str, bool]:
        """The argument that tells training from evaluation, if the module has one."""
        self.require_module()
        return {name: value is training for name, value in MODES.items() if name in self._arguments}

    @property
    def _arguments(self) -> dict[str, Parameter]:
        """The parameters of the module's `__call__`, without `self`, `*args` and `**kwargs`."""
        try:
            found = list(signature(type(self.module).__call__).parameters.values())[1:]
        except (TypeError, ValueError):
            return {}
        variadic = Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD
        return {parameter.name: parameter for parameter in found if parameter.kind not in variadic}

    def __str__(self) -> str:
        return f"{self.name} ({self.output})"


@functools.lru_cache(maxsize=64)
def _shapes(spec: FlaxModel) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The shapes of all variables; who made the module has imported JAX."""
    jax = sys.modules["jax"]
    images = jax.ShapeDtypeStruct((1, *IMAGE_SHAPE), "float32")
    start = functools.partial(spec.require_module().init, **spec.mode(training=False))
    variables = jax.eval_shape(start, jax.random.key(0), images)
    return tuple((path, tuple(leaf.shape)) for path, leaf in flatten_dict(variables).items())
