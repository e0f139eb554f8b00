"""Reference D-RTRL: one step after the other, dense, in plain `jax.numpy`. It shares no code with the package.

Written to be read; tests compare gradients and traces with it, benchmarks gradients and times. Numbers are the mantissas of
one fixed set of units: V, E, V_th, beta in mV, I in mA, R in ohm, g in mS, CUBA's scale in V, times in ms, weights in the
unit of what they add to. Then mA * ohm = mV and mS * V = mA need no factor, and mS * mV = 1e-3 mA needs one.

A population of N neurons has a state ``h`` of arrays (B, N): V, [a], one g per synapse (g0, g1, ...), [s], where s is the
low-passed spike that a leaky readout weighs. Parameters: ``{"pop0": {"proj0": {"weight": W, "bias": b}, ...,
"neuron": {...}}, ..., "readout": {"weight": W, "bias": b}}``; biases are optional, and so is "neuron", which replaces
constants of the population (tau, V_th, ...) by trained values, one for each neuron or one for all.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

hold = jax.lax.stop_gradient


# ---------------------------------------------------------------------------------------------------- description


@jax.custom_jvp
def relu_grad(x):
    """Spike where x >= 0; backwards a triangle of height 0.3 and half-width 1."""
    return (x >= 0).astype(x.dtype)


@relu_grad.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return relu_grad(x), 0.3 * jnp.maximum(0.0, 1.0 - jnp.abs(x)) * dx


@dataclasses.dataclass(frozen=True, eq=False)
class Synapse:
    """Exponential synapse with its output: current based (scale) or, where E is given, conductance based."""

    tau: Any = 8.0
    scale: float = 1.0
    E: float | None = None


@dataclasses.dataclass(frozen=True)
class Projection:
    """``x @ weight + bias`` onto synapse number ``syn`` of its population, or onto V itself where ``syn`` is None.

    x is the concatenation of ``sources``: "x" (external), "z0" (spikes of population 0 at t), "z0[t-1]" (at t - 1).
    """

    sources: tuple
    syn: int | None = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Population:
    """LIF neurons, or ALIF where tau_a is given; constants are numbers or arrays of shape (N,)."""

    n: int
    projections: tuple
    synapses: tuple = (Synapse(),)
    R: Any = 1.0
    tau: Any = 5.0
    V_th: Any = 1.0
    V_reset: Any = 0.0
    V_rest: Any = 0.0
    tau_a: Any = None
    beta: Any = 0.1
    reset: str = "soft"
    detach: bool = False
    spike: Callable = relu_grad
    tau_s: float | None = None  # time constant of the spike filter of a leaky readout

    @property
    def states(self):
        """Names of the state variables."""
        adaptation = () if self.tau_a is None else ("a",)
        filtered = () if self.tau_s is None else ("s",)
        return ("V", *adaptation, *(f"g{k}" for k in range(len(self.synapses))), *filtered)


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """Populations, stepped in order. The readout weighs the spikes of the last one, or its s where it has one."""

    populations: tuple
    dt: float = 1.0


# -------------------------------------------------------------------------------------------------- single steps


def exp_euler(x, rate, slope, dt):
    """One step of exponential Euler: x + dt phi(dt slope) rate, phi(z) = (e^z - 1)/z, slope = d rate/dx."""
    return x + dt * jnp.expm1(dt * slope) / (dt * slope) * rate


def linear(p, x):
    """``x @ weight + bias``."""
    return x @ p["weight"] + p.get("bias", 0.0)


def emit(pop, theta, h):
    """Spikes of the state h."""
    c = constants(pop, theta)
    threshold = c["V_th"] if pop.tau_a is None else c["V_th"] + c["beta"] * h["a"]
    return pop.spike((h["V"] - threshold) / (c["V_th"] - c["V_reset"]))


def constants(pop, theta):
    """Constants of the neuron, trained ones in place of fixed ones."""
    names = ("R", "tau", "V_th", "V_reset", "V_rest", "tau_a", "beta")
    return {k: getattr(pop, k) for k in names} | theta.get("neuron", {})


def transition(pop, theta, h, arriving, dt, early=None):
    """State of one population after a step: synapses first, then V from the new g, then a, then the spike filter.

    ``arriving`` (B, N) comes from each projection, and is all that other neurons have a part in. ``early`` holds zeros by
    state; those of g are added to the new g *before* V is computed from it, which only a wrong gradient needs: see
    `drtrl_grad`.
    """
    c = constants(pop, theta)
    g = []
    for k, syn in enumerate(pop.synapses):
        onto = sum(y for y, p in zip(arriving, pop.projections, strict=True) if p.syn == k)
        g.append(exp_euler(h[f"g{k}"], -h[f"g{k}"] / syn.tau, -1.0 / syn.tau, dt) + onto)
        if early is not None:
            g[k] = g[k] + early[f"g{k}"]

    z = emit(pop, theta, h)
    z_reset = hold(z) if pop.detach else z
    top = c["V_th"] if pop.reset == "soft" else hold(h["V"])
    V = h["V"] - (top - c["V_reset"]) * z_reset
    current, conductance = 0.0, 0.0
    for gk, syn in zip(g, pop.synapses, strict=True):
        current = current + (gk * syn.scale if syn.E is None else 1e-3 * gk * (syn.E - V))
        conductance = conductance + (0.0 if syn.E is None else 1e-3 * gk)
    V = exp_euler(V, (-V + c["V_rest"] + c["R"] * current) / c["tau"], -(1.0 + c["R"] * conductance) / c["tau"], dt)
    new = {"V": V + sum(y for y, p in zip(arriving, pop.projections, strict=True) if p.syn is None)}
    if pop.tau_a is not None:
        new["a"] = exp_euler(h["a"] + z, -(h["a"] + z) / c["tau_a"], -1.0 / c["tau_a"], dt)
    new |= {f"g{k}": gk for k, gk in enumerate(g)}
    if pop.tau_s is not None:
        new["s"] = jnp.exp(-dt / pop.tau_s) * h["s"] + emit(pop, theta, new)
    return new


def network_step(net, params, hs, x, *, hold_inputs=False, same_step=False, nudges=None, g_early=False, late=None):
    """One step of the network: new states, what entered each projection, spikes, readout.

    hold_inputs: no gradient through what enters a projection. same_step: no gradient through anything before this step
    nor through the parameters inside a transition. nudges: zeros, added to each state once its whole population has stepped,
    except that with ``g_early`` those of g are added before V is computed from it. late: spikes of the step before, in
    place of those of ``hs``.
    """
    fixed = hold(params) if same_step else params
    names = [f"pop{k}" for k in range(len(net.populations))]
    signals = {"x": x}
    for k, (name, pop) in enumerate(zip(names, net.populations, strict=True)):
        signals[f"z{k}[t-1]"] = emit(pop, fixed[name], hs[k]) if late is None else late[k]
    new, entered = [], []
    for k, (name, pop) in enumerate(zip(names, net.populations, strict=True)):
        inputs = [jnp.concatenate([signals[s] for s in p.sources], axis=-1) for p in pop.projections]
        inputs = hold(inputs) if hold_inputs else inputs
        early = nudges[k] if g_early else None
        h = transition(pop, fixed[name], hs[k], arrivals(fixed[name], inputs), net.dt, early)
        if nudges is not None:
            h = {s: v if g_early and s.startswith("g") else v + nudges[k][s] for s, v in h.items()}
        signals[f"z{k}"] = emit(pop, params[name], h)
        new.append(h)
        entered.append(inputs)
    spikes = [signals[f"z{k}"] for k in range(len(net.populations))]
    return new, entered, spikes, linear(params["readout"], seen(net.populations[-1], params[names[-1]], new[-1]))


def arrivals(theta, inputs):
    """What each projection makes of its input."""
    return [linear(theta[f"proj{k}"], x) for k, x in enumerate(inputs)]


def seen(pop, theta, h):
    """What the readout weighs."""
    return emit(pop, theta, h) if pop.tau_s is None else h["s"]


# ------------------------------------------------------------------------------------------------- whole sequences


def initial(net, batch, dtype=float):
    """All states at zero."""
    return [{s: jnp.zeros((batch, pop.n), dtype) for s in pop.states} for pop in net.populations]


def simulate(net, params, xs):
    """Trajectories for inputs (T, B, I): states by population and name, spikes by population, readout."""

    def step(hs, x):
        hs, _, spikes, r = network_step(net, params, hs, x)
        return hs, (hs, spikes, r)

    return jax.lax.scan(step, initial(net, xs.shape[1], xs.dtype), xs)[1]


def weights_of_steps(n, mask, reduction):
    """Factor of each step's loss in the total."""
    mask = jnp.ones(n) if mask is None else jnp.asarray(mask, float)
    return mask / jnp.maximum(mask.sum(), 1.0) if reduction == "mean" else mask


