"""Training equations: scan equals loop, vmapped run equals single run, same key gives same bits."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.trees import leaves_close

from mnist_jax.config.networks import CNN, MLP, Spec
from mnist_jax.config.training import Config, HyperParams
from mnist_jax.data.datasets import Dataset
from mnist_jax.data.examples import Examples
from mnist_jax.errors import DivergenceError, InputError, SpecError
from mnist_jax.evaluation.metrics import cross_entropy
from mnist_jax.nn import convolution
from mnist_jax.nn.model import apply
from mnist_jax.training import step as training
from mnist_jax.training.loop import fit
from mnist_jax.training.records import EpochRecord
from mnist_jax.training.start import init_state
from mnist_jax.training.step import TrainState, train_epoch, train_step

KEY = jax.random.key(7)
CONFIG = Config(MLP((16, 8), ("relu", "tanh")), epochs=2, batch_size=32)
HYPER = HyperParams(*map(jnp.float32, HyperParams()))


@pytest.fixture(scope="module")
def examples(digits: Dataset) -> Examples:
    return digits.train[:200]  # six batches of 32 and one of 8


@pytest.mark.slow
def test_an_epoch_is_a_python_loop_over_its_steps(examples: Examples) -> None:
    start = init_state(CONFIG, KEY)
    end, metrics = jax.jit(train_epoch, static_argnums=0)(CONFIG, HYPER, start, examples)
    order = np.asarray(jax.random.permutation(jax.random.fold_in(start.key, 0), 200))
    state, losses, correct = start, [], []
    for i in range(0, 200, 32):
        rows = order[i : i + 32]
        state, seen = train_step(CONFIG, HYPER, state, Examples(examples.images[rows], examples.labels[rows]))
        losses.append(seen.loss)
        correct.append(int(seen.correct))
    assert int(end.step) == 7
    assert metrics.size.tolist() == [32] * 6 + [8]
    assert metrics.correct.tolist() == correct
    np.testing.assert_allclose(metrics.loss, losses, rtol=1e-5)
    leaves_close(end.params, state.params, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 20])
@pytest.mark.parametrize(
    "model",
    [CONFIG.model, CNN((6, 16), 5, "average", (12,), ("same", "valid")), CNN((16, 24), 3, "max")],
    ids=str,
)
def test_the_fast_form_of_training_equals_the_plain_one(
    model: Spec, steps: int, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch transposes kernels and has its own convolutions; single steps have neither."""
    config = Config(model, batch_size=32)
    some = Examples(digits.train.images[: 32 * steps], digits.train.labels[: 32 * steps])
    start = init_state(config, KEY)
    fast, _ = jax.jit(train_epoch, static_argnums=0)(config, HYPER, start, some)
    for form in ("_by_blocks", "_by_library"):
        monkeypatch.setattr(convolution, form, convolution._directly)
    order = np.asarray(jax.random.permutation(jax.random.fold_in(start.key, 0), 32 * steps))
    plain, step = start, jax.jit(train_step, static_argnums=0)
    for rows in order.reshape(steps, 32):
        plain, _ = step(config, HYPER, plain, Examples(some.images[rows], some.labels[rows]))
    assert int(fast.step) == int(plain.step) == steps
    leaves_close(fast.params, plain.params, 1e-5)


