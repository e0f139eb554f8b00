"""A training that is short and uses all that a checkpoint holds; run as a script, it can be killed.

An endless stream without resets, whose batches come from `brainstate.random`; updates within a batch; a schedule that
takes a step per batch; validation; constraints.
"""

import csv
import sys
from pathlib import Path

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

import etrax

T, B, N_IN, N_REC, N_OUT = 8, 3, 4, 5, 2
BATCHES = 40


class Net(brainstate.nn.Module):
    """Recurrent ALIF neurons with a readout."""

    def __init__(self):
        super().__init__()
        self.neu = etrax.neurons.ALIF(N_REC, tau=10 * u.ms, tau_a=50 * u.ms, beta=0.1 * u.mV)
        self.syn = etrax.synapses.AlignPostProj(
            comm=brainstate.nn.Linear(
                N_IN + N_REC,
                N_REC,
                w_init=braintools.init.KaimingNormal(unit=u.mS),
                b_init=braintools.init.ZeroInit(unit=u.mS),
            ),
            syn=etrax.synapses.Expon(N_REC, tau=5 * u.ms),
            out=etrax.synapses.CUBA(),
            post=self.neu,
        )
        self.out = etrax.neurons.LeakyReadout(N_REC, N_OUT, tau=10 * u.ms, pre=self.neu)

    def update(self, x):
        self.syn(u.math.concatenate([x, self.neu.get_spike()], axis=-1))
        return self.out(self.neu())


class Stream:
    """Spikes and labels without end; its position is a count, and the random numbers are the global ones."""

    def __init__(self, bad_at=None):
        self.count, self.bad_at = 0, bad_at

    def __iter__(self):
        return self

    def __next__(self):
        self.count += 1
        xs = (brainstate.random.rand(T, B, N_IN) < 0.4).astype(brainstate.environ.dftype())
        ys = jnp.broadcast_to(jnp.asarray([self.count % 2, 0, 1]), (T, B))
        return xs * (jnp.nan if self.count == self.bad_at else 1.0), ys

    def state(self):
        return {"count": self.count}

    def restore(self, state):
        self.count = state["count"]


def validation():
    """The same trials each time."""
    rng = np.random.default_rng(0)
    yield (rng.random((T, B, N_IN)) < 0.4).astype(float), np.broadcast_to(np.arange(B) % N_OUT, (T, B))


def learner():
    """A compiled learner with the same initial weights each time."""
    with brainstate.random.seed_context(1):
        net = Net()
        return etrax.compile(net, etrax.D_RTRL, jnp.zeros((B, N_IN), brainstate.environ.dftype()), batch_size=B)


def options(**changes):
    """Those of the training, with some changed."""
    given = dict(
        update=4,
        chunk_size=2,
        reset=False,
        max_batches=BATCHES,
        validate_every=5,
        checkpoint_every=3,
        log_every=2,
        schedule_every="batch",
        clip_norm=1.0,
        rate_cost=0.1,
        constraints={"syn.comm.*": etrax.Clamp(low=-0.6 * u.mS, high=0.6 * u.mS)},
    )
    return etrax.TrainOptions(**{**given, **changes})


def short(folder, *, resume=False, stream=None, **changes):
    """Train, and give the weights by name."""
    brainstate.random.seed(7)
    schedule = braintools.optim.StepLR(base_lr=3e-2, step_size=7, gamma=0.7)
    result = etrax.train(
        learner(),
        Stream() if stream is None else stream,
        options(**changes),
        optimizer=braintools.optim.Adam(lr=schedule),
        validation=validation,
        folder=folder,
        resume=resume,
    )
    return weights(result.learner)


def weights(learner):
    """All numbers of all parameters."""
    return [np.asarray(leaf) for state in learner.param_states.values() for leaf in jax.tree.leaves(state.value)]


def rows(folder):
    """What the log of a training holds."""
    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def same(ours, theirs):
    """Weights are equal bit for bit."""
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


if __name__ == "__main__":
    brainstate.environ.set(precision=64)
    target = Path(sys.argv[1])
    with brainstate.environ.context(dt=1 * u.ms):
        np.savez(target / "weights.npz", *short(target, resume=True))
