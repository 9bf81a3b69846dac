"""Many runs at once are what they would be alone."""

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import results_of
from PIL import Image

from mnist_jax import checkpoint, directories, results, runs, swept
from mnist_jax.cli import main, rows, session
from mnist_jax.cli.rows import _row
from mnist_jax.datasets import Dataset
from mnist_jax.deformations import Deformation
from mnist_jax.errors import InputError, SpecError
from mnist_jax.files import write_atomic
from mnist_jax.loop import EpochRecord, fit
from mnist_jax.networks import CNN, MLP
from mnist_jax.optimizers import Schedule
from mnist_jax.specs import Config, Hyper
from mnist_jax.sweep import fit_many, memory, suitable
from mnist_jax.train import init_state, train_epoch
from mnist_jax.types import Examples
from mnist_onnx import proof

SPEC = MLP((12,), ("relu",))
KEYS = jax.random.split(jax.random.key(0), 5)
HYPER = Hyper(np.array([1e-3, 3e-3, 1e-2, 1e-3, 3e-3]), np.array([0, 1e-2, 0, 0.1, 0]), 0.05)


@pytest.mark.parametrize("steps", [1, 20])
@pytest.mark.parametrize("deformation", [None, Deformation(rotate=15, elastic=34)], ids=str)
def test_a_member_is_its_lone_run(digits: Dataset, steps: int, deformation: Deformation | None) -> None:
    config = Config(SPEC, epochs=1, batch_size=10, deformation=deformation, dropout=0.1, ema_decay=0.9)
    train = Examples(digits.train.images[: 10 * steps], digits.train.labels[: 10 * steps])
    many = fit_many(config, train, digits.validation, keys=KEYS, hyper=HYPER, at_once=2)
    for i, key in enumerate(KEYS):
        hyper = Hyper(float(HYPER.learning_rate[i]), float(HYPER.weight_decay[i]), 0.05)
        alone = fit(config, train, digits.validation, key=key, hyper=hyper)
        for ours, theirs in zip(jax.tree.leaves(many.member(i)), jax.tree.leaves(alone.params), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
        (record,) = many.histories[i]
        assert record.loss == pytest.approx(alone.history[0].loss, abs=1e-5)
        assert record.validation_loss == pytest.approx(alone.history[0].validation_loss, abs=1e-5)


def test_one_by_one_members_are_their_lone_runs_to_the_last_bit(digits: Dataset) -> None:
    config = Config(CNN((3,)), epochs=2)
    many = fit_many(config, digits.train, digits.validation, keys=KEYS[:2], at_once=1)
    for i, key in enumerate(KEYS[:2]):
        alone = fit(config, digits.train, digits.validation, key=key)
        jax.tree.map(np.testing.assert_array_equal, many.member(i), jax.tree.map(np.asarray, alone.params))
        assert [r.validation_loss for r in many.histories[i]] == [r.validation_loss for r in alone.history]


def test_at_the_end_members_are_as_good_as_lone_runs(digits: Dataset) -> None:
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


def test_groups_give_what_one_group_gives(digits: Dataset) -> None:
    config, seen = Config(SPEC, epochs=2), []

    def note(first: int, records: list[EpochRecord]) -> None:
        seen.append((first, len(records), records[0].epoch))

    whole = fit_many(config, digits.train, keys=KEYS, hyper=HYPER, at_once=5)
    parts = fit_many(config, digits.train, keys=KEYS, hyper=HYPER, at_once=2, callback=note)
    assert seen == [(0, 2, 1), (0, 2, 2), (2, 2, 1), (2, 2, 2), (4, 1, 1), (4, 1, 2)]
    assert len(parts.histories) == len(whole.histories) == 5
    for ours, theirs in zip(jax.tree.leaves(parts.params), jax.tree.leaves(whole.params), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_a_callback_stops_its_group_and_no_other(digits: Dataset) -> None:
    config = Config(SPEC, epochs=3)
    stopped = fit_many(
        config,
        digits.train,
        keys=KEYS[:4],
        at_once=2,
        callback=lambda first, records: first == 0 and records[0].epoch == 2,
    )
    assert [len(history) for history in stopped.histories] == [2, 2, 3, 3]
    shorter = fit_many(replace(config, epochs=2), digits.train, keys=KEYS[:2], at_once=2)
    jax.tree.map(np.testing.assert_array_equal, stopped.member(1), shorter.member(1))


def test_runs_are_trained_where_compiling_is_switched_off(digits: Dataset) -> None:
    config, few = Config(SPEC, epochs=1, batch_size=32), digits.train[:64]
    with jax.disable_jit():
        found = fit_many(config, few, keys=KEYS[:2])
    expected = fit_many(config, few, keys=KEYS[:2])
    for ours, theirs in zip(found.histories, expected.histories, strict=True):
        np.testing.assert_allclose(ours[0].loss, theirs[0].loss, rtol=1e-5)


def test_a_run_that_diverges_takes_no_other_with_it(digits: Dataset) -> None:
    config = Config(SPEC, epochs=2)
    many = fit_many(config, digits.train, keys=KEYS[:3], hyper=Hyper(np.array([1e-3, 3e38, 1e-3])))
    finite = [np.isfinite(history[-1].loss) for history in many.histories]
    assert finite == [True, False, True]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(many.member(0)))


def test_how_many_at_once_fit() -> None:
    assert suitable(Config(SPEC)) == 16
    assert 1 <= suitable(Config(MLP((4000, 4000), ("relu", "relu")))) < 8
    assert suitable(Config(MLP((30_000,), ("relu",)))) == 1
    assert suitable(Config(CNN((3,)))) == 1  # which are slower together, on a CPU
    assert suitable(Config(MLP((1024, 512), ("relu", "relu")), batch_size=256)) == 1
    assert 1 <= suitable(Config(SPEC, batch_size=2000)) < 16


@pytest.mark.parametrize(
    "config",
    [
        Config(SPEC),
        Config(SPEC, batch_size=500, adversarial=0.1, dropout=0.1),
        Config(SPEC, batch_size=500, deformation=Deformation(rotate=15, elastic=34)),
        Config(MLP((1024, 512), ("relu", "relu")), batch_size=256),
        Config(CNN((8, 24), 5, padding=("valid", "valid")), batch_size=128),
    ],
    ids=["small", "adversarial", "deformed", "large", "convolutional"],
)
def test_memory_is_estimated_from_above(config: Config, digits: Dataset) -> None:
    start = init_state(config, jax.random.key(0))
    epoch = jax.jit(functools.partial(train_epoch, config))
    found = epoch.lower(Hyper(), start, digits.train).compile().memory_analysis()
    needed = found.temp_size_in_bytes + found.output_size_in_bytes
    assert needed <= memory(config) <= 8 * needed


def test_what_does_not_fit_is_refused(digits: Dataset) -> None:
    config = Config(SPEC)
    for keys in (jax.random.key(0), jax.random.PRNGKey, KEYS[:0], jnp.zeros((3, 2)), None):
        with pytest.raises(SpecError, match=r"keys must be typed keys \[runs\], .*; got"):
            fit_many(config, digits.train, keys=keys)
    with pytest.raises(
        SpecError, match=r"learning_rate must be one number, or one for each run \[5\]; got \[2\]"
    ):
        fit_many(config, digits.train, keys=KEYS, hyper=Hyper(np.ones(2)))
    with pytest.raises(SpecError, match="learning rate must be a number"):
        fit_many(config, digits.train, keys=KEYS, hyper=Hyper(np.array([1e-3, -1, 1e-3, 1e-3, 1e-3])))
    with pytest.raises(SpecError, match="hyper must be a Hyper; got 3"):
        fit_many(config, digits.train, keys=KEYS, hyper=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="held-out test set"):
        fit_many(config, digits.test, keys=KEYS)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="callback must be a function of a place and records; got 3"):
        fit_many(Config(SPEC), digits.train, keys=KEYS, callback=3)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="at_once must be a whole number"):
        fit_many(config, digits.train, keys=KEYS, at_once=0)


