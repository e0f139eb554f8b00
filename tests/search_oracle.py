"""The gradient of D-RTRL by automatic differentiation of the model itself, for any network of `search.py`.

Nothing of the engine is used: no registered Jacobian, no trace. Each step runs twice with the same values. Once no spike that
enters a projection has a derivative: this gives the states that are handed on, whose derivative by a weight is then its trace. Once
only what was sent in earlier steps has none: this gives the loss, which is credited through what populations send within the
step. Memories that belong to no population get credit for the newest step only, so what enters them has none in the first run.

What has no derivative stands behind gates. One gate opened adds what D-RTRL drops there, all of them opened give backpropagation
through time.
"""

from collections.abc import Collection
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
from search import Drawn, Net, floats, loss

hold = jax.lax.stop_gradient


class Held(brainstate.nn.Module):
    """A layer behind a gate."""

    def __init__(self, layer, gate):
        super().__init__()
        self.layer, self.gate = layer, gate
        if hasattr(layer, "in_size"):
            self.in_size = layer.in_size

    def update(self, x):
        return self.layer(self.gate(x))


class Oracle:
    """Networks of one structure: gradient, losses, states and rates; one program, whatever the values and the gates.

    Attributes
    ----------
    params, states : dict
        Parameters by their path in a plain `Net`; everything that steps change.
    gates : dict
        ``(kind, name of a projection or a readout) -> number``; see `Net`.
    """

    def __init__(self, drawn: Drawn):
        self.drawn, self.handing, self.gates = drawn, True, dict[tuple[str, str], int]()
        self._open: Any = None

        def gated(layer, name):
            self.gates["told", name] = len(self.gates)
            return Held(layer, lambda x: self.gate("told", name, x))

        self.net = Net(drawn, self.gate, gated)
        brainstate.nn.init_all_states(self.net, batch_size=drawn.batch)
        found = self.net.states()
        behind = {f"proj{k}_{j}" for k, ways in enumerate(drawn.ways) for j, way in enumerate(ways) if way.told}
        self.params = {
            (*p[:2], *p[3:]) if p[0] in behind and p[1] == "comm" else p: s  # without the gate
            for p, s in found.items()
            if isinstance(s, brainstate.ParamState)
        }
        self.states = {p: s for p, s in found.items() if not isinstance(s, brainstate.ParamState)}
        self.hidden = {p: s for p, s in self.states.items() if isinstance(s, brainstate.HiddenState)}
        self.start = {p: s.value for p, s in self.states.items()}
        self.twice = False
        for k, ways in enumerate(drawn.ways):
            for j, way in enumerate(ways):
                sent = [s for s in way.sources if s != "x"]
                late, now = (any((s[-1] == "]") == then for s in sent) for then in (True, False))
                self.twice |= now or way.told
                met = {"later": late, "now": now and not way.waits, "waits": way.waits and sent}
                for kind in (kind for kind, has in met.items() if has and not way.told):
                    self.gates[kind, f"proj{k}_{j}"] = len(self.gates)
            if drawn.cells[k].read == "untold":
                self.twice = True
                self.gates["waits", f"out{k}"] = len(self.gates)
        self._gradient = brainstate.transform.jit(self._differentiate)

    def gate(self, kind, name, z):
        """What goes on of spikes, with a derivative or without."""
        number = self.gates.get(("later" if kind == "late" else kind, name))
        free = (
            kind == "late" if self.handing else kind in ("now", "told", "waits")
        )  # in the first run, what is late waits behind another gate
        if free or number is None:
            return z
        opened = self._open[number]
        return hold(z) + opened * (z - hold(z))

    def __call__(self, xs, ys, mask, seed: int, opened: Collection = (), ends: Any = 0.0):
        """Gradient by path, losses of the steps, rate of each population; the states are those after the sequence.

        Parameters
        ----------
        xs, ys, mask : array
            Inputs, targets, weights of the losses.
        seed : int
            Of dropout.
        opened : collection
            Gates that are open.
        ends : array
            Weights of what is differentiated besides the losses: each hidden state after the sequence, summed over the neurons of
            each sample.
        """
        for path, state in self.states.items():
            state.value = self.start[path]
        brainstate.random.seed(seed)
        ends = floats(jnp.zeros((len(self.hidden), self.drawn.batch or 1)) + ends)
        grads, (losses, rates) = self._gradient(xs, ys, mask, floats([gate in opened for gate in self.gates]), ends)
        return grads, losses, [float(rate.mean()) for rate in rates]

    def _differentiate(self, xs, ys, mask, opened, ends):
        def total():
            self._open = opened
            start = jnp.arange(self.drawn.T) % (self.drawn.T // self.drawn.pieces) == 0
            losses, spikes = brainstate.transform.for_loop(self.step, xs, ys, start)
            each = [mantissa(state.value).reshape(self.drawn.batch or 1, -1).sum(1) for state in self.hidden.values()]
            return jnp.sum(losses * mask) + sum(jnp.sum(w * h) for w, h in zip(ends, each, strict=True)), (
                losses,
                spikes,
            )

        return brainstate.transform.grad(total, self.params, has_aux=True)()

    def step(self, x, y, start):
        """One step: its loss, and the spikes."""
        key = brainstate.random.DEFAULT
        if self.drawn.reset:
            for path, state in self.states.items():
                state.value = jax.tree.map(lambda new, old: jnp.where(start, new, old), self.start[path], state.value)
        before = {path: state.value for path, state in self.states.items()}, key.value
        self.handing = True
        value = loss(self.net(x), y)
        if self.twice:
            after = {path: state.value for path, state in self.states.items()}
            key.value = before[1]
            for path, state in self.states.items():
                state.value = before[0][path]
            self.handing = False
            value = loss(self.net(x), y)
            for path, state in self.states.items():
                state.value = after[path]
        return value, [post.get_spike() for post in self.net.posts]

    def traces(self, xs, ys, seed):
        """Derivative of hidden states after the sequence, summed over neurons, by parameters: ``{state: {parameter: (batch, ...)}}``."""
        found: dict = {}
        for n, path in enumerate(self.hidden):
            each = []
            for sample in range(self.drawn.batch or 1):
                ends = jnp.zeros((len(self.hidden), self.drawn.batch or 1)).at[n, sample].set(1.0)
                each.append(mantissas(self(xs, ys, jnp.zeros(len(xs)), seed, ends=ends)[0]))
            found[path] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        return found


def mantissa(value):
    """The number without its unit."""
    return value.mantissa if hasattr(value, "mantissa") else value


def mantissas(tree):
    """The tree with numbers in place of quantities."""
    return jax.tree.map(mantissa, tree, is_leaf=lambda value: hasattr(value, "mantissa"))
