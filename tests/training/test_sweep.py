"""Population training equals single runs; the sweep command."""

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.results import results_of
from PIL import Image

from mnist_jax._utils import param_dicts
from mnist_jax._utils.atomic_io import write_atomic
from mnist_jax.cli import main
from mnist_jax.config.deformation import Deformation
from mnist_jax.config.networks import CNN, MLP
from mnist_jax.config.optimizers import Schedule
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.examples import Examples
from mnist_jax.errors import InputError, SpecError
from mnist_jax.runs import directory, locking, results, session
from mnist_jax.runs.sweeps import sweep_results, sweep_session
from mnist_jax.runs.sweeps.sweep_session import _row
from mnist_jax.training import checkpoint
from mnist_jax.training.loop import fit
from mnist_jax.training.records import EpochRecord
from mnist_jax.training.start import init_state
from mnist_jax.training.step import train_epoch
from mnist_jax.training.sweep import default_group_size, estimate_memory, fit_many
from mnist_onnx import parity

SPEC = MLP((12,), ("relu",))
KEYS = jax.random.split(jax.random.key(0), 5)
HYPER = HyperParams(np.array([1e-3, 3e-3, 1e-2, 1e-3, 3e-3]), np.array([0, 1e-2, 0, 0.1, 0]), 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 20])
@pytest.mark.parametrize("deformation", [None, Deformation(rotate=15, elastic_alpha=34)], ids=str)
def test_a_member_is_its_lone_run(digits: Dataset, steps: int, deformation: Deformation | None) -> None:
    config = Config(SPEC, epochs=1, batch_size=10, deformation=deformation, dropout=0.1, ema_decay=0.9)
    train = Examples(digits.train.images[: 10 * steps], digits.train.labels[: 10 * steps])
    many = fit_many(config, train, digits.validation, keys=KEYS, hyperparams=HYPER, group_size=2)
    for i, key in enumerate(KEYS):
        hyperparams = HyperParams(float(HYPER.learning_rate[i]), float(HYPER.weight_decay[i]), 0.05)
        alone = fit(config, train, digits.validation, key=key, hyperparams=hyperparams)
        for ours, theirs in zip(jax.tree.leaves(many.member(i)), jax.tree.leaves(alone.params), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
        (record,) = many.histories[i]
        assert record.loss == pytest.approx(alone.history[0].loss, abs=1e-5)
        assert record.validation_loss == pytest.approx(alone.history[0].validation_loss, abs=1e-5)


@pytest.mark.slow
def test_groups_of_one_are_bit_identical_to_fit(digits: Dataset) -> None:
    config = Config(CNN((3,)), epochs=2)
    many = fit_many(config, digits.train, digits.validation, keys=KEYS[:2], group_size=1)
    for i, key in enumerate(KEYS[:2]):
        alone = fit(config, digits.train, digits.validation, key=key)
        jax.tree.map(np.testing.assert_array_equal, many.member(i), jax.tree.map(np.asarray, alone.params))
        assert [r.validation_loss for r in many.histories[i]] == [r.validation_loss for r in alone.history]


@pytest.mark.slow
def test_members_are_as_accurate_as_single_runs(digits: Dataset) -> None:
    config = Config(SPEC, epochs=6, schedule=Schedule("cosine"))
    keys = jax.random.split(jax.random.key(1), 8)
    many = fit_many(config, digits.train, digits.validation, keys=keys)
    together = np.array([history[-1].validation_accuracy for history in many.histories])
    alone = np.array(
        [
            fit(config, digits.train, digits.validation, key=key).history[-1].validation_accuracy
            for key in keys
        ]
    )
    assert abs(together.mean() - alone.mean()) <= max(alone.std(), 0.01)
    assert len({history[-1].loss for history in many.histories}) == 8


@pytest.mark.slow
def test_several_groups_equal_one_group(digits: Dataset) -> None:
    config, seen = Config(SPEC, epochs=2), []

    def note(first: int, records: list[EpochRecord]) -> None:
        seen.append((first, len(records), records[0].epoch))

    whole = fit_many(config, digits.train, keys=KEYS, hyperparams=HYPER, group_size=5)
    parts = fit_many(config, digits.train, keys=KEYS, hyperparams=HYPER, group_size=2, callback=note)
    assert seen == [(0, 2, 1), (0, 2, 2), (2, 2, 1), (2, 2, 2), (4, 1, 1), (4, 1, 2)]
    assert len(parts.histories) == len(whole.histories) == 5
    for ours, theirs in zip(jax.tree.leaves(parts.params), jax.tree.leaves(whole.params), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_a_callback_stops_only_its_group(digits: Dataset) -> None:
    config = Config(SPEC, epochs=3)
    stopped = fit_many(
        config,
        digits.train,
        keys=KEYS[:4],
        group_size=2,
        callback=lambda first, records: first == 0 and records[0].epoch == 2,
    )
    assert [len(history) for history in stopped.histories] == [2, 2, 3, 3]
    shorter = fit_many(replace(config, epochs=2), digits.train, keys=KEYS[:2], group_size=2)
    jax.tree.map(np.testing.assert_array_equal, stopped.member(1), shorter.member(1))


@pytest.mark.slow
def test_fit_many_works_under_disable_jit(digits: Dataset) -> None:
    config, few = Config(SPEC, epochs=1, batch_size=32), digits.train[:64]
    with jax.disable_jit():
        result = fit_many(config, few, keys=KEYS[:2])
    expected = fit_many(config, few, keys=KEYS[:2])
    for ours, theirs in zip(result.histories, expected.histories, strict=True):
        np.testing.assert_allclose(ours[0].loss, theirs[0].loss, rtol=1e-5)


@pytest.mark.slow
def test_a_diverging_run_does_not_affect_others(digits: Dataset) -> None:
    config = Config(SPEC, epochs=2)
    many = fit_many(
        config, digits.train, keys=KEYS[:3], hyperparams=HyperParams(np.array([1e-3, 3e38, 1e-3]))
    )
    finite = [np.isfinite(history[-1].loss) for history in many.histories]
    assert finite == [True, False, True]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(many.member(0)))


def test_default_group_sizes() -> None:
    assert default_group_size(Config(SPEC)) == 16
    assert 1 <= default_group_size(Config(MLP((4000, 4000), ("relu", "relu")))) < 8
    assert default_group_size(Config(MLP((30_000,), ("relu",)))) == 1
    assert default_group_size(Config(CNN((3,)))) == 1  # grouped, they are slower on a CPU
    assert default_group_size(Config(MLP((1024, 512), ("relu", "relu")), batch_size=256)) == 1
    assert 1 <= default_group_size(Config(SPEC, batch_size=2000)) < 16


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        Config(SPEC),
        Config(SPEC, batch_size=500, fgsm_epsilon=0.1, dropout=0.1),
        Config(SPEC, batch_size=500, deformation=Deformation(rotate=15, elastic_alpha=34)),
        Config(MLP((1024, 512), ("relu", "relu")), batch_size=256),
        Config(CNN((8, 24), 5, padding=("valid", "valid")), batch_size=128),
    ],
    ids=["small", "adversarial", "deformed", "large", "convolutional"],
)
def test_memory_is_estimated_from_above(config: Config, digits: Dataset) -> None:
    start = init_state(config, jax.random.key(0))
    epoch = jax.jit(functools.partial(train_epoch, config))
    result = epoch.lower(HyperParams(), start, digits.train).compile().memory_analysis()
    needed = result.temp_size_in_bytes + result.output_size_in_bytes
    assert needed <= estimate_memory(config) <= 8 * needed


