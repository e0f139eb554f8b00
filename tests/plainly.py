"""Small networks of one's own modules, and their gradient by autodiff through a plain loop: no engine takes part."""

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

import etrax
from etrax.neurons import LIF
from etrax.synapses import CUBA, AlignPostProj, Expon

T, B, N = 8, 2, 4


def inputs():
    xs = np.random.default_rng(0).random((T, B, N)) < 0.5
    return jnp.asarray(xs, float), jnp.asarray(np.random.default_rng(1).normal(size=(T, B, 2)))


def neurons():
    """LIF whose surrogate derivative is nowhere zero."""
    return LIF(N, tau=20 * u.ms, spk_fun=braintools.surrogate.Arctan())


def linear(seed=3, n_in=N, n_out=N, scale=30.0, unit=u.mS):
    w = np.random.default_rng(seed).normal(0.3, 1, (n_in, n_out)) * scale * unit
    return brainstate.nn.Linear(n_in, n_out, w_init=w, b_init=None)


def projection(post, comm):
    return AlignPostProj(comm=comm, syn=Expon(N), out=CUBA(), post=post)


def readout():
    return brainstate.nn.Linear(N, 2, w_init=np.random.default_rng(4).normal(size=(N, 2)))


class One(brainstate.nn.Module):
    """Input, a layer, neurons, and a readout behind something of one's own."""

    def __init__(self, comm=None, behind=None):
        super().__init__()
        self.neu = neurons()
        self.syn = projection(self.neu, comm or linear())
        self.behind = behind
        self.out = readout()

    def update(self, x):
        self.syn(x)
        spikes = self.neu()
        return self.out(spikes if self.behind is None else self.behind(spikes))


def loss(out, y):
    return jnp.mean((out - y) ** 2)


def flat(tree):
    leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, u.Quantity))
    return np.concatenate([np.ravel(np.asarray(u.get_mantissa(leaf))) for leaf in leaves])


def by_autodiff(make, loss=loss, seed=7, prepare=lambda net: None):
    """Gradients of the summed loss by path, losses, and how many spikes there were."""
    xs, ys = inputs()
    net = make()
    brainstate.nn.init_all_states(net, batch_size=B)
    prepare(net)
    brainstate.random.seed(seed)

    def total():
        losses, spikes = brainstate.transform.for_loop(
            lambda x, y: (
                loss(net(x), y),
                sum(jnp.sum(n.get_spike()) for n in net.nodes(etrax.contract.Neuron).values()),
            ),
            xs,
            ys,
        )
        return losses.sum(), (losses, spikes.sum())

    grads, (losses, spikes) = brainstate.transform.grad(total, net.states(brainstate.ParamState), has_aux=True)()
    assert spikes >= 5, "a silent network proves nothing"
    return grads, np.asarray(losses)


def by_learner(learner, chunk_size=None, loss=loss, seed=7, **options):
    """The same by a learner, from its initial states."""
    xs, ys = inputs()
    learner.reset_state()
    brainstate.random.seed(seed)
    step_fn = STEPS.setdefault((id(learner), loss), lambda x, y: loss(learner(x), y))
    grads, losses = learner.etrace_grad(
        xs, ys, step_fn=step_fn, chunk_size=chunk_size, reduction="sum", return_value=True, **options
    )
    return grads, np.asarray(losses)


def by_single_steps(learner, loss=loss, seed=7):
    """The same by `grad` of each step."""
    learner.reset_state()
    brainstate.random.seed(seed)
    params = learner.param_states
    steps = [
        brainstate.transform.grad(lambda x=x, y=y: loss(learner(x), y), params, return_value=True)()
        for x, y in zip(*inputs(), strict=True)
    ]
    return jax.tree.map(lambda *parts: sum(parts), *(g for g, _ in steps)), np.array([v for _, v in steps])


def error(found, right):
    """The largest relative difference of the gradients of a parameter; no gradient is zero."""
    size = {path: np.linalg.norm(flat(g)) for path, g in right.items()}
    assert min(size.values()) > 1e-8, "a gradient of zero proves nothing"
    return max(np.linalg.norm(flat(found[path]) - flat(g)) / size[path] for path, g in right.items())


STEPS: dict = {}  # one step function per learner, which is compiled once
