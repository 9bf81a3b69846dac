"""Conversion of configs, networks and hyperparameters to plain JSON values and back."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from mnist_jax.config.deformation import Deformation
from mnist_jax.config.functions import Function
from mnist_jax.config.networks import CNN, DEFAULT_CLASSES, MLP, Ensemble, FlaxModel, Spec, Trainable
from mnist_jax.config.optimizers import Optimizer, Schedule
from mnist_jax.config.training import Config, HyperParams, check_hyperparams
from mnist_jax.errors import SpecError


def to_json(config: Config) -> dict[str, Any]:
    """A config as plain values, ready for `json.dump`."""
    values = {field.name: _part_to_json(getattr(config, field.name)) for field in fields(config)}
    if config.loss is None:
        del values["loss"]  # so that files without one stay as they were before it existed
    return values


def _part_to_json(value: Any) -> Any:
    if isinstance(value, Spec):
        return network_to_json(value)
    if isinstance(value, Function):
        return {"function": value.name}
    if isinstance(value, Optimizer | Schedule):
        return asdict(value) | {"options": dict(value.options)}
    return asdict(value) if isinstance(value, Deformation) else value


def from_json(values: Mapping[str, Any]) -> Config:
    """The inverse of `to_json`.

    Raises:
        SpecError: if a field is missing, unknown or invalid.
    """
    settings = _fields(Config, "config", values, optional=("loss",))
    for name, kind in (("optimizer", Optimizer), ("schedule", Schedule), ("loss", Function)):
        if isinstance(part := settings.get(name), Mapping) and set(part) == {"function"}:
            settings[name] = Function(part["function"])
        elif name in settings:
            settings[name] = kind(**_fields(kind, name, part))
    if settings["deformation"] is not None:
        settings["deformation"] = Deformation(**_fields(Deformation, "deformation", settings["deformation"]))
    return Config(**settings | {"model": _single_from_json(settings["model"])})


def network_to_json(spec: Spec) -> dict[str, Any]:
    """A network spec as plain values, ready for `json.dump`.

    `num_classes` is left out where it is ten, so that files for digits stay as they were before it existed.
    """
    if isinstance(spec, Ensemble):
        return {"members": [network_to_json(member) for member in spec.members]}
    if isinstance(spec, FlaxModel):
        return {"module": spec.name, "num_classes": spec.num_classes, "output": spec.output}
    values = asdict(spec)
    if spec.num_classes == DEFAULT_CLASSES:
        del values["num_classes"]
    return values


def network_from_json(values: Any) -> Spec:
    """The inverse of `network_to_json`.

    Raises:
        SpecError: if a field is missing, unknown or invalid.
    """
    if isinstance(values, Mapping) and "members" in values:
        members = _fields(Ensemble, "model", values)["members"]
        if not isinstance(members, list | tuple):
            raise SpecError(f"members must be a list of networks; got {members!r}")
        networks: Any = tuple(_single_from_json(member) for member in members)
        return Ensemble(networks)
    return _single_from_json(values)


def _single_from_json(values: Any) -> Trainable:
    if isinstance(values, Mapping) and "module" in values:
        expected = {"module", "num_classes", "output"}
        if set(values) != expected:
            raise SpecError(
                f"model must have the fields {', '.join(sorted(expected))}; got {sorted(values)!r}"
            )
        return FlaxModel(None, values["num_classes"], values["output"], values["module"])
    kind = CNN if isinstance(values, Mapping) and "channels" in values else MLP
    network: Trainable = kind(**_fields(kind, "model", values, optional=("num_classes",)))
    return network


def hyperparams_from_json(values: Any) -> HyperParams:
    """The inverse of `hyperparams._asdict()`.

    Raises:
        SpecError: if a field is missing, unknown or out of range.
    """
    hyperparams = HyperParams(**_fields(HyperParams, "hyperparams", values))
    check_hyperparams(hyperparams)
    return hyperparams


def _fields(kind: type, name: str, values: Any, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """`values` as keyword arguments for `kind`; raises a SpecError unless it has exactly the right keys."""
    expected = list(kind.__annotations__)
    if not isinstance(values, Mapping) or set(expected) != {*values, *optional}:
        got = sorted(values) if isinstance(values, Mapping) else values
        raise SpecError(f"{name} must have the fields {', '.join(expected)}; got {got!r}")
    return dict(values)