@pytest.mark.nightly
def test_the_fast_form_is_as_accurate_as_the_plain_one(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(CNN((6, 16), 5, "average", (32,), ("same", "valid")), epochs=3)

    def accuracies(seeds: range) -> np.ndarray:
        runs = [fit(config, digits.train, digits.validation, key=jax.random.key(seed)) for seed in seeds]
        return np.array([run.history[-1].validation_accuracy for run in runs])

    fast = accuracies(range(4))
    monkeypatch.setattr(training, "_transpose", lambda tree: tree)
    monkeypatch.setattr(convolution, "_by_blocks", convolution._directly)
    jax.clear_caches()
    plain = accuracies(range(4, 8))  # other seeds, since the same ones would agree exactly
    jax.clear_caches()
    assert min(fast.mean(), plain.mean()) > 0.85
    assert abs(fast.mean() - plain.mean()) <= 2 * max(fast.std(), plain.std(), 0.01)


@pytest.mark.slow
def test_training_in_bfloat16_keeps_float32_params_and_accuracy(digits: Dataset) -> None:
    def accuracy(config: Config) -> float:
        run = fit(config, digits.train, digits.validation, key=KEY)
        assert {leaf.dtype for leaf in jax.tree.leaves(run.params)} == {jnp.dtype(jnp.float32)}
        return float(run.history[-1].validation_accuracy or 0)

    config = Config(MLP((32,), ("relu",)), epochs=5)
    exact, rounded = accuracy(config), accuracy(replace(config, dtype="bfloat16"))
    assert min(exact, rounded) > 0.85
    assert abs(exact - rounded) < 0.05


@pytest.mark.slow
def test_a_step_equals_handwritten_adam(examples: Examples) -> None:
    start = init_state(CONFIG, KEY)
    batch = Examples(examples.images[:32], examples.labels[:32])
    hyperparams = HyperParams(jnp.float32(0.01), jnp.float32(0.1), jnp.float32(0.05))
    state, m, v, params = start, None, None, start.params

    def loss(params: object) -> jax.Array:
        return cross_entropy("softmax", apply(CONFIG.model, params, batch.images), batch.labels, 0.05).mean()

    for t in (1, 2, 3):
        state, _ = train_step(CONFIG, hyperparams, state, batch)
        g = jax.grad(loss)(params)
        m = (
            jax.tree.map(lambda g: 0.1 * g, g)
            if m is None
            else jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        )
        v = (
            jax.tree.map(lambda g: 0.001 * g**2, g)
            if v is None
            else jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, g)
        )

        def update(p: jax.Array, m: jax.Array, v: jax.Array, t: int = t) -> jax.Array:
            return p - 0.01 * (m / (1 - 0.9**t) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-7) + 0.1 * p)

        params = jax.tree.map(update, params, m, v)
    leaves_close(state.params, params, 1e-5)


@pytest.mark.slow
def test_every_epoch_shuffles_anew_and_uses_every_example_once(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    step = training._step

    def spy(
        config: Config, hyperparams: HyperParams, state: TrainState, batch: Examples, *rest: object
    ) -> object:
        jax.debug.callback(lambda labels: seen.append(np.asarray(labels)), batch.labels, ordered=True)
        return step(config, hyperparams, state, batch, *rest)

    monkeypatch.setattr(training, "_step", spy)
    numbered = Examples(examples.images, np.arange(200, dtype=np.int32) % 10)
    state = init_state(CONFIG, KEY)
    for _ in range(2):
        state, _ = train_epoch(CONFIG, HYPER, state, numbered)
    jax.effects_barrier()
    first, second = np.concatenate(seen[:7]), np.concatenate(seen[7:])
    for labels in (first, second):
        assert np.bincount(labels).tolist() == [20] * 10
    assert not np.array_equal(first, second)


@pytest.mark.slow
def test_vmapped_runs_equal_lone_runs(examples: Examples) -> None:
    rates = jnp.float32([1e-3, 1e-2, 3e-3])
    keys = jax.random.split(KEY, 3)
    epoch = jax.jit(functools.partial(train_epoch, CONFIG))
    hypers = HyperParams(rates, jnp.float32([0, 0.1, 0]), jnp.float32([0, 0, 0.1]))
    states = jax.vmap(functools.partial(init_state, CONFIG))(keys)
    many, _ = jax.jit(jax.vmap(functools.partial(train_epoch, CONFIG), in_axes=(0, 0, None)))(
        hypers, states, examples
    )
    for i in range(3):
        lone, _ = epoch(jax.tree.map(lambda x, i=i: x[i], hypers), init_state(CONFIG, keys[i]), examples)
        leaves_close(jax.tree.map(lambda x, i=i: x[i], many.params), lone.params, 1e-4)


@pytest.mark.slow
def test_epochs_can_be_scanned_by_the_user(examples: Examples) -> None:
    def body(state: TrainState, _: None) -> tuple[TrainState, jax.Array]:
        state, metrics = train_epoch(CONFIG, HYPER, state, examples)
        return state, metrics.loss.mean()

    scanned, losses = jax.jit(lambda state: jax.lax.scan(body, state, None, length=3))(
        init_state(CONFIG, KEY)
    )
    state = init_state(CONFIG, KEY)
    for _ in range(3):
        state, _ = jax.jit(train_epoch, static_argnums=0)(CONFIG, HYPER, state, examples)
    leaves_close(scanned.params, state.params, 1e-5)
    assert losses[2] < losses[0]


def test_public_functions_do_not_donate(examples: Examples) -> None:
    state = init_state(CONFIG, KEY)
    jax.jit(train_epoch, static_argnums=0)(CONFIG, HYPER, state, examples)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_the_same_key_gives_the_same_bits_and_another_key_others(digits: Dataset) -> None:
    def params(seed: int) -> bytes:
        run = fit(CONFIG, digits.train, digits.validation, key=jax.random.key(seed))
        return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(run.state.params))

    first = params(0)
    assert params(0) == first
    assert params(1) != first


