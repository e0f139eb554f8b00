"""What a training makes of an optimizer: schedules, the rate in the log, settings on resuming, decay and clipping."""

import csv

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import networks
import numpy as np
import optax
import pytest
import trained

import etrax
from etrax.training.checkpoint import check_same
from etrax.training.optimizers import learning_rate, settings, spare_constants, widen
from etrax.training.update import _clipped

optim = braintools.optim


def train(optimizer, folder=None, *, batches=12, resume=False, **given):
    """A training of as many batches, each of which is logged; validated after each third."""
    options = {
        "max_batches": batches,
        "epochs": batches,
        "log_every": 1,
        "validate_every": 3,
        **given.pop("options", {}),
    }
    given = {"validation": trained.validation, **given}
    data = list(trained.validation())
    return etrax.train(
        trained.learner(),
        data,
        etrax.TrainOptions(**options),
        optimizer=optimizer,
        folder=folder,
        resume=resume,
        **given,
    )


def rates(folder):
    with open(folder / "log.csv", newline="") as file:
        return [float(row["learning_rate"]) if row["learning_rate"] else None for row in csv.DictReader(file)]


# -- schedules -----------------------------------------------------------------------------
@pytest.mark.parametrize("every", networks.thorough(["batch", "epoch"], "epoch"))
def test_a_plateau_is_one_of_validations(every, tmp_path):
    """A rate that moves nothing: the first validation is the best, the third after it reduces, and so does the sixth."""
    schedule = optim.ReduceLROnPlateau(base_lr=1e-12, factor=0.5, patience=2, threshold=1e-3)
    train(optim.SGD(lr=schedule), tmp_path, batches=24, options={"schedule_every": every})
    assert int(schedule.last_epoch.value) == 8
    assert rates(tmp_path) == pytest.approx([1e-12] * 12 + [0.5e-12] * 9 + [0.25e-12] * 3, rel=1e-6)


def test_a_plateau_goes_on(tmp_path):
    def optimizer():
        return optim.SGD(lr=optim.ReduceLROnPlateau(base_lr=1e-12, factor=0.5, patience=1, threshold=1e-3))

    train(optimizer(), tmp_path / "whole", batches=18)
    train(optimizer(), tmp_path / "parts", batches=6, options={"epochs": 6})
    train(optimizer(), tmp_path / "parts", batches=18, resume=True)
    assert (tmp_path / "parts" / "log.csv").read_bytes() == (tmp_path / "whole" / "log.csv").read_bytes()
    assert len(set(rates(tmp_path / "whole"))) == 3


def test_schedules_that_could_do_nothing():
    plateau = optim.ReduceLROnPlateau(base_lr=0.1)
    highest = optim.ReduceLROnPlateau(base_lr=0.1, mode="max")
    inner = optim.ChainedScheduler([optim.ReduceLROnPlateau(base_lr=0.1)])
    beside = optim.OptaxOptimizer(optax.sgd(0.1), lr=optim.StepLR(base_lr=0.1, step_size=1))
    for optimizer, validation, message in (
        (
            optim.SGD(lr=plateau),
            None,
            "ReduceLROnPlateau, which follows the validation loss, and there is none: give `validation`",
        ),
        (optim.SGD(lr=highest), trained.validation, "leave `mode` at 'min'"),
        (optim.SGD(lr=inner), trained.validation, "ReduceLROnPlateau within ChainedScheduler, .*use it alone"),
        (beside, trained.validation, "the schedule StepLR beside a `tx`, which does not read it"),
    ):
        with pytest.raises(ValueError, match=message):
            train(optimizer, validation=validation)