SWEEP = ["sweep", "--dataset", "digits", "--preset", "mlp-100", "--epochs", "2", "--seeds", "2"]


def test_the_command_keeps_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "best"
    rates = ["--learning-rate", "1e-5,3e-3,3e38", "--label-smoothing", "0,0.1"]
    assert main([*SWEEP, *rates, "--out", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    found = said["sweep"]
    assert [(row["learning_rate"], row["label_smoothing"]) for row in found["rows"]] == [
        (rate, smoothing) for rate in (1e-5, 3e-3, 3e38) for smoothing in (0.0, 0.1)
    ]
    best = found["rows"][found["best"]]
    assert best["learning_rate"] == 3e-3
    assert best["mean"] == max(row["mean"] or 0 for row in found["rows"]) == np.mean(best["accuracies"])
    assert found["rows"][4]["mean"] is None
    run = runs.read(folder)
    assert (run.hyper.learning_rate, run.hyper.label_smoothing, run.seed) == (
        3e-3,
        best["label_smoothing"],
        0,
    )
    assert run.validation_fraction == 1 / 6
    # The run kept is the sweep's first with these numbers, trained alone.
    alone = results_of(folder).history[-1].validation_accuracy
    assert alone == pytest.approx(best["accuracies"][0], abs=0.02)
    assert json.loads((folder / "sweep.json").read_text()) == found
    with Image.open(folder / "sweep.png") as plot:
        drawn = {color for _, color in plot.convert("RGB").getcolors(2**20) or ()}
    assert {(0, 114, 178), (213, 94, 0)} <= drawn  # a line for each smoothing

    assert main(["report", str(folder)]) == 0
    html = (folder / "report.html").read_text()
    assert 'aria-label="Validation accuracy by learning rate"' in html
    assert f"{100 * best['mean']:.2f} %" in html.split('id="sweep"')[1]
    assert html.count("<td>2 of 2 diverged</td>") == 2


def test_a_combination_of_which_one_run_diverged_has_no_mean() -> None:
    row = _row(Hyper(), [0.9, 0.8, 0.97])
    assert (row["mean"], row["std"]) == (pytest.approx(0.89), pytest.approx(np.std([0.9, 0.8, 0.97], ddof=1)))
    assert _row(Hyper(), [0.9, None, 0.97])["mean"] is None
    assert _row(Hyper(), [0.9])["std"] is None


def test_a_file_that_is_not_proven_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = proof.parity
    monkeypatch.setattr(proof, "parity", lambda *a, **k: real(*a, **k)._replace(passed=False))
    assert main([*SWEEP, "--out", str(tmp_path / "best")]) == 1
    assert not runs.read_json(tmp_path / "best", runs.METRICS)["onnx"]["passed"]


def test_its_table_says_what_diverged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SWEEP, "--learning-rate", "3e-3,3e38", "--out", str(tmp_path / "best")]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 diverged" in out
    assert "* kept; " in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--learning-rate", "1e-3,x"],
            "--learning-rate must be numbers with commas between them; got '1e-3,x'",
        ),
        (["--learning-rate", "1e-3,0.001"], "--learning-rate must have each number once; got"),
        (["--learning-rate", "-1"], "learning rate must be a number"),
        (["--weight-decay", "nan"], "weight decay must be a number"),
        (["--seeds", "0"], "seeds must be a whole number of at least 1; got 0"),
        (
            ["--validation-fraction", "0"],
            "must be above 0, since the best is chosen by it; got 0",
        ),
        (["--learning-rate", "3e38"], "some run must stay within the finite numbers; none did"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SWEEP, *words, "--out", str(tmp_path / "best")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert said in error
    assert not (tmp_path / "best").exists()


def test_a_directory_in_use_is_left_alone(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    assert main([*SWEEP, "--out", str(run_dir)]) == 2
    assert "a run needs a new or an empty directory" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == before


RATES = ["--learning-rate", "1e-3,1e-2,3e38,3e-3"]


def after(calls: int, function: Callable[..., object]) -> Callable[..., object]:
    """The function, but from so many calls on a full disk."""
    left = iter(range(calls))

    def limited(*arguments: object, **options: object) -> object:
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        return function(*arguments, **options)

    return limited


def content(folder: Path) -> tuple[object, str, set[str]]:
    """What a sweep has left, without what a clock has measured."""
    found = json.loads((folder / "sweep.json").read_text())
    del found["seconds"]
    state, _ = checkpoint._read(folder / runs.CHECKPOINT)
    return found, checkpoint.arrays.digest(state), {path.name for path in folder.iterdir()}


def test_a_sweep_goes_on_where_it_was_stopped_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mnist_jax.sweep.suitable", lambda _: 3)  # one row of two runs at once
    together, complete = rows._train_together, session.complete
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert main([*SWEEP, *RATES, "--out", str(whole)]) == 0
    command = [*SWEEP, *RATES, "--out", str(halves)]
    with monkeypatch.context() as patch:
        patch.setattr(rows, "_train_together", after(1, together))
        assert main(command) == 2
    first = json.loads((halves / "sweep.json").read_text())
    assert [row["learning_rate"] for row in first["rows"]] == [1e-3]
    (halves / ".sweep.json.0a1b2c3d").write_text("half")
    for words, said in (
        (
            [*SWEEP, "--learning-rate", "1e-3,1e-2"],
            "a sweep with learning_rate [0.001, 0.01, 3e+38, 0.003]; got",
        ),
        (
            [*SWEEP, *RATES, "--epochs", "3"],
            "has a sweep with config.epochs 2; got 3; name another directory",
        ),
        ([*SWEEP, *RATES, "--seeds", "3"], "has a sweep with seeds 2; got 3; name another directory"),
        ([*SWEEP, *RATES, "--preset", "mlp-128-64"], "has a sweep with preset 'mlp-100'; got 'mlp-128-64'"),
    ):
        capsys.readouterr()
        assert main([*words, "--out", str(halves)]) == 2
        assert f"{halves} has a sweep" in (message := capsys.readouterr().err.splitlines()[-1])
        assert said in message
    assert json.loads((halves / "sweep.json").read_text()) == first

    with monkeypatch.context() as patch:
        patch.setattr(rows, "_train_together", after(3, together))
        patch.setattr(session, "complete", after(0, complete))
        assert main(command) == 2
    captured = capsys.readouterr()
    assert "2 of them are done" in captured.err
    assert "* kept; " in captured.out  # before the winner is trained
    with monkeypatch.context() as patch:
        patch.setattr(rows, "_train_together", after(0, together))
        assert main(command) == 0
    assert content(halves) == content(whole)
    assert main(command) == 2
    assert f"go on with it: mnist-jax train --resume {halves}" in capsys.readouterr().err


def test_a_winner_that_was_trained_on_is_no_stopped_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "best"
    assert main([*SWEEP, "--out", str(folder)]) == 0
    assert main(["train", "--resume", str(folder), "--epochs", "3"]) == 0
    (folder / runs.METRICS).unlink()  # as a kill leaves it
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main([*SWEEP, "--out", str(folder)]) == 2
    assert f"another run than this sweep's; go on with it: mnist-jax train --resume {folder}" in (
        capsys.readouterr().err
    )
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after | {"sweep.json": b""} == before | {"sweep.json": b""}


def test_a_sweep_that_cannot_be_kept_is_refused_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trains(*_: object) -> None:
        pytest.fail("trained")

    monkeypatch.setattr(rows, "_train", trains)
    folder = tmp_path / "best"
    with monkeypatch.context() as patch:
        patch.setattr(rows, "write_atomic", after(0, write_atomic))
        assert main([*SWEEP, "--out", str(folder)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not folder.exists()
    with directories.take(folder):
        assert main([*SWEEP, "--out", str(folder)]) == 2
        assert "another process is at work in it" in capsys.readouterr().err
        (folder / "sweep.json").write_text("{}")
        assert main([*SWEEP, "--out", str(folder)]) == 2
        assert "another process is at work in it" in capsys.readouterr().err
    for text, said in (("{}", "a sweep with preset None; got 'mlp-100'"), ("[", "sweep.json is damaged")):
        (folder / "sweep.json").write_text(text)
        assert main([*SWEEP, "--out", str(folder)]) == 2
        assert said in capsys.readouterr().err
        assert (folder / "sweep.json").read_text() == text


def sweep_file(accuracies: object = (0.9, 0.8), **changes: object) -> str:
    """A sweep's file with two rows, the first better."""
    rows = [{**Hyper()._asdict(), "accuracies": found} for found in (accuracies, [0.1, 0.2])]
    return json.dumps({"format": 1, "seeds": 2, "best": 0, "rows": rows, **changes})


def test_a_sweep_comes_back(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(sweep_file())
    assert swept.read_sweep(tmp_path) == swept.Swept(
        (swept.SweptRow(Hyper(), (0.9, 0.8)), swept.SweptRow(Hyper(), (0.1, 0.2))), 0
    )


@pytest.mark.parametrize(
    "text",
    [
        *["", "[]", "{}", '{"rows": 3}'],
        *(
            sweep_file(rows=[], best=0),
            sweep_file(rows=[{}]),
            sweep_file(format=2),
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
        swept.read_sweep(tmp_path)