@partial(jax.jit, static_argnames=("net", "loss", "hold_inputs"))
def _bptt(net, params, xs, ys, loss, weights, hold_inputs):
    def total(params):
        def step(hs, inp):
            x, y, w = inp
            hs, _, _, r = network_step(net, params, hs, x, hold_inputs=hold_inputs)
            return hs, w * loss(r, y)

        return jax.lax.scan(step, initial(net, xs.shape[1], xs.dtype), (xs, ys, weights))[1].sum()

    return jax.grad(total)(params)


def bptt_grad(net, params, xs, ys, loss, mask=None, reduction="sum"):
    """Gradient of the whole sequence by back-propagation through time."""
    return _bptt(net, params, xs, ys, loss, weights_of_steps(len(xs), mask, reduction), False)


def bptt_stopped_grad(net, params, xs, ys, loss, mask=None, reduction="sum"):
    """The same with no gradient through the inputs of projections: what D-RTRL computes for a single population."""
    return _bptt(net, params, xs, ys, loss, weights_of_steps(len(xs), mask, reduction), True)


@partial(jax.jit, static_argnames=("net", "loss", "hops", "chunk"))
def _hops(net, params, xs, ys, loss, weights, hops, chunk):
    def total(params):
        def step(carry, inp):
            x, y, w, first = inp
            trace, *copies = carry
            copies = [jax.tree.map(lambda t, c: jnp.where(first, t, c), trace, copy) for copy in copies]
            late = [
                [emit(p, params[f"pop{k}"], h) for k, (p, h) in enumerate(zip(net.populations, c, strict=True))]
                for c in copies
            ]
            late = [hold(late[0]), *(jax.tree.map(lambda z: jnp.where(first, hold(z), z), z) for z in late[:-1])]
            out = [network_step(net, params, c, x, late=z) for c, z in zip(copies, late, strict=True)]
            trace = network_step(net, params, trace, x, hold_inputs=True)[0]
            return [trace, *(new for new, *_ in out)], w * loss(out[-1][-1], y)

        start = [initial(net, xs.shape[1], xs.dtype) for _ in range(hops + 2)]
        first = jnp.arange(len(xs)) % chunk == 0
        return jax.lax.scan(step, start, (xs, ys, weights, first))[1].sum()

    return jax.grad(total)(params)