# -- the rate in the log -------------------------------------------------------------------
@pytest.mark.parametrize(
    ("optimizer", "right"),
    [
        (lambda: optim.Adam(lr=0.01), [0.01, 0.01, 0.01]),
        (lambda: optim.SGD(lr=optim.StepLR(base_lr=0.1, step_size=1, gamma=0.5)), [0.1, 0.05, 0.025]),
        (lambda: optim.OptaxOptimizer(lr=0.02), [0.02, 0.02, 0.02]),
        (lambda: optim.OptaxOptimizer(optax.sgd(0.1)), [0.1, 0.1, 0.1]),
        (lambda: optim.OptaxOptimizer(optax.sgd(optax.exponential_decay(0.1, 1, 0.5))), [0.1, 0.05, 0.025]),
        (lambda: optim.OptaxOptimizer(optax.chain(optax.clip(1.0), optax.adamw(0.1), optax.scale(0.5))), [0.05] * 3),
        (lambda: optim.OptaxOptimizer(optax.inject_hyperparams(optax.adam)(learning_rate=0.3)), [0.3] * 3),
        (lambda: optim.OptaxOptimizer(optax.scale_by_adam()), [np.nan] * 3),  # there is none
    ],
)
def test_the_rate_is_that_of_the_optimizer(optimizer, right):
    made, param = optimizer(), brainstate.ParamState(jnp.ones(2))
    made.register_trainable_weights({("w",): param})
    assert learning_rate(made) == pytest.approx(right[0], rel=1e-6, nan_ok=True)  # of the first update
    for rate in right:
        made.update({("w",): jnp.ones(2)})
        assert learning_rate(made) == pytest.approx(rate, rel=1e-6, nan_ok=True)
        made.lr.step()


def test_the_log_has_the_rate_of_the_optimizer(tmp_path):
    train(optim.OptaxOptimizer(optax.sgd(optax.exponential_decay(0.1, 1, 0.5))), tmp_path, batches=3)
    assert rates(tmp_path) == pytest.approx([0.1, 0.05, 0.025])


# -- settings ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            lambda: optim.AdamW(lr=0.01, weight_decay=0.0),
            lambda: optim.AdamW(lr=0.01, weight_decay=10.0),
            "`optimizer.weight_decay` is 10.0 but .* 0.0",
        ),
        (
            lambda: optim.Adam(lr=0.01),
            lambda: optim.Adam(lr=0.01, betas=(0.5, 0.9)),
            r"`optimizer.betas` is \(0.5, 0.9\)",
        ),
        (
            lambda: optim.SGD(lr=optim.StepLR(base_lr=0.1, step_size=3)),
            lambda: optim.SGD(lr=optim.StepLR(base_lr=0.1, step_size=4)),
            "`optimizer.lr_scheduler.step_size` is 4 but .* with 3",
        ),
        (
            lambda: optim.SGD(lr=optim.StepLR(base_lr=0.1, step_size=3)),
            lambda: optim.SGD(lr=0.1),
            "`optimizer.lr_scheduler` is ConstantLR but .* StepLR",
        ),
        (
            lambda: optim.OptaxOptimizer(optax.adamw(0.1, weight_decay=0.1)),
            lambda: optim.OptaxOptimizer(optax.adamw(0.1, weight_decay=0.2)),
            "`optimizer.tx` is ...weight_decay=0.2.* but .*weight_decay=0.1",
        ),
    ],
)
def test_other_settings_are_told_apart(before, after, message):
    given = []
    for optimizer in (before(), before(), after()):
        optimizer.register_trainable_weights({("w",): brainstate.ParamState(jnp.ones(2))})
        given.append(settings(optimizer))
    check_same(given[0], given[1])
    with pytest.raises(ValueError, match=message):
        check_same(given[0], given[2])


def test_other_settings_do_not_resume(tmp_path):
    train(optim.AdamW(lr=0.01, weight_decay=0.0), tmp_path, batches=1)
    with pytest.raises(
        ValueError, match="`optimizer.weight_decay` is 10.0 but the training to resume was begun with 0.0"
    ):
        train(optim.AdamW(lr=0.01, weight_decay=10.0), tmp_path, batches=2, resume=True)
    assert train(optim.AdamW(lr=0.01, weight_decay=0.0), tmp_path, batches=2, resume=True).batches == 2


