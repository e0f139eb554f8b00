"""The gradient of D-RTRL by automatic differentiation of the model itself, for any network of `search.py`.

Nothing of the engine is used: no registered Jacobian, no trace. Each step runs twice with the same values. Once nothing that
enters a projection has a derivative: this gives the states that are handed on, whose derivative by a weight is then its trace. Once
only what was sent in earlier steps has none: this gives the loss, which is credited through what populations send within the
step. Memories that belong to no population get credit for the newest step only, so what enters them has none in the first run.
"""

import brainstate
import jax
import jax.numpy as jnp
from search import Drawn, Net, loss

hold = jax.lax.stop_gradient


class Held(brainstate.nn.Module):
    """A layer, behind what may be held."""

    def __init__(self, layer, switch):
        super().__init__()
        self.layer, self.switch = layer, switch
        if hasattr(layer, "in_size"):
            self.in_size = layer.in_size

    def update(self, x):
        return self.layer(self.switch(x))


class Oracle:
    """A network, and its gradient, losses, states and rates.

    Attributes
    ----------
    params, states : dict
        Parameters by their path in a plain `Net`; everything that steps change.
    """

    def __init__(self, drawn: Drawn):
        self.drawn, self.holding = drawn, True

        def switch(x):
            return hold(x) if self.holding else x

        self.net = Net(drawn, stop=lambda layer: Held(layer, switch), past=hold, untold=switch)
        brainstate.nn.init_all_states(self.net, batch_size=drawn.batch)
        found = self.net.states()
        self.params = {named(p): s for p, s in found.items() if isinstance(s, brainstate.ParamState)}
        self.states = {p: s for p, s in found.items() if not isinstance(s, brainstate.ParamState)}
        self.start = {p: s.value for p, s in self.states.items()}
        self.twice = any(
            c.read == "untold" or any(way.told or (s[0] == "z" and s[-1] != "]") for way in ways for s in way.sources)
            for c, ways in zip(drawn.cells, drawn.ways, strict=True)
        )
        self._gradient = brainstate.transform.jit(self._differentiate)

    def __call__(self, xs, ys, mask):
        """Gradient by path, losses of the steps, rate of each population; the states are those after the sequence."""
        for path, state in self.states.items():
            state.value = self.start[path]
        brainstate.random.seed(self.drawn.seed)
        grads, (losses, rates) = self._gradient(xs, ys, mask)
        return grads, losses, [float(rate.mean()) for rate in rates]

    def _differentiate(self, xs, ys, mask):
        def total():
            losses, spikes = brainstate.transform.for_loop(self.step, xs, ys)
            return jnp.sum(losses * mask), (losses, spikes)

        return brainstate.transform.grad(total, self.params, has_aux=True)()

    def step(self, x, y):
        """One step: its loss, and the spikes."""
        key = brainstate.random.DEFAULT
        before = {path: state.value for path, state in self.states.items()}, key.value
        self.holding = True
        value = loss(self.net(x), y)
        if self.twice:
            after = {path: state.value for path, state in self.states.items()}
            key.value = before[1]
            for path, state in self.states.items():
                state.value = before[0][path]
            self.holding = False
            value = loss(self.net(x), y)
            for path, state in self.states.items():
                state.value = after[path]
        return value, [post.get_spike() for post in self.net.posts]

    def traces(self, xs):
        """Derivative of hidden states after the sequence, summed over neurons, by parameters: ``{state: {parameter: (batch, ...)}}``."""
        hidden = {path: state for path, state in self.states.items() if isinstance(state, brainstate.HiddenState)}
        weights = jnp.eye(len(hidden) * (self.drawn.batch or 1)).reshape(-1, len(hidden), self.drawn.batch or 1)

        def weighed(weight, xs):
            def total():
                brainstate.transform.for_loop(self.held_step, xs)
                each = [rows(mantissa(state.value), self.drawn.batch).sum(1) for state in hidden.values()]
                return sum(jnp.sum(w * h) for w, h in zip(weight, each, strict=True))

            return brainstate.transform.grad(total, self.params)()

        found, gradient = [], brainstate.transform.jit(weighed)
        for weight in weights:  # of one state in one sample
            for path, state in self.states.items():
                state.value = self.start[path]
            brainstate.random.seed(self.drawn.seed)
            found.append(gradient(weight, xs))
        size = self.drawn.batch or 1
        return {
            state: jax.tree.map(
                lambda *leaves: jnp.stack(leaves), *({p: mantissas(g) for p, g in each.items()} for each in part)
            )
            for state, part in zip(hidden, (found[k : k + size] for k in range(0, len(found), size)), strict=True)
        }

    def held_step(self, x):
        """One step in which nothing that enters a projection has a derivative."""
        self.holding = True
        self.net(x)


def rows(value, batch):
    """A state by sample and neuron."""
    return value.reshape(batch or 1, -1)


def mantissa(value):
    """The number without its unit."""
    return value.mantissa if hasattr(value, "mantissa") else value


def mantissas(tree):
    """The tree with numbers in place of quantities."""
    return jax.tree.map(mantissa, tree, is_leaf=lambda value: hasattr(value, "mantissa"))


def named(path):
    """The path that a parameter has without the wrappers of the oracle."""
    for k in range(len(path) - 1):
        if path[k : k + 2] == ("comm", "layer"):
            return path[: k + 1] + path[k + 2 :]
    return path