def hops_grad(net, params, xs, ys, loss, hops, *, chunk=None, mask=None, reduction="sum"):
    """D-RTRL whose credit goes back ``hops`` times where a spike enters a projection at a later step, within chunks.

    All states are there ``hops + 1`` times with equal values. Copy j takes the spikes of the step before from copy j - 1, the
    first one takes them held; the loss reads the last copy. At the start of a chunk all go on from a copy that never followed
    a spike into a projection, which is what a trace knows, and take the spikes of the step before held.
    """
    return _hops(net, params, xs, ys, loss, weights_of_steps(len(xs), mask, reduction), hops, chunk or len(xs))


# --------------------------------------------------------------------------------------------------------- D-RTRL


def jacobian(pop, theta, h, arriving, dt):
    """``D[from][to]``, ``f[projection][to]`` and, by trained constant, ``c[name][to]``, all (B, N).

    Once what arrives is held, nothing crosses neurons: a tangent of ones in one variable gives the derivatives of all
    neurons, each by its own.
    """

    def by(step, value):
        return jax.jvp(step, (value,), (jnp.ones_like(value),))[1]

    def arrives(k, y):
        return [*arriving[:k], y, *arriving[k + 1 :]]

    def trained(name, value):
        return theta | {"neuron": theta["neuron"] | {name: value}}

    D = {s: by(lambda v, s=s: transition(pop, theta, h | {s: v}, arriving, dt), h[s]) for s in h}
    f = [by(lambda y, k=k: transition(pop, theta, h, arrives(k, y), dt), y) for k, y in enumerate(arriving)]
    c = {
        name: by(lambda v, name=name: transition(pop, trained(name, v), h, arriving, dt), value)
        for name, value in theta.get("neuron", {}).items()
    }
    return D, f, c


def no_trace(net, params, batch, dtype=float):
    """Traces of zero: by population and state, for each parameter (B, ..., N), its value for the state of neuron N.

    That is (B, inputs, N) for a weight, since that of another neuron has no part in it, and (B, N) for everything else.
    """

    def zeros(pop, p):
        return jnp.zeros((batch, *jnp.shape(p)[:-1], pop.n), dtype)

    return {
        f"pop{k}": {s: jax.tree.map(partial(zeros, pop), params[f"pop{k}"]) for s in pop.states}
        for k, pop in enumerate(net.populations)
    }