def test_bad_arguments_are_refused(digits: Dataset) -> None:
    config = Config(SPEC)
    for keys in (jax.random.key(0), jax.random.PRNGKey, KEYS[:0], jnp.zeros((3, 2)), None):
        with pytest.raises(SpecError, match=r"keys must be typed keys \[runs\], .*; got"):
            fit_many(config, digits.train, keys=keys)
    with pytest.raises(
        SpecError, match=r"learning_rate must be one number, or one for each run \[5\]; got \[2\]"
    ):
        fit_many(config, digits.train, keys=KEYS, hyperparams=HyperParams(np.ones(2)))
    with pytest.raises(SpecError, match="learning rate must be a number"):
        fit_many(
            config, digits.train, keys=KEYS, hyperparams=HyperParams(np.array([1e-3, -1, 1e-3, 1e-3, 1e-3]))
        )
    with pytest.raises(SpecError, match="hyperparams must be a HyperParams; got 3"):
        fit_many(config, digits.train, keys=KEYS, hyperparams=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="held-out test set"):
        fit_many(config, digits.test, keys=KEYS)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="callback must be a function of an index and records; got 3"):
        fit_many(Config(SPEC), digits.train, keys=KEYS, callback=3)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="group_size must be a whole number"):
        fit_many(config, digits.train, keys=KEYS, group_size=0)


SWEEP = ["sweep", "--dataset", "digits", "--preset", "mlp-100", "--epochs", "2", "--seeds", "2"]