# -- decay ---------------------------------------------------------------------------------
class Learns(brainstate.nn.Module):
    """A network whose threshold learns."""

    def __init__(self):
        super().__init__()
        self.neu = etrax.neurons.ALIF(trained.N_REC, V_th=brainstate.ParamState(jnp.ones(trained.N_REC) * u.mV))
        self.syn = etrax.synapses.AlignPostProj(
            comm=brainstate.nn.Linear(
                trained.N_IN, trained.N_REC, w_init=braintools.init.Constant(3 * u.mS), b_init=None
            ),
            syn=etrax.synapses.Expon(trained.N_REC, tau=5 * u.ms),
            out=etrax.synapses.CUBA(),
            post=self.neu,
        )
        self.out = etrax.neurons.LeakyReadout(trained.N_REC, trained.N_OUT, tau=10 * u.ms, pre=self.neu)

    def update(self, x):
        self.syn(x)
        return self.out(self.neu())


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: optim.AdamW(lr=0.1, weight_decay=1.0),
        lambda: optim.Adam(lr=0.1, weight_decay=1.0),
        lambda: optim.OptaxOptimizer(optax.adamw(0.1, weight_decay=1.0)),
    ],
)
def test_decay_leaves_constants_alone(optimizer):
    model = Learns()
    constant, weight = model.neu.states(brainstate.ParamState), model.out.weight
    ((path, state),) = constant.items()
    params = {("neu", *path): state, ("out", "weight"): weight}
    zero = {key: u.math.zeros_like(s.value) for key, s in params.items()}

    moved = {}
    for spare in (True, False):
        start = {key: s.value for key, s in params.items()}
        made = optimizer()
        if spare:
            spare_constants(made, model, params)
        made.register_trainable_weights(params)
        made.update(zero)
        moved[spare] = {key: float(jnp.max(jnp.abs(u.get_mantissa(s.value - start[key])))) for key, s in params.items()}
        for key, s in params.items():
            s.value = start[key]
    assert moved[True]["neu", *path] == 0.0
    assert moved[False]["neu", *path] > 0.01
    assert moved[True]["out", "weight"] == moved[False]["out", "weight"] > 0


@pytest.mark.filterwarnings("ignore:`V_th` of ALIF is trained")
def test_decay_of_constants_can_be_asked_for():
    values = []
    for asked in (False, True):
        with brainstate.random.seed_context(1):
            model = Learns()
        options = etrax.TrainOptions(epochs=5, decay_constants=asked)
        etrax.train(model, list(trained.validation()), options, optimizer=optim.AdamW(lr=1e-3, weight_decay=30.0))
        values.append(np.asarray(model.neu.V_th.to_decimal(u.mV)))
    assert np.all(np.abs(values[0] - 1) < 0.01)
    assert np.all(values[1] < 0.9)


# -- clipping ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("dtype", "size"), [(jnp.float16, 100.0), (jnp.bfloat16, 1e30), (jnp.float32, 1e30), (jnp.float32, 1e-30)]
)
def test_clipping_stays_within_the_range_of_numbers(dtype, size):
    clipped, norm = _clipped({"w": jnp.full(100, size, dtype)}, 1.0)
    assert float(norm) == pytest.approx(10 * size, rel=1e-2)
    assert clipped["w"].dtype == dtype
    expected = min(size, 0.1)
    np.testing.assert_allclose(np.asarray(clipped["w"], float), expected, rtol=1e-2)
    zero, norm = _clipped({"w": jnp.zeros(3, dtype)}, 1.0)
    assert float(norm) == float(jnp.sum(zero["w"])) == 0.0


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_weights_of_16_bits_are_trained_in_32(dtype):
    """The first step of Adam is one learning rate, whatever the gradient is; its square, and `eps`, are 0 in float16."""
    weights = {("w",): brainstate.ParamState(jnp.zeros(3, dtype))}
    optimizer = optim.Adam(lr=0.01)
    widen(optimizer, weights)
    optimizer.register_trainable_weights(weights)
    optimizer.update({("w",): jnp.asarray([1e-4, -1e-5, 0.0], dtype)})
    (value,) = (state.value for state in weights.values())
    assert value.dtype == dtype
    np.testing.assert_allclose(value.astype(float), [-0.01, 0.01, 0.0], rtol=5e-3)
    assert learning_rate(optimizer) == pytest.approx(0.01)


# -- patience ------------------------------------------------------------------------------
def test_nan_that_does_not_count_exhausts_no_patience():
    xs, _ = next(trained.validation())
    ys = np.ones((trained.T, trained.B, trained.N_OUT))
    mask = np.ones((trained.T, trained.B))
    ys[:3], mask[:3] = np.nan, 0.0
    ys[:, 1], mask[:, 1] = np.nan, 0.0
    options = etrax.TrainOptions(epochs=6, patience=1, learning_rate=1e-3)
    with brainstate.random.seed_context(1):
        net = trained.Net()
    net.syn.comm.weight.value = jax.tree.map(lambda w: 10 * jnp.abs(w), net.syn.comm.weight.value)  # it fires
    result = etrax.train(net, [(xs, ys, mask)], options, loss="mse", validation=lambda: [(xs, ys, mask)])
    assert result.stopped == "epochs"
    assert result.history[-1]["validation_loss"] == result.best_loss < result.history[0]["validation_loss"]
