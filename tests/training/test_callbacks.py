"""Callbacks: what they keep, when they stop, and that a resumed run ends as one that was never stopped."""

import csv
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mnist_jax import callbacks
from mnist_jax.config.networks import MLP
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.examples import Examples
from mnist_jax.errors import CheckpointError, SpecError
from mnist_jax.evaluation.evaluate import evaluate
from mnist_jax.nn.model import init
from mnist_jax.training import checkpoint
from mnist_jax.training.callbacks import CSVLogger, EarlyStopping, KeepBest, TensorBoard
from mnist_jax.training.loop import fit
from mnist_jax.training.records import EpochRecord, FitResult
from mnist_jax.training.start import abstract_state, init_state
from mnist_jax.training.state import TrainState

KEY = jax.random.key(0)
# Far too fast a rate, so that the validation loss goes up and down.
FAST = HyperParams(0.05)
CONFIG = Config(MLP((20,)), epochs=14)


def run(data: Dataset, callback: Any = None, config: Config = CONFIG, **options: Any) -> FitResult:
    start = {"key": KEY} if "state" not in options else {}
    return fit(
        config, data.train[:640], data.validation, **start, hyperparams=FAST, callback=callback, **options
    )


def equal(a: Any, b: Any) -> bool:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(
        np.array_equal(np.asarray(jax.random.key_data(x)), np.asarray(jax.random.key_data(y)))
        if jax.dtypes.issubdtype(getattr(x, "dtype", np.float32), jax.dtypes.prng_key)
        else np.array_equal(x, y)
        for x, y in leaves
    )


def losses(result: FitResult) -> list[float]:
    return [record.validation_loss or 0.0 for record in result.history]


def test_the_parameters_of_the_best_epoch_are_kept(digits: Dataset) -> None:
    plain = run(digits)
    best = int(np.argmin(losses(plain))) + 1
    assert 1 < best < CONFIG.epochs, "the test needs a best epoch in the middle"
    kept = run(digits, KeepBest())
    assert kept.best_epoch == plain.best_epoch == best
    assert equal(kept.state._replace(memories=None), plain.state)  # it changes nothing else
    short = run(digits, config=Config(CONFIG.model, epochs=best))
    assert equal(kept.params, short.params)
    assert not equal(kept.params, plain.params)
    assert digits.validation is not None
    scored = evaluate(CONFIG.model, kept.params, digits.validation)
    assert float(scored.loss) == pytest.approx(min(losses(plain)))


def test_accuracies_are_kept_by_the_largest(digits: Dataset) -> None:
    kept = run(digits, KeepBest("validation_accuracy"))
    accuracies = [record.validation_accuracy for record in kept.history]
    assert kept.best_epoch == int(np.argmax(np.array(accuracies))) + 1  # the first of equal ones


def test_early_stopping_counts_epochs_since_the_best(digits: Dataset) -> None:
    plain = losses(run(digits))
    for patience in (1, 2, 4):
        expected, best = CONFIG.epochs, 0
        for epoch, loss in enumerate(plain, 1):
            best = epoch if loss < min([*plain[: epoch - 1], np.inf]) else best
            if epoch - best >= patience:
                expected = epoch
                break
        stopped = run(digits, EarlyStopping(patience=patience))
        assert len(stopped.history) == expected
    assert len(run(digits, EarlyStopping("loss", patience=1, min_delta=100)).history) == 2


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_a_resumed_run_ends_as_one_that_was_never_stopped(
    digits: Dataset, tmp_path: Path, stop_after: int
) -> None:
    both = [KeepBest(), EarlyStopping(patience=4)]
    whole = run(digits, both)
    first = run(digits, [*both, lambda record, state: record.epoch == stop_after])
    assert len(first.history) == stop_after
    checkpoint.save(tmp_path / "state.safetensors", first.state, {})
    state, _ = checkpoint.load(tmp_path / "state.safetensors", abstract_state(CONFIG, both))
    assert equal(state, first.state)
    second = run(digits, [KeepBest(), EarlyStopping(patience=4)], state=state)
    assert equal(second.state, whole.state)
    assert [record.loss for record in first.history + second.history] == [r.loss for r in whole.history]
    params, _ = checkpoint.load_params(tmp_path / "state.safetensors")
    assert equal(params, first.params)
    again = run(digits, both, state=second.state)  # it was stopped early, and stays so
    assert again.history == []


def test_a_checkpoint_with_memories_needs_their_callbacks(digits: Dataset, tmp_path: Path) -> None:
    result = run(digits, KeepBest(), config=Config(CONFIG.model, epochs=1))
    checkpoint.save(tmp_path / "state.safetensors", result.state, {})
    with pytest.raises(CheckpointError, match=r"memories/KeepBest/epoch was not expected"):
        checkpoint.load(tmp_path / "state.safetensors", abstract_state(CONFIG))
    with pytest.raises(SpecError, match=r"memory of KeepBest must go on with it: callback=KeepBest\(...\)"):
        run(digits, state=result.state)


def test_a_function_of_its_own_sees_records_and_states(digits: Dataset) -> None:
    seen: list[tuple[EpochRecord, TrainState]] = []

    def watch(record: EpochRecord, state: TrainState) -> bool:
        seen.append((record, state))
        return record.epoch == 2

    result = run(digits, [KeepBest(), watch])
    assert [record for record, _ in seen] == result.history
    assert [int(state.step) for _, state in seen] == [20, 40]
    assert seen[-1][1].memories is not None  # as it is in a checkpoint