@pytest.mark.slow
def test_fit_learns_and_records_its_history(digits: Dataset) -> None:
    config = Config(MLP((50, 50), ("relu", "relu")), epochs=8)
    records: list[tuple[EpochRecord, int]] = []
    run = fit(
        config,
        digits.train,
        digits.validation,
        key=KEY,
        callback=lambda record, state: records.append((record, int(state.step))),
    )
    assert [record.epoch for record in run.history] == list(range(1, 9))
    assert records == [
        (record, 43 * record.epoch) for record in run.history
    ]  # 1,350 examples: 42 batches and a rest
    first, last = run.history[0], run.history[-1]
    assert last.loss < first.loss / 3
    assert last.accuracy > 0.95
    assert last.validation_accuracy is not None
    assert last.validation_accuracy > 0.9
    assert run.compile_seconds > 0
    assert all(r.images_per_second == pytest.approx(1350 / r.seconds) for r in run.history)


def test_the_states_of_a_callback_may_be_kept(examples: Examples) -> None:
    """Training donates a copy of each state, so that the callback's states stay valid."""
    states: list[TrainState] = []
    config = replace(CONFIG, epochs=4, ema_decay=0.9)
    watched = fit(config, examples, key=KEY, callback=lambda _, state: states.append(state))
    alone = fit(config, examples, key=KEY)
    assert [int(state.step) for state in states] == [7, 14, 21, 28]
    for state, epochs in zip(states, range(1, 5), strict=True):
        until = fit(config, examples, key=KEY, callback=lambda record, _, last=epochs: record.epoch == last)
        leaves_close(state._replace(key=0), until.state._replace(key=0), 0)
    leaves_close(watched.state._replace(key=0), alone.state._replace(key=0), 0)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(states))


def test_fit_does_not_donate_the_given_state(examples: Examples) -> None:
    half = fit(CONFIG, examples, key=KEY, callback=lambda record, _: record.epoch == 1)
    rest = fit(CONFIG, examples, state=half.state)
    assert int(rest.state.step) == 2 * int(half.state.step)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(half.state))


@pytest.mark.slow
def test_fit_works_under_disable_jit(examples: Examples) -> None:
    config, few = replace(CONFIG, epochs=1), examples[:64]
    with jax.disable_jit():
        result = fit(config, few, few, key=KEY)
    expected = fit(config, few, few, key=KEY)
    leaves_close(result.params, expected.params, 1e-5)
    assert result.history[0].validation_loss == pytest.approx(expected.history[0].validation_loss, rel=1e-4)


def test_without_validation_there_are_no_validation_scores(examples: Examples) -> None:
    run = fit(replace(CONFIG, epochs=1), examples, key=KEY)
    assert (run.history[0].validation_loss, run.history[0].validation_accuracy) == (None, None)


@pytest.mark.slow
@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_history_counts_every_example_of_the_epoch(examples: Examples, output: str) -> None:
    """With a negligible learning rate, an epoch's loss equals the loss on the whole set."""
    config = Config(MLP((16,), ("relu",), output), epochs=1, batch_size=33)
    run = fit(config, examples, key=KEY, hyperparams=HyperParams(learning_rate=1e-12))
    logits = apply(config.model, run.state.params, examples.images)
    loss = cross_entropy(config.model.output, logits, examples.labels).mean()
    assert run.history[0].loss == pytest.approx(float(loss), rel=1e-4)
    assert run.history[0].accuracy == pytest.approx(
        float((logits.argmax(-1) == examples.labels).mean()), abs=0.006
    )


