"""D-RTRL step by step: dense traces, closed-form Jacobians, one scan, plain `jax.numpy`.

For each layer, with the state ``h`` of V, [a], g, [s] and what enters the layer, ``x``:

    eps_t = D_t eps_{t-1} + f_t (x) x_t,    grad = sum_t L_t . eps_t

It shares no code with the package and is what its gradients are compared with. Numbers are mantissas in mV, mA, mS, ms.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

__all__ = ["gradient", "rates"]


@jax.custom_jvp
def spike(distance):
    """Heaviside step; backwards a triangle of height 0.3 and half-width 1."""
    return (distance >= 0).astype(distance.dtype)


@spike.defjvp
def _(primals, tangents):
    return spike(*primals), slope(*primals) * tangents[0]


def slope(distance):
    """Derivative that stands in for that of the step."""
    return 0.3 * jnp.maximum(0.0, 1.0 - jnp.abs(distance))


def distance(case, h):
    """Distance from threshold; V_th is 1 mV and V_reset 0 mV."""
    return h["V"] - 1.0 - (case.beta * h["a"] if "a" in h else 0.0)


def decays(case):
    """Factor of V, a, g and s per step of 1 ms."""
    return {
        k: math.exp(-1.0 / tau) for k, tau in dict(V=case.tau, a=case.tau_a, g=case.tau_syn, s=case.tau_out).items()
    }


def relax(value, target, tau):
    """One step of ``tau dv/dt = target - v``, by exponential Euler with its rounding: value + phi(-1/tau) rate."""
    return value + -math.expm1(-1.0 / tau) * tau * ((target - value) / tau)


def advance(case, w, h, x, filtered):
    """One step of a layer."""
    z = spike(distance(case, h))
    g = relax(h["g"], 0.0, case.tau_syn) + x @ w
    new = {"V": relax(h["V"] - z, g, case.tau), "g": g}
    if "a" in h:
        new["a"] = relax(h["a"] + z, 0.0, case.tau_a)
    if filtered:
        new["s"] = decays(case)["s"] * h["s"] + spike(distance(case, new))
    return new


def jacobian(case, h, new):
    """``D`` as ``(to, from) -> (batch, neurons) or number`` and ``f`` as ``to -> ...``."""
    k, dz = decays(case), slope(distance(case, h))
    jump = 0.0 if case.detach else 1.0
    D = {
        ("V", "V"): k["V"] * (1.0 - jump * dz),
        ("V", "g"): (1.0 - k["V"]) * k["g"],
        ("g", "g"): k["g"],
    }
    f = {"V": 1.0 - k["V"], "g": 1.0}
    if "a" in h:
        D["V", "a"] = k["V"] * jump * case.beta * dz
        D["a", "V"] = k["a"] * dz
        D["a", "a"] = k["a"] * (1.0 - case.beta * dz)
    if "s" in h:
        dz = slope(distance(case, new))
        for source in ("V", "a", "g") if "a" in h else ("V", "g"):
            D["s", source] = dz * D.get(("V", source), 0.0) - (
                case.beta * dz * D.get(("a", source), 0.0) if "a" in h else 0.0
            )
        D["s", "s"] = k["s"]
        f["s"] = dz * f["V"]
    return D, f


def step(case, weights, hs, x, nudges=None):
    """One step of the network; ``nudges`` are added to every state once its layer has stepped."""
    new, entered = [], []
    for j, h in enumerate(hs):
        x = jnp.concatenate([x, spike(distance(case, h))], axis=-1)
        entered.append(x)
        state = advance(case, weights[f"layer{j}"], h, x, "s" in h)
        if nudges is not None:
            state = {k: v + nudges[j][k] for k, v in state.items()}
        new.append(state)
        x = spike(distance(case, state))
    return new, entered, x, (new[-1]["s"] if "s" in new[-1] else x) @ weights["readout"]


def initial(case):
    """All states at zero."""
    zero = jnp.zeros((case.batch, case.neurons), jnp.float32)
    names = ["V", *(["a"] if case.neuron == "alif" else []), "g"]
    hs = [{k: zero for k in names} for _ in range(case.layers)]
    if case.readout == "leaky":
        hs[-1]["s"] = zero
    return hs


def rates(case, weights, xs):
    """Spikes per neuron and step, by layer."""

    def body(hs, x):
        hs, _, _, _ = step(case, weights, hs, x)
        return hs, jnp.stack([spike(distance(case, h)).mean() for h in hs])

    return jax.lax.scan(body, initial(case), xs)[1].mean(0)


def gradient(case, weights, xs, ys, mask, loss):
    """Gradient of the masked mean of the losses, and the losses.

    Parameters
    ----------
    case : cases.Case
        The network.
    weights : dict
        ``layer0``, ..., ``readout``.
    xs, ys, mask : array
        Inputs (time, batch, inputs), targets (time, batch, outputs), weights of the steps (time,).
    loss : callable
        ``loss(output, y)`` of one step.
    """
    zeros = initial(case)

    def learning_signal(hs, x, y):
        def same_step(nudges, w_out):
            new, entered, _, out = step(case, {**weights, "readout": w_out}, hs, x, nudges)
            return loss(out, y), (new, entered)

        return jax.value_and_grad(same_step, argnums=(0, 1), has_aux=True)(zeros, weights["readout"])

    def body(carry, at):
        hs, eps, grads = carry
        x, y, m = at
        (value, (new, entered)), (L, direct) = learning_signal(hs, x, y)
        grads, traces = {**grads, "readout": grads["readout"] + m * direct}, []
        for j, (h, n, e, xin) in enumerate(zip(hs, new, eps, entered, strict=True)):
            D, f = jacobian(case, h, n)
            trace = {}
            for to in e:
                product = jnp.broadcast_to(f.get(to, 0.0), h["V"].shape)[:, None, :] * xin[:, :, None]
                for source in e:
                    if (to, source) in D:
                        product += jnp.broadcast_to(D[to, source], h["V"].shape)[:, None, :] * e[source]
                trace[to] = product
            grads[f"layer{j}"] = grads[f"layer{j}"] + m * sum(jnp.einsum("bn,bin->in", L[j][k], trace[k]) for k in e)
            traces.append(trace)
        return (new, traces, grads), value

    shapes = [(case.batch, *weights[f"layer{j}"].shape) for j in range(case.layers)]
    eps = [{k: jnp.zeros(shape, jnp.float32) for k in h} for h, shape in zip(zeros, shapes, strict=True)]
    (_, _, grads), losses = jax.lax.scan(body, (zeros, eps, jax.tree.map(jnp.zeros_like, weights)), (xs, ys, mask))
    return {k: g / jnp.maximum(mask.sum(), 1.0) for k, g in grads.items()}, losses