@pytest.mark.slow
def test_the_command_keeps_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "best"
    rates = ["--learning-rate", "1e-5,3e-3,3e38", "--label-smoothing", "0,0.1"]
    assert main([*SWEEP, *rates, "--out", str(folder), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    result = printed["sweep"]
    assert [(row["learning_rate"], row["label_smoothing"]) for row in result["rows"]] == [
        (rate, smoothing) for rate in (1e-5, 3e-3, 3e38) for smoothing in (0.0, 0.1)
    ]
    best = result["rows"][result["best"]]
    assert best["learning_rate"] == 3e-3
    assert best["mean"] == max(row["mean"] or 0 for row in result["rows"]) == np.mean(best["accuracies"])
    assert result["rows"][4]["mean"] is None
    run = directory.read(folder)
    assert (run.hyperparams.learning_rate, run.hyperparams.label_smoothing, run.seed) == (
        3e-3,
        best["label_smoothing"],
        0,
    )
    assert run.validation_fraction == 1 / 6
    # The saved run is the first seed of the best row, trained alone.
    alone = results_of(folder).history[-1].validation_accuracy
    assert alone == pytest.approx(best["accuracies"][0], abs=0.02)
    assert json.loads((folder / "sweep.json").read_text()) == result
    with Image.open(folder / "sweep.png") as plot:
        drawn = {color for _, color in plot.convert("RGB").getcolors(2**20) or ()}
    assert {(0, 114, 178), (213, 94, 0)} <= drawn  # one line per label smoothing

    assert main(["report", str(folder)]) == 0
    html = (folder / "report.html").read_text()
    assert 'aria-label="Validation accuracy by learning rate"' in html
    assert f"{100 * best['mean']:.2f} %" in html.split('id="sweep"')[1]
    assert html.count("<td>2 of 2 diverged</td>") == 2


def test_a_row_with_a_diverged_run_has_no_mean() -> None:
    row = _row(HyperParams(), [0.9, 0.8, 0.97])
    assert (row["mean"], row["std"]) == (pytest.approx(0.89), pytest.approx(np.std([0.9, 0.8, 0.97], ddof=1)))
    assert _row(HyperParams(), [0.9, None, 0.97])["mean"] is None
    assert _row(HyperParams(), [0.9])["std"] is None


@pytest.mark.slow
def test_a_file_that_is_not_proven_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = parity.check_parity
    monkeypatch.setattr(parity, "check_parity", lambda *a, **k: real(*a, **k)._replace(passed=False))
    assert main([*SWEEP, "--out", str(tmp_path / "best")]) == 1
    assert not directory.read_json(tmp_path / "best", directory.METRICS)["onnx"]["passed"]


@pytest.mark.slow
def test_the_table_shows_diverged_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SWEEP, "--learning-rate", "3e-3,3e38", "--out", str(tmp_path / "best")]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 diverged" in out
    assert "* kept; " in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--learning-rate", "1e-3,x"],
            "--learning-rate must be numbers separated by commas; got '1e-3,x'",
        ),
        (["--learning-rate", "1e-3,0.001"], "--learning-rate must have each number only once; got"),
        (["--learning-rate", "-1"], "learning rate must be a number"),
        (["--weight-decay", "nan"], "weight decay must be a number"),
        (["--seeds", "0"], "seeds must be a whole number of at least 1; got 0"),
        (
            ["--validation-fraction", "0"],
            "must be above 0, for model selection; got 0",
        ),
        (["--learning-rate", "3e38"], "some run must stay finite; all diverged"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SWEEP, *words, "--out", str(tmp_path / "best")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error
    assert not (tmp_path / "best").exists()


def test_a_directory_in_use_is_left_alone(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    assert main([*SWEEP, "--out", str(run_dir)]) == 2
    assert "a run needs a new or an empty directory" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == before


RATES = ["--learning-rate", "1e-3,1e-2,3e38,3e-3"]


def after(calls: int, function: Callable[..., object]) -> Callable[..., object]:
    """Wraps a function so that after `calls` calls it fails as on a full disk."""
    left = iter(range(calls))

    def limited(*arguments: object, **options: object) -> object:
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        return function(*arguments, **options)

    return limited


def content(folder: Path) -> tuple[object, str, set[str]]:
    """Returns a sweep directory's content without measured times."""
    result = json.loads((folder / "sweep.json").read_text())
    del result["seconds"]
    state, _ = checkpoint._read(folder / directory.CHECKPOINT)
    return result, param_dicts.digest(state), {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_a_sweep_goes_on_where_it_was_stopped_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "mnist_jax.training.sweep.default_group_size", lambda _: 3
    )  # one row of two runs per group
    together, complete = sweep_session._train_together, session.complete
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert main([*SWEEP, *RATES, "--out", str(whole)]) == 0
    command = [*SWEEP, *RATES, "--out", str(halves)]
    with monkeypatch.context() as patch:
        patch.setattr(sweep_session, "_train_together", after(1, together))
        assert main(command) == 2
    first = json.loads((halves / "sweep.json").read_text())
    assert [row["learning_rate"] for row in first["rows"]] == [1e-3]
    (halves / ".sweep.json.0a1b2c3d").write_text("half")
    for words, output in (
        (
            [*SWEEP, "--learning-rate", "1e-3,1e-2"],
            "a sweep with learning_rate [0.001, 0.01, 3e+38, 0.003]; got",
        ),
        (
            [*SWEEP, *RATES, "--epochs", "3"],
            "has a sweep with config.epochs 2; got 3; choose another directory",
        ),
        ([*SWEEP, *RATES, "--seeds", "3"], "has a sweep with seeds 2; got 3; choose another directory"),
        ([*SWEEP, *RATES, "--preset", "mlp-128-64"], "has a sweep with preset 'mlp-100'; got 'mlp-128-64'"),
    ):
        capsys.readouterr()
        assert main([*words, "--out", str(halves)]) == 2
        assert f"{halves} has a sweep" in (message := capsys.readouterr().err.splitlines()[-1])
        assert output in message
    assert json.loads((halves / "sweep.json").read_text()) == first

    with monkeypatch.context() as patch:
        patch.setattr(sweep_session, "_train_together", after(3, together))
        patch.setattr(session, "complete", after(0, complete))
        assert main(command) == 2
    captured = capsys.readouterr()
    assert "2 of them are already done" in captured.err
    assert "* kept; " in captured.out  # printed before the best run is trained
    with monkeypatch.context() as patch:
        patch.setattr(sweep_session, "_train_together", after(0, together))
        assert main(command) == 0
    assert content(halves) == content(whole)
    assert main(command) == 2
    assert f"resume it: mnist-jax train --resume {halves}" in capsys.readouterr().err


def test_a_best_run_that_was_resumed_is_not_a_stopped_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "best"
    assert main([*SWEEP, "--out", str(folder)]) == 0
    assert main(["train", "--resume", str(folder), "--epochs", "3"]) == 0
    (folder / directory.METRICS).unlink()  # as after a kill
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main([*SWEEP, "--out", str(folder)]) == 2
    assert f"another run than this sweep's; resume it: mnist-jax train --resume {folder}" in (
        capsys.readouterr().err
    )
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after | {"sweep.json": b""} == before | {"sweep.json": b""}


def test_an_unwritable_sweep_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trains(*_: object) -> None:
        pytest.fail("trained")

    monkeypatch.setattr(sweep_session, "_train", trains)
    folder = tmp_path / "best"
    with monkeypatch.context() as patch:
        patch.setattr(sweep_session, "write_atomic", after(0, write_atomic))
        assert main([*SWEEP, "--out", str(folder)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not folder.exists()
    with locking.create_dir(folder):
        assert main([*SWEEP, "--out", str(folder)]) == 2
        assert "is in use by another process" in capsys.readouterr().err
        (folder / "sweep.json").write_text("{}")
        assert main([*SWEEP, "--out", str(folder)]) == 2
        assert "is in use by another process" in capsys.readouterr().err
    for text, message in (("{}", "a sweep with preset None; got 'mlp-100'"), ("[", "sweep.json is damaged")):
        (folder / "sweep.json").write_text(text)
        assert main([*SWEEP, "--out", str(folder)]) == 2
        assert message in capsys.readouterr().err
        assert (folder / "sweep.json").read_text() == text


def sweep_file(accuracies: object = (0.9, 0.8), **changes: object) -> str:
    """Writes a sweep file with two rows, of which the first is better."""
    rows = [{**HyperParams()._asdict(), "accuracies": result} for result in (accuracies, [0.1, 0.2])]
    return json.dumps({"format": 2, "seeds": 2, "best": 0, "rows": rows, **changes})


def test_a_sweep_survives_a_round_trip(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(sweep_file())
    assert sweep_results.read_sweep_table(tmp_path) == sweep_results.SweepTable(
        (
            sweep_results.SweepRow(HyperParams(), (0.9, 0.8)),
            sweep_results.SweepRow(HyperParams(), (0.1, 0.2)),
        ),
        0,
    )


@pytest.mark.parametrize(
    "text",
    [
        *["", "[]", "{}", '{"rows": 3}'],
        *(
            sweep_file(rows=[], best=0),
            sweep_file(rows=[{}]),
            sweep_file(format=3),
            sweep_file(best=1),
            sweep_file(best=True),
        ),
        *(
            sweep_file([5.0, 3.0]),
            sweep_file([0.9]),
            sweep_file("00"),
            sweep_file({"0": 1, "1": 1}),
            sweep_file([None, 0.9]),
        ),
    ],
)
def test_a_damaged_sweep_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(results.RunError, match=r"sweep\.json is damaged: "):
        sweep_results.read_sweep_table(tmp_path)
