"""What the properties of `test_search.py` are tried on: networks that live, learners of them, ways to run them."""

import contextlib
import dataclasses
import functools
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from search import Drawn, Net, Values, floats, large, loss
from search_oracle import Oracle

import etrax

STATE = brainstate.HiddenState
HUGE = 1e30  # beyond, a trace may overflow where the gradient does not: it ages before it meets an error that is tiny


@contextlib.contextmanager
def environment(drawn):
    """What the network runs under."""
    with brainstate.environ.context(dt=large(drawn.dt) if drawn.big else drawn.dt, fit=True, precision=drawn.precision):
        yield


def numbers(tree):
    """All numbers of a tree, without their units, as one vector."""
    leaves = jax.tree.leaves(tree)
    return np.concatenate([np.asarray(leaf, float).reshape(-1) for leaf in leaves]) if leaves else np.zeros(0)


def same(got, expected, rtol, what="", least=0.0):
    """Equal by path, relative to the largest number of a path, or to the ``least`` one that counts."""
    assert set(got) == set(expected), set(got) ^ set(expected)
    most = max((np.abs(numbers(v)).max(initial=0.0) for v in expected.values()), default=0.0)
    for path, value in expected.items():
        a, b = numbers(got[path]), numbers(value)
        scale = np.abs(b).max(initial=0.0) or most
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(scale, least), err_msg=f"{what} {path}")


class Silent(Exception):
    """A network does not live, with any of the weights that were tried."""


@dataclasses.dataclass
class Network:
    """One network of a structure: its numbers, and what the oracle finds of it."""

    values: Values
    data: tuple
    params: dict
    grads: dict
    losses: Any
    last: dict


class Trial:
    """Networks of one structure whose weights are such that they spike, their oracle, and learners of them."""

    def __init__(self, drawn: Drawn):
        self.drawn, self.rtol = drawn, 1e-9 if drawn.precision == 64 else 5e-3
        self.oracle = Oracle(drawn)
        self.first = {path: state.value for path, state in self.oracle.params.items()}
        self.networks = [self.awake(values) for values in drawn.values]

    def awake(self, values):
        """A network of these values that lives, drawn again where it does not."""
        data = self.drawn.sequences(values)
        for attempt in range(4):
            self.draw(values.seed, attempt)
            for _ in range(16):
                grads, losses, rates = self.oracle(*data, values.seed)
                quiet = [k for k, rate in enumerate(rates) if rate < 0.02]
                loud = [k for k, rate in enumerate(rates) if not rate < 0.9]
                if not quiet and not loud:
                    break
                self.times(1.7, quiet)
                self.times(0.6, loud)
            if values.scale != 1.0:
                self.times(values.scale, range(len(self.drawn.cells)))
                grads, losses, _ = self.oracle(*data, values.seed)
            weights = [numbers(grad) for path, grad in grads.items() if path[0].startswith("proj")]
            if not quiet and not loud and all(grad.any() and np.abs(grad).max() < HUGE for grad in weights):
                params = {path: s.value for path, s in self.oracle.params.items()}
                network = Network(values, data, params, grads, losses, hidden(self.oracle.net))
                if self.is_steady(network):
                    return network
        raise Silent

    def is_steady(self, network):
        """Whether rounding leaves it alone: it may be chaotic, or a spike a matter of the last digit."""
        self.times(1 + 4 * jnp.finfo(brainstate.environ.dftype()).eps, range(len(self.drawn.cells)))
        grads, losses, _ = self.oracle(*network.data, network.values.seed)
        try:
            self.compare(network, grads, losses, hidden(self.oracle.net))
        except AssertionError:
            return False
        return True

    def ask(self, network, opened):
        """The gradient of a network by the oracle with some gates open."""
        self.give(network)
        return self.oracle(*network.data, network.values.seed, opened)[0]

    def traces(self, network):
        """Derivatives of the states of a network by its parameters, see `Oracle.traces`."""
        self.give(network)
        return self.oracle.traces(*network.data[:2], network.values.seed)

    def give(self, network):
        """Give the oracle the parameters of a network."""
        for path, value in network.params.items():
            self.oracle.params[path].value = value

    def draw(self, *seed):
        """Draw parameters around those that the structure was made with."""
        for n, (path, value) in enumerate(self.first.items()):
            rng, spread = np.random.default_rng([*seed, n]), 1.0 if "comm" in path or path[0][:3] == "out" else 0.02
            self.oracle.params[path].value = jax.tree.map(
                lambda v, rng=rng, spread=spread: v * floats(np.exp(spread * rng.uniform(-1, 1, jnp.shape(v)))), value
            )

    def times(self, factor, populations):
        """Multiply the weights of projections onto some populations."""
        for path, state in self.oracle.params.items():
            if any(path[0].startswith(f"proj{k}_") and path[1] != "syn" for k in populations):
                state.value = jax.tree.map(lambda v: v * factor, state.value)

    def learner(self, **changed):
        """A learner of the networks, with other units or another batch if so `changed`; and its step function."""
        drawn = dataclasses.replace(self.drawn, **changed)
        x = self.networks[0].data[0][0]
        learner = etrax.compile(Net(drawn), etrax.D_RTRL, x if "batch" not in changed else x[0], batch_size=drawn.batch)
        assert set(learner.param_states) == set(self.first)
        return learner, lambda x, y: loss(learner(x), y)

    def compare(self, network, grads, losses, last=None):
        """Gradient, losses and states are those of the oracle."""
        same({"losses": losses}, {"losses": network.losses}, self.rtol)
        if last is not None:
            same(last, network.last, self.rtol, "state")
        same(grads, network.grads, self.rtol, "gradient", 1e-6)


