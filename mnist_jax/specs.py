"""What a training run is, as frozen values: no JAX, no Flax, nothing to run.

A `Config` is hashable, so it can be a static argument of `jax.jit`. What may be swept by `jax.vmap` is in
`Hyper`, a pytree of scalars.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, get_args

from mnist_jax.deformations import Deformation
from mnist_jax.errors import SpecError
from mnist_jax.networks import CNN, MLP, Dtype, Ensemble, Network, Spec
from mnist_jax.optimizers import OPTIMIZERS, Optimizer, Schedule
from mnist_jax.settings import FLOAT32_MAX, FLOAT32_TINY, check_one_of, check_real, check_whole


@dataclass(frozen=True)
class Config:
    """The static side of a training run.

    Attributes:
        model: the network.
        epochs: passes over the training set.
        batch_size: examples per step. A last, smaller batch is trained on too.
        optimizer: how gradients become steps.
        schedule: how the learning rate changes.
        clip_norm: gradients of a larger global norm are scaled down to it (Pascanu et al. 2013); or None.
        ema_decay: the network that is scored and exported is the moving average of the parameters with
            this decay, such as 0.999 (Polyak and Juditsky 1992); None for the parameters themselves.
        dtype: what the layers compute in while they train. Parameters, optimiser, loss and every score are
            float32 whatever it is.
        dropout: the share of each hidden layer's outputs that a training step leaves out (Srivastava et al.
            2014); what is left is scaled up, so that nothing changes for scoring and export.
        deformation: how far training images are moved out of shape, anew in each step; or None.
        adversarial: how far, of 0..1, each pixel of a second copy of a step's images is moved in the
            direction in which the loss grows; the step's loss is then the mean over both copies (Goodfellow
            et al. 2015). 0 for no such copy.

    Raises:
        SpecError: a number is out of its range.
    """

    model: Network
    epochs: int = 10
    batch_size: int = 32
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    clip_norm: float | None = None
    ema_decay: float | None = None
    dtype: Dtype = "float32"
    dropout: float = 0.0
    deformation: Deformation | None = None
    adversarial: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.model, Network):
            hint = "; train its members one by one" if isinstance(self.model, Ensemble) else ""
            raise SpecError(f"model must be an MLP or a CNN; got {self.model!r}{hint}")
        object.__setattr__(self, "epochs", check_whole("epochs", self.epochs))
        object.__setattr__(self, "batch_size", check_whole("batch size", self.batch_size))
        for name, kind in (("optimizer", Optimizer), ("schedule", Schedule)):
            if not isinstance(getattr(self, name), kind):
                raise SpecError(f"{name} must be of type {kind.__name__}; got {getattr(self, name)!r}")
        check_one_of("dtype", self.dtype, get_args(Dtype))
        object.__setattr__(self, "dropout", check_real("dropout", self.dropout, 0, 1))
        object.__setattr__(self, "adversarial", check_real("adversarial", self.adversarial, 0, 1))
        if not isinstance(self.deformation, Deformation | None):
            raise SpecError(f"deformation must be a Deformation or None; got {self.deformation!r}")
        if self.clip_norm is not None:
            clip_norm = check_real("clip norm", self.clip_norm, 0, FLOAT32_MAX, open_low=True)
            object.__setattr__(self, "clip_norm", clip_norm)
        if self.ema_decay is not None:
            ema_decay = check_real("EMA decay", self.ema_decay, 0, 1, open_low=True)
            object.__setattr__(self, "ema_decay", ema_decay)


class Hyper(NamedTuple):
    """What may differ between runs of one compiled program: a pytree of scalars, ready for `vmap`.

    Attributes:
        learning_rate: the optimiser's step size, times the schedule's factor.
        weight_decay: decoupled for every optimiser (Loshchilov and Hutter 2019).
        label_smoothing: the share of the target that is spread over all ten classes, 0 to 1.
    """

    learning_rate: Any = 1e-3
    weight_decay: Any = 0.0
    label_smoothing: Any = 0.0


def default_hyper(optimizer: Optimizer) -> Hyper:
    """The learning rate and the weight decay that an optimiser is used with where none are given."""
    recipe = OPTIMIZERS[optimizer.name]
    return Hyper(recipe.learning_rate, recipe.weight_decay)


def check_hyper(hyper: Hyper) -> None:
    """Checks the numbers of a single run.

    Raises:
        SpecError: one is not a finite number in its range.
    """
    if not isinstance(hyper, Hyper):
        raise SpecError(f"hyper must be a Hyper; got {hyper!r}")
    check_real("learning rate", hyper.learning_rate, FLOAT32_TINY, FLOAT32_MAX, open_low=True)
    check_real("weight decay", hyper.weight_decay, 0, FLOAT32_MAX)
    check_real("label smoothing", hyper.label_smoothing, 0, 1)


def to_json(config: Config) -> dict[str, Any]:
    """The config as plain values, ready for `json.dump`."""
    values = asdict(config)
    for name in ("optimizer", "schedule"):
        values[name]["options"] = dict(values[name]["options"])
    return values


def from_json(values: Mapping[str, Any]) -> Config:
    """The inverse of `to_json`.

    Raises:
        SpecError: a field is missing, unknown, or holds what it cannot.
    """
    settings = _fields(Config, "config", values)
    for name, kind in (("optimizer", Optimizer), ("schedule", Schedule)):
        settings[name] = kind(**_fields(kind, name, settings[name]))
    if settings["deformation"] is not None:
        settings["deformation"] = Deformation(**_fields(Deformation, "deformation", settings["deformation"]))
    return Config(**settings | {"model": _single_from_json(settings["model"])})


def network_to_json(spec: Spec) -> dict[str, Any]:
    """The network as plain values, ready for `json.dump`."""
    return asdict(spec)


def network_from_json(values: Any) -> Spec:
    """The inverse of `network_to_json`.

    Raises:
        SpecError: a field is missing, unknown, or holds what it cannot.
    """
    named = values if isinstance(values, Mapping) else {}
    if "members" in named:
        members = _fields(Ensemble, "model", named)["members"]
        if not isinstance(members, list | tuple):
            raise SpecError(f"members must be a list of networks; got {members!r}")
        return Ensemble(tuple(_single_from_json(member) for member in members))
    return _single_from_json(values)


def _single_from_json(values: Any) -> Network:
    kind = CNN if isinstance(values, Mapping) and "channels" in values else MLP
    network: Network = kind(**_fields(kind, "model", values))
    return network


def hyper_from_json(values: Any) -> Hyper:
    """The inverse of `hyper._asdict()`.

    Raises:
        SpecError: a field is missing, unknown, or out of its range.
    """
    hyper = Hyper(**_fields(Hyper, "hyper", values))
    check_hyper(hyper)
    return hyper


def _fields(kind: type, name: str, values: Any) -> dict[str, Any]:
    """`values` as keyword arguments for `kind`, if it has exactly the right keys."""
    expected = list(kind.__annotations__)
    if not isinstance(values, Mapping) or set(values) != set(expected):
        came = sorted(values) if isinstance(values, Mapping) else values
        raise SpecError(f"{name} must have the fields {', '.join(expected)}; got {came!r}")
    return dict(values)


def check_fraction(value: Any) -> None:
    """Checks the share of the training set to hold out.

    Raises:
        SpecError: it is not at least 0 and below 1.
    """
    check_real("validation fraction", value, 0, 1)
