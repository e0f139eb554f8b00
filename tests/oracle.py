"""Reference D-RTRL: one step after the other, dense, in plain `jax.numpy`. It shares no code with the package.

Written to be read, not to be fast. Numbers are the mantissas of one fixed set of units: V, E, V_th, beta in mV, I in mA,
R in ohm, g in mS, CUBA's scale in V, times in ms, weights in the unit of what they add to. Then mA * ohm = mV and
mS * V = mA need no factor, and mS * mV = 1e-3 mA needs one.

A population of N neurons has a state ``h`` of shape (..., S, N): rows V, [a], one g per synapse, [s], where s is the
low-passed spike that a leaky readout weighs. Parameters: ``{"pop0": {"proj0": {"weight": W, "bias": b}, ...,
"neuron": {...}}, ..., "readout": {"weight": W, "bias": b}}``; biases are optional, and so is "neuron", which replaces
constants of the population (tau, V_th, ...) by trained values.
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
        """Names of the rows of the state."""
        adaptation = () if self.tau_a is None else ("a",)
        filtered = () if self.tau_s is None else ("s",)
        return ("V", *adaptation, *(f"g{k}" for k in range(len(self.synapses))), *filtered)


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """Populations, stepped in order. The readout weighs the spikes of the last one, or its s where it has one."""

    populations: tuple
    dt: float = 1.0


# -------------------------------------------------------------------------------------------------- single steps


def exp_euler(rate, x, dt):
    """One step of exponential Euler: x + dt phi(dt lam) F(x), phi(z) = (e^z - 1)/z, lam = dF/dx per element."""
    F, lam = jax.jvp(rate, (x,), (jnp.ones_like(x),))
    return x + dt * jnp.expm1(dt * lam) / (dt * lam) * F


def linear(p, x):
    """``x @ weight + bias``."""
    return x @ p["weight"] + p.get("bias", 0.0)


def emit(pop, theta, h):
    """Spikes of the state h (..., S, N)."""
    c = constants(pop, theta)
    V = h[..., 0, :]
    threshold = c["V_th"] if pop.tau_a is None else c["V_th"] + c["beta"] * h[..., 1, :]
    return pop.spike((V - threshold) / (c["V_th"] - c["V_reset"]))


def constants(pop, theta):
    """Constants of the neuron, trained ones in place of fixed ones."""
    names = ("R", "tau", "V_th", "V_reset", "V_rest", "tau_a", "beta")
    return {k: getattr(pop, k) for k in names} | theta.get("neuron", {})


def transition(pop, theta, h, inputs, dt, early=0.0):
    """State of one population after a step: synapses first, then V from the new g, then a, then the spike filter.

    ``inputs`` has one entry per projection. ``early`` (S, N) is zero; its rows of g are added to the new g *before* V is
    computed from it, which only a wrong gradient needs: see `drtrl_grad`.
    """
    c = constants(pop, theta)
    old = dict(zip(pop.states, jnp.moveaxis(h, -2, 0), strict=True))
    y = [linear(theta[f"proj{k}"], x) for k, x in enumerate(inputs)]

    g = []
    for k, syn in enumerate(pop.synapses):
        arriving = sum(yp for yp, p in zip(y, pop.projections, strict=True) if p.syn == k)
        g.append(old[f"g{k}"] * jnp.exp(-dt / syn.tau) + arriving)
        if jnp.ndim(early) > 0:
            g[k] = g[k] + early[..., pop.states.index(f"g{k}"), :]

    def current(V):
        total = jnp.zeros_like(V)
        for gk, syn in zip(g, pop.synapses, strict=True):
            total = total + (gk * syn.scale if syn.E is None else 1e-3 * gk * (syn.E - V))
        return total

    z = emit(pop, theta, h)
    z_reset = hold(z) if pop.detach else z
    top = c["V_th"] if pop.reset == "soft" else hold(old["V"])
    V = old["V"] - (top - c["V_reset"]) * z_reset
    V = exp_euler(lambda v: (-v + c["V_rest"] + c["R"] * current(v)) / c["tau"], V, dt)
    V = V + sum(yp for yp, p in zip(y, pop.projections, strict=True) if p.syn is None)
    new = [V]
    if pop.tau_a is not None:
        new.append((old["a"] + z) * jnp.exp(-dt / c["tau_a"]))
    new += g
    if pop.tau_s is not None:
        z_new = emit(pop, theta, jnp.stack(new, axis=-2))
        new.append(jnp.exp(-dt / pop.tau_s) * old["s"] + z_new)
    return jnp.stack(new, axis=-2)


def network_step(net, params, hs, x, *, hold_inputs=False, same_step=False, nudges=None, g_early=False):
    """One step of the network: new states, what entered each projection, spikes, readout.

    hold_inputs: no gradient through what enters a projection. same_step: no gradient through anything before this step
    nor through the parameters inside a transition. nudges: zeros, added to each state once its whole population has stepped,
    except that with ``g_early`` those of g are added before V is computed from it.
    """
    fixed = hold(params) if same_step else params
    names = [f"pop{k}" for k in range(len(net.populations))]
    signals = {"x": x}
    for k, (name, pop) in enumerate(zip(names, net.populations, strict=True)):
        signals[f"z{k}[t-1]"] = emit(pop, fixed[name], hs[k])
    new, entered = [], []
    for k, (name, pop) in enumerate(zip(names, net.populations, strict=True)):
        inputs = [jnp.concatenate([signals[s] for s in p.sources], axis=-1) for p in pop.projections]
        inputs = hold(inputs) if hold_inputs else inputs
        nudge = 0.0 if nudges is None else nudges[k]
        h = transition(pop, fixed[name], hs[k], inputs, net.dt, early=nudge if g_early else 0.0)
        late = jnp.array([not (g_early and s.startswith("g")) for s in pop.states])
        h = h + jnp.where(late[:, None], nudge, 0.0)
        signals[f"z{k}"] = emit(pop, params[name], h)
        new.append(h)
        entered.append(inputs)
    spikes = [signals[f"z{k}"] for k in range(len(net.populations))]
    seen = spikes[-1] if net.populations[-1].tau_s is None else new[-1][..., -1, :]
    return new, entered, spikes, linear(params["readout"], seen)


# ------------------------------------------------------------------------------------------------- whole sequences


def initial(net, batch):
    """All states at zero."""
    return [jnp.zeros((batch, len(pop.states), pop.n)) for pop in net.populations]


def simulate(net, params, xs):
    """Trajectories for inputs (T, B, I): states by population and name, spikes by population, readout."""

    def step(hs, x):
        hs, _, spikes, r = network_step(net, params, hs, x)
        return hs, (hs, spikes, r)

    _, (hs, spikes, r) = jax.lax.scan(step, initial(net, xs.shape[1]), xs)
    named = [{s: h[:, :, k] for k, s in enumerate(p.states)} for p, h in zip(net.populations, hs, strict=True)]
    return named, spikes, r


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

        return jax.lax.scan(step, initial(net, xs.shape[1]), (xs, ys, weights))[1].sum()

    return jax.grad(total)(params)


def bptt_grad(net, params, xs, ys, loss, mask=None, reduction="sum"):
    """Gradient of the whole sequence by back-propagation through time."""
    return _bptt(net, params, xs, ys, loss, weights_of_steps(len(xs), mask, reduction), False)


def bptt_stopped_grad(net, params, xs, ys, loss, mask=None, reduction="sum"):
    """The same with no gradient through the inputs of projections: what D-RTRL computes for a single population."""
    return _bptt(net, params, xs, ys, loss, weights_of_steps(len(xs), mask, reduction), True)


@partial(jax.jit, static_argnames=("net", "loss", "count_g_twice"))
def _drtrl_step(net, params, hs, eps, x, y, loss, count_g_twice):
    """One step: new states, new traces, this step's gradient."""

    def same_step_loss(nudges, params):
        new, entered, _, r = network_step(net, params, hs, x, same_step=True, nudges=nudges, g_early=count_g_twice)
        return loss(r, y), (new, entered)

    zeros = [jnp.zeros_like(h) for h in hs]
    (L, direct), (new, entered) = jax.grad(same_step_loss, argnums=(0, 1), has_aux=True)(zeros, params)

    grads, new_eps = dict(direct), {}
    for k, pop in enumerate(net.populations):
        name = f"pop{k}"

        def advance(h, inputs, e, pop=pop, theta=params[name]):
            """eps_t = D_t eps_{t-1} + dh_t/dtheta, with h_{t-1} and inputs held, for one sample.

            With the inputs held nothing crosses neurons: D is (S, N, S, N) and zero unless both N agree.
            """
            D = jax.jacfwd(lambda h: transition(pop, theta, h, inputs, net.dt))(h)
            J = jax.jacfwd(lambda theta: transition(pop, theta, h, inputs, net.dt))(theta)
            return jax.tree.map(lambda e, j: jnp.tensordot(D, e, 2) + j, e, J)

        new_eps[name] = jax.vmap(advance)(hs[k], entered[k], eps[name])
        through_trace = jax.tree.map(lambda e, k=k: jnp.tensordot(L[k], e, 3), new_eps[name])
        grads[name] = jax.tree.map(jnp.add, direct[name], through_trace)
    return new, new_eps, grads


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
        Gradient summed over all steps; final traces ``eps["pop0"]["proj0"]["weight"]`` of shape
        (B, S, N, *shape of the parameter); final parameters.
    """
    weights = weights_of_steps(len(xs), mask, reduction)
    hs, batch = initial(net, xs.shape[1]), xs.shape[1]
    eps = {
        f"pop{k}": jax.tree.map(
            lambda p, pop=pop: jnp.zeros((batch, len(pop.states), pop.n, *jnp.shape(p))), params[f"pop{k}"]
        )
        for k, pop in enumerate(net.populations)
    }
    total = recent = jax.tree.map(jnp.zeros_like, params)
    for t in range(len(xs)):
        hs, eps, grads = _drtrl_step(net, params, hs, eps, xs[t], ys[t], loss, count_g_twice)
        grads = jax.tree.map(lambda g, t=t: weights[t] * g, grads)
        total = jax.tree.map(jnp.add, total, grads)
        recent = jax.tree.map(jnp.add, recent, grads)
        if update is not None and ((t + 1) % every == 0 or t + 1 == len(xs)):
            params, recent = update(params, recent), jax.tree.map(jnp.zeros_like, recent)
    return total, eps, params