@contextlib.contextmanager
def on(network, *learners):
    """The parameters of a network in learners that start anew; what fails is said to be of this one."""
    for learner in learners:
        put(learner, network.params)
    brainstate.random.seed(network.values.seed)
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the network of {network.values}")
        raise


def put(learner, params):
    """Give a learner parameters, and start anew."""
    for path, state in learner.param_states.items():
        state.value = in_units_of(params[path], state.value)
    learner.reset_state()


def in_units_of(value, like):
    """The same quantities, in other units."""

    def one(v, to):
        return u.Quantity(u.Quantity(v).to_decimal(to.unit), unit=to.unit) if isinstance(to, u.Quantity) else v

    return jax.tree.map(one, value, like, is_leaf=is_quantity)


def is_quantity(value):
    """For leaves of trees that are to be left whole."""
    return isinstance(value, u.Quantity)


def hidden(model):
    """Values of its hidden states by path."""
    return {path: state.value for path, state in model.states(STATE).items()}


def total(grads):
    """The sum of gradients."""
    return functools.reduce(lambda a, b: jax.tree.map(jnp.add, a, b), grads)


def whole(learner, step, data, drawn, between=lambda: None):
    """Gradient and losses of the sequence, piece by piece as drawn."""
    size, grads, losses = len(data[0]) // drawn.pieces, [], []
    for start in range(0, len(data[0]), size):
        if drawn.reset:
            learner.reset_state()
        x, y, m = (v[start : start + size] for v in data)
        options = {"mask": m, "chunk_size": drawn.chunk, "trial": drawn.run == "trial"}
        found = learner.etrace_grad(x, y, step_fn=step, reduction="sum", return_value=True, **options)
        grads, losses = [*grads, found[0]], [*losses, found[1]]
        between()
    return total(grads), jnp.concatenate(losses)


def by_steps(learner, step, data):
    """The same by the gradient of every single step, in a loop."""

    def one(x, y, m):
        def weighed():
            value = step(x, y)
            return m * value, value

        return brainstate.transform.grad(weighed, learner.param_states, has_aux=True)()

    grads, losses = brainstate.transform.for_loop(one, *data)
    return jax.tree.map(lambda g: g.sum(0), grads), losses


def by_pieces(learner, step, data, drawn):
    """The same by a loop over pieces."""
    cut = jax.tree.map(lambda v: v.reshape(drawn.pieces, -1, *v.shape[1:]), data)
    one = dataclasses.replace(drawn, pieces=1)
    grads, losses = brainstate.transform.for_loop(lambda *piece: whole(learner, step, piece, one), *cut)
    return jax.tree.map(lambda g: g.sum(0), grads), losses.reshape(-1)


def run(learner, step, data, drawn):
    """Gradient and losses, the way that is drawn."""
    if drawn.run == "steps":
        return by_steps(learner, step, data)
    if drawn.run == "loop":
        return by_pieces(learner, step, data, drawn)
    if drawn.run == "sequence" and drawn.pieces > 1:
        return whole(learner, step, data, drawn, lambda: interrupt(learner, step, data, drawn))
    return whole(learner, step, data, drawn)


def interrupt(learner, step, data, drawn):
    """Put states and traces away, take another gradient, put them back."""
    key, saved = brainstate.random.DEFAULT.value, {path: state.value for path, state in learner.states().items()}
    x, y, m = (v[: len(v) // drawn.pieces][::-1] for v in data)
    learner.etrace_grad(x, y, step_fn=step, mask=m, chunk_size=drawn.chunk, reduction="sum", return_value=True)
    learner.reset_state()
    for path, state in learner.states().items():
        state.value = saved[path]
    brainstate.random.DEFAULT.value = key