def advance(pop, theta, h, inputs, eps, dt):
    """``eps_t = D_t eps_{t-1} + dh_t/dtheta``, where what enters the projections is held."""
    D, f, c = jacobian(pop, theta, h, arrivals(theta, inputs), dt)

    def carried(d, e, rest):  # added one after the other, XLA writes the trace once; as a sum of sums, twice
        return rest + d.reshape(d.shape[0], *[1] * (e.ndim - 2), d.shape[1]) * e

    new = {}
    for to in pop.states:
        direct: dict = {"neuron": {name: value[to] for name, value in c.items()}} if c else {}
        for k, x in enumerate(inputs):
            each = {"weight": f[k][to][:, None, :] * x[:, :, None], "bias": f[k][to]}
            direct[f"proj{k}"] = {name: each[name] for name in theta[f"proj{k}"]}
        new[to] = direct
        for source in pop.states:
            new[to] = jax.tree.map(partial(carried, D[source][to]), eps[source], new[to])
    return new


def credit(L, eps, theta):
    """``L . eps`` summed over samples, states and, for a constant of all neurons, over those."""

    def total(p, *es):
        each = sum(jnp.einsum("bn,b...n->...n", l, e) for l, e in zip(L.values(), es, strict=True))
        return each if jnp.ndim(p) else each.sum()

    return jax.tree.map(total, theta, *(eps[s] for s in L))


@partial(jax.jit, static_argnames=("net", "loss", "count_g_twice"))
def drtrl_step(net, params, hs, eps, x, y, loss, count_g_twice=False):
    """One step: new states, new traces, this step's gradient and loss."""

    def same_step_loss(nudges, params):
        new, entered, _, r = network_step(net, params, hs, x, same_step=True, nudges=nudges, g_early=count_g_twice)
        return loss(r, y), (new, entered)

    zeros = jax.tree.map(jnp.zeros_like, hs)
    (value, (new, entered)), (L, grads) = jax.value_and_grad(same_step_loss, argnums=(0, 1), has_aux=True)(
        zeros, params
    )
    new_eps = {}
    for k, pop in enumerate(net.populations):
        name = f"pop{k}"
        new_eps[name] = advance(pop, params[name], hs[k], entered[k], eps[name], net.dt)
        grads[name] = jax.tree.map(jnp.add, grads[name], credit(L[k], new_eps[name], params[name]))
    return new, new_eps, grads, value


@partial(jax.jit, static_argnames=("net", "loss", "count_g_twice"))
def drtrl(net, params, hs, eps, xs, ys, weights, loss, count_g_twice=False):
    """A sequence, its steps weighted: last states, last traces, gradient, losses of the steps."""

    def step(carry, at):
        hs, eps, total = carry
        x, y, w = at
        hs, eps, grads, value = drtrl_step(net, params, hs, eps, x, y, loss, count_g_twice)
        return (hs, eps, jax.tree.map(lambda a, g: a + w * g, total, grads)), value

    start = (hs, eps, jax.tree.map(jnp.zeros_like, params))
    (hs, eps, grads), losses = jax.lax.scan(step, start, (xs, ys, weights))
    return hs, eps, grads, losses


def drtrl_grad(
    net,
    params,
    xs,
    ys,
    loss,
    mask=None,
    reduction="sum",
    update=None,
    every=1,
    count_g_twice=False,
):
    """D-RTRL, step by step with dense traces: eps_t = D_t eps_{t-1} + dh_t/dtheta, grad = sum_t L_t . eps_t.

    Parameters
    ----------
    loss : callable
        ``loss(readout, y)`` of one step, a scalar.
    mask : array, optional
        (T,) factors of the steps.
    reduction : str
        "sum" over steps, or "mean": divided by max(sum of the mask, 1).
    update : callable, optional
        ``update(params, grads)`` gives new parameters after every ``every`` steps from the gradient of these steps;
        states and traces go on.
    count_g_twice : bool
        Deliberately wrong: L_g also contains the path g_t -> V_t, which the trace of V already contains.

    Returns
    -------
    grads, eps, params
        Gradient summed over all steps; final traces ``eps["pop0"]["V"]["proj0"]["weight"]``, see `no_trace`; final
        parameters.
    """
    weights, batch = weights_of_steps(len(xs), mask, reduction), xs.shape[1]
    hs, eps = initial(net, batch, xs.dtype), no_trace(net, params, batch, xs.dtype)
    total = jax.tree.map(jnp.zeros_like, params)
    every = len(xs) if update is None else every
    for start in range(0, len(xs), every):
        part = slice(start, start + every)
        hs, eps, grads, _ = drtrl(net, params, hs, eps, xs[part], ys[part], weights[part], loss, count_g_twice)
        total = jax.tree.map(jnp.add, total, grads)
        params = params if update is None else update(params, grads)
    return total, eps, params