class Slope:
    """A callback with a memory of its own: stops when the loss falls slowly."""

    def init(self, state: TrainState) -> Any:
        return jax.numpy.float32(jax.numpy.inf)

    def update(self, memory: Any, record: EpochRecord, state: TrainState) -> tuple[Any, bool]:
        return jax.numpy.float32(record.loss), bool(memory - record.loss < 0.05)


def test_a_memory_of_ones_own(digits: Dataset) -> None:
    result = run(digits, Slope())
    gains = -np.diff([record.loss for record in result.history])
    assert (gains[:-1] >= 0.05).all()
    assert gains[-1] < 0.05
    assert result.state.memories is not None
    assert float(result.state.memories["Slope"]) == pytest.approx(result.history[-1].loss)


def test_a_csv_log_goes_on_after_a_resume(digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    first = run(digits, CSVLogger(path), config=Config(CONFIG.model, epochs=3))
    run(digits, CSVLogger(path), config=Config(CONFIG.model, epochs=5), state=first.state)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5]
    assert float(rows[1]["loss"]) == first.history[1].loss
    run(digits, CSVLogger(path), config=Config(CONFIG.model, epochs=2))  # anew
    assert len(path.read_text().splitlines()) == 3
    path.write_text("something else\n")
    run(digits, CSVLogger(path), config=Config(CONFIG.model, epochs=1))
    assert path.read_text().startswith("epoch,loss")


def test_tensorboards_own_reader_reads_the_log(digits: Dataset, tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra `tensorboard`"
    )
    result = run(digits, TensorBoard(tmp_path / "log"), config=Config(CONFIG.model, epochs=3))
    events = accumulator.EventAccumulator(str(tmp_path / "log"))
    events.Reload()
    tags = events.Tags()
    names = tags["scalars"] or tags["tensors"]
    assert {"loss", "accuracy", "validation_loss", "validation_accuracy"} <= set(names)
    read = [
        (event.step, float(np.asarray(event.tensor_proto.float_val)[0])) for event in events.Tensors("loss")
    ]
    assert read == [(record.epoch, pytest.approx(record.loss)) for record in result.history]


def test_without_tensorboard_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(ModuleNotFoundError, match=r"callbacks.TensorBoard needs tensorboard, which is not"):
        TensorBoard("log")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStopping("val_loss"), "monitor must be one of validation_loss, .*; got 'val_loss'"),
        (lambda: EarlyStopping(patience=0), "patience must be a whole number of at least 1; got 0"),
        (lambda: EarlyStopping(min_delta=-1), "min_delta must be a number, at least 0; got -1"),
        (lambda: KeepBest("f1"), "monitor must be one of"),
    ],
)
def test_settings_are_checked(make: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make()


def test_callbacks_are_checked(digits: Dataset) -> None:
    with pytest.raises(SpecError, match="validation_loss can be monitored with a validation set only"):
        fit(CONFIG, digits.train[:64], key=KEY, callback=KeepBest())
    with pytest.raises(SpecError, match="callbacks with a memory must be of different classes; got KeepBest"):
        run(digits, [KeepBest(), KeepBest("accuracy")])
    with pytest.raises(SpecError, match="callback must be a function of a record and a state, or several"):
        run(digits, KeepBest)
    with pytest.raises(SpecError, match="callback must be a function"):
        run(digits, [print, 3])


def test_training_starts_from_given_parameters(digits: Dataset) -> None:
    start = run(digits, config=Config(CONFIG.model, epochs=2)).params
    same = init(CONFIG.model, jax.random.split(KEY)[0])
    assert equal(run(digits, params=same).state, run(digits).state)  # those of the key itself
    tuned = run(digits, params=start, config=Config(CONFIG.model, epochs=1, ema_decay=0.9))
    assert tuned.history[0].loss < run(digits, config=Config(CONFIG.model, epochs=1)).history[0].loss
    with pytest.raises(SpecError, match="params must be those of 784-20-10"):
        run(digits, params=init(MLP((3,)), KEY))
    with pytest.raises(SpecError, match="fit takes either a key"):
        run(digits, params=start, state=init_state(CONFIG, KEY))


def test_results_are_short_and_keep_each_steps_loss(
    digits: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(digits, config=Config(CONFIG.model, epochs=3), verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert "validation" in lines[0]
    assert result.losses.shape == (60,)
    assert result.losses[:20].mean() == pytest.approx(result.history[0].loss)
    for value in (result, result.state, digits, digits.train, digits.test):
        assert len(repr(value)) < 200
        assert "\n" not in repr(value)
    assert repr(result).startswith("FitResult(3 epochs, last: loss ")
    assert repr(digits.train) == "Examples(images=uint8[1350, 28, 28], labels=uint8[1350])"
    scores = evaluate(CONFIG.model, result.params, Examples(digits.test.images, digits.test.labels))
    assert len(repr(scores)) < 100


def test_the_callbacks_are_public() -> None:
    assert {"EarlyStopping", "KeepBest", "TensorBoard", "CSVLogger"} <= set(callbacks.__all__)
