"""What `mnist-jax tune` searches: networks, hyperparameters and training settings."""

from typing import TYPE_CHECKING, Any, NamedTuple

from mnist_jax.cli.network import network_from
from mnist_jax.config.networks import CNN, MLP, Network
from mnist_jax.config.optimizers import Schedule
from mnist_jax.config.presets import STRONG
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.config.validation import check_choice

if TYPE_CHECKING:
    import optuna


class Space(NamedTuple):
    """The search space.

    Attributes:
        kind: `mlp` or `cnn`.
        hidden: options of the network, as in `network_from`; what is None is searched, or as usual.
        activation: as `hidden`; and so on.
    """

    kind: str = "mlp"
    hidden: str | None = None
    activation: str | None = None
    output: str | None = None
    init: str | None = None
    channels: str | None = None
    kernel: int | None = None
    pool: str | None = None
    padding: str | None = None

    def described(self) -> str:
        """The space in one line, so that a resumed search is the same; checks it.

        Raises:
            SpecError: an option is invalid, or fits another kind of network.
        """
        from mnist_jax.config.input_checks import check_exportable

        check_choice("network", self.kind, ("mlp", "cnn"))
        check_exportable(self._fixed(MLP((64,)) if self._is_mlp else CNN((8,))))
        return " ".join(f"{name}={value}" for name, value in self._asdict().items() if value is not None)

    @property
    def _is_mlp(self) -> bool:
        return self.kind == "mlp" and self.channels is None

    def _fixed(self, network: Network) -> Network:
        return network_from(
            network, **{name: value for name, value in self._asdict().items() if name != "kind"}
        )

    def suggest(self, trial: "optuna.trial.BaseTrial", epochs: int) -> tuple[Config, HyperParams]:
        """The configuration and the hyperparameters of a new or a finished trial."""
        network = self._mlp(trial) if self._is_mlp else self._cnn(trial)
        strength = trial.suggest_float("deformation", 0.0, 1.2)
        config = Config(
            self._fixed(network),
            epochs,
            trial.suggest_categorical("batch_size", (64, 128, 256)),
            schedule=Schedule("cosine"),
            dropout=trial.suggest_float("dropout", 0.0, 0.5),
            deformation=STRONG.scaled(strength),
        )
        rate = trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True)
        return config, HyperParams(rate, 0.0, trial.suggest_float("label_smoothing", 0.0, 0.2))

    def _mlp(self, trial: "optuna.trial.BaseTrial") -> Network:
        if self.hidden is not None:
            return MLP(())
        layers = trial.suggest_int("layers", 1, 3)
        return MLP(tuple(trial.suggest_int(f"width_{i}", 64, 1024, log=True) for i in range(layers)))

    def _cnn(self, trial: "optuna.trial.BaseTrial") -> Network:
        options: dict[str, Any] = {}
        channels: tuple[int, ...] = (1,)
        if self.channels is None:
            convolutions = trial.suggest_int("convolutions", 1, 2)
            channels = tuple(trial.suggest_int(f"channels_{i}", 8, 64, log=True) for i in range(convolutions))
        if self.kernel is None:
            options["kernel_size"] = trial.suggest_categorical("kernel", (3, 5))
        if self.hidden is None:
            dense = trial.suggest_categorical("dense", (0, 64, 128))
            options["dense_sizes"] = (dense,) if dense else ()
        return CNN(channels, **options)
