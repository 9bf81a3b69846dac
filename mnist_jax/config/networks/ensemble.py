"""Specs of one network and of ensembles."""

from collections import Counter
from dataclasses import dataclass

from mnist_jax._utils.frozen import set_fields
from mnist_jax.config.networks.choices import Output, count_params
from mnist_jax.config.networks.cnn import CNN
from mnist_jax.config.networks.flax_model import FlaxModel
from mnist_jax.config.networks.mlp import MLP
from mnist_jax.config.validation import as_tuple
from mnist_jax.errors import SpecError

Network = MLP | CNN


@dataclass(frozen=True)
class Ensemble:
    """An ensemble of networks, whose logits are the mean of its members' logits.

    With softmax, its probabilities are the normalized geometric mean of its members' probabilities. Members
    are trained separately, for example from different seeds.

    Attributes:
        members: two or more networks with the same `output` and `num_classes`.

    Raises:
        SpecError: if there are fewer than two members, one is no MLP or CNN, their outputs or
            numbers of classes differ, or they have more than 2**31 - 1 parameters together.

    Examples:
        >>> from mnist_jax import MLP, Ensemble
        >>> print(Ensemble((MLP((100,), ("relu",)),) * 3))
        3 x 784-100-10 (relu, softmax)
    """

    members: tuple[Network, ...]

    def __post_init__(self) -> None:
        members = as_tuple(self, "members")
        set_fields(self, members=members)
        if len(members) < 2 or not all(isinstance(member, Network) for member in members):
            raise SpecError(f"members must be two or more, each an MLP or a CNN; got {members!r}")
        if len(outputs := sorted({member.output for member in members})) > 1:
            raise SpecError(f"members must have the same output; got {' and '.join(outputs)}")
        if len(counts := sorted({member.num_classes for member in members})) > 1:
            raise SpecError(f"members must have the same num_classes; got {' and '.join(map(str, counts))}")
        count_params(self.param_shapes)

    @property
    def output(self) -> Output:
        """As in `MLP`."""
        return self.members[0].output

    @property
    def num_classes(self) -> int:
        """As in `MLP`."""
        return self.members[0].num_classes

    @property
    def num_params(self) -> int:
        """Number of parameters of all members together."""
        return sum(member.num_params for member in self.members)

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter by its path, such as `member_0/Dense_0/kernel`."""
        return {
            f"{prefix}{path}": shape
            for prefix, member in members_by_prefix(self).items()
            for path, shape in member.param_shapes.items()
        }

    def __str__(self) -> str:
        return " + ".join(
            f"{count} x {member}" if count > 1 else str(member)
            for member, count in Counter(self.members).items()
        )


Trainable = MLP | CNN | FlaxModel
Spec = MLP | CNN | Ensemble | FlaxModel


def members_by_prefix(spec: Spec) -> dict[str, Network]:
    """The networks of a spec, keyed by the prefix of their parameters' paths (`""` for a single network).

    Raises:
        SpecError: if it is a Flax module, which has no layers that we know.
    """
    if isinstance(spec, FlaxModel):
        raise SpecError(
            f"a network must be an MLP, a CNN or an Ensemble here; got the Flax module {spec.name}; "
            "for ONNX: mnist_onnx.export_flax"
        )
    if isinstance(spec, Ensemble):
        return {f"{member_name(index)}/": member for index, member in enumerate(spec.members)}
    return {"": spec}


def member_name(index: int) -> str:
    """The name of an ensemble's member in its parameters and in its ONNX file."""
    return f"member_{index}"