def test_divergence_names_the_step_and_keeps_the_last_finite_state(
    examples: Examples,
) -> None:
    images = (examples.images / np.float32(255)).astype(np.float32)
    with pytest.raises(
        DivergenceError, match=r"in epoch 1, step \d .*; try a learning rate below 1e\+38"
    ) as refusal:
        fit(CONFIG, Examples(images, examples.labels), key=KEY, hyperparams=HyperParams(learning_rate=1e38))
    assert refusal.value.history == []
    start = init_state(CONFIG, KEY)
    leaves_close(refusal.value.state.params, start.params, 0)
    assert int(refusal.value.state.step) == 0


def test_overflow_in_the_last_step_is_detected(examples: Examples) -> None:
    config = replace(CONFIG, epochs=1, batch_size=200)
    with pytest.raises(
        DivergenceError,
        match=r"in epoch 1, step 1 \(a parameter, .*rate below 1e\+38 or a weight decay below 1e\+38",
    ):
        fit(config, examples, key=KEY, hyperparams=HyperParams(learning_rate=1e38, weight_decay=1e38))


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused_before_anything_runs(digits: Dataset, examples: Examples) -> None:
    images, labels = examples.images, examples.labels
    bad = [
        ((digits.test,), "train must be Examples; got the held-out test set, which is for evaluate alone"),
        ((examples, digits.test), "validation must be Examples; got the held-out test set"),
        ((Examples(images[0], labels),), r"images must be an array of shape \[batch, 28, 28\]"),
        ((Examples(images.tolist(), labels),), "got list"),
        ((Examples(images.astype(np.float32), labels),), r"must lie in 0..1; got 0..255; divide by 255"),
        ((Examples(np.full((200, 28, 28), np.nan, np.float32), labels),), "got nan..nan"),
        ((Examples(images, labels[:9]),), r"one entry for each of 200 images; got shape \(9,\)"),
        ((Examples(images, labels.astype(np.float32)),), "labels must be integers from 0 to 9; got float32"),
        ((Examples(images, labels + np.uint8(5)),), r"labels must lie in 0..9; got 5..14"),
        ((Examples(images[:9], labels[:9]),), r"batch size \(32\) must be at most the number .* \(9\)"),
    ]
    for arguments, message in bad:
        with pytest.raises(InputError, match=message):
            fit(CONFIG, *arguments, key=KEY)
    with pytest.raises(SpecError, match="learning rate must be a number, above 1e-37; got nan"):
        fit(CONFIG, examples, key=KEY, hyperparams=HyperParams(learning_rate=float("nan")))


def test_an_epoch_is_traced_once(examples: Examples) -> None:
    count = 0

    def counted(config: Config, hyperparams: HyperParams, state: TrainState, train: Examples) -> object:
        nonlocal count
        count += 1
        return train_epoch(config, hyperparams, state, train)

    run = jax.jit(counted, static_argnums=0)
    state = init_state(CONFIG, KEY)
    for rate in (1e-3, 1e-2, 1e-1):
        state, _ = run(CONFIG, HYPER._replace(learning_rate=jnp.float32(rate)), state, examples)
    assert count == 1


def test_weight_decay_of_zero_is_plain_adam(examples: Examples) -> None:
    state = init_state(CONFIG, KEY)
    batch = Examples(examples.images[:32], examples.labels[:32])
    stepped, _ = train_step(CONFIG, HYPER, state, batch)
    adam = optax.adam(1e-3, eps=1e-7)
    grads = jax.grad(
        lambda p: cross_entropy("softmax", apply(CONFIG.model, p, batch.images), batch.labels).mean()
    )(state.params)
    updates, _ = adam.update(grads, adam.init(state.params))
    leaves_close(stepped.params, optax.apply_updates(state.params, updates), 1e-6)
