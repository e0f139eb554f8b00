"""Layers of every kind for the networks of `search.py`, made of weights that are given."""

from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

import etrax


class Times(brainstate.nn.Module):
    """A layer without units, times a quantity; its output in the shape of the population."""

    def __init__(self, layer, scale, shape):
        super().__init__()
        self.layer, self.scale, self.shape = layer, scale, shape
        self.in_size = layer.in_size

    def update(self, x):
        y = self.layer(x)
        return u.math.reshape(y, (*y.shape[:-1], *self.shape)) * self.scale


class Grid(brainstate.nn.Module):
    """From a vector to a population of any shape, with a bias."""

    def __init__(self, weight, bias, shape):
        super().__init__()
        self.weight, self.bias = brainstate.ParamState(weight), brainstate.ParamState(bias)
        self.in_size, self.shape = (weight.shape[0],), shape

    def update(self, x):
        y = x @ self.weight.value + self.bias.value
        return u.math.reshape(y, (*x.shape[:-1], *self.shape))


class Positive(brainstate.nn.Module):
    """Weights kept positive by a transform."""

    def __init__(self, weight):
        super().__init__()
        self.w = brainstate.nn.Param(jnp.abs(weight) + 0.1, t=brainstate.nn.SoftplusT(0.0))
        self.in_size = (weight.shape[0],)

    def update(self, x):
        return x @ self.w.value()


class Sparse(brainstate.nn.Module):
    """Two thirds of the weights; not a `SparseLinear`, whose own derivative is wrong in some releases."""

    def __init__(self, weight):
        super().__init__()
        self.pre, self.post = np.nonzero(np.arange(weight.size).reshape(weight.shape) % 3 > 0)
        self.weight = brainstate.ParamState(weight[self.pre, self.post])
        self.in_size, self.n_out = (weight.shape[0],), weight.shape[1]

    def update(self, x):
        y = x[..., self.pre] * self.weight.value
        zero = jnp.zeros((*y.shape[:-1], self.n_out), y.dtype)
        return u.Quantity(zero.at[..., self.post].add(u.get_mantissa(y)), unit=u.get_unit(y))


etrax.register_pattern(Sparse)(lambda layer: etrax.Pattern(lambda: layer.weight.value, pre=layer.pre, post=layer.post))

nn = brainstate.nn


def masked(w):
    return nn.Linear(*w.shape, w_init=w, b_init=None, w_mask=(np.arange(w.size).reshape(w.shape) % 3 > 0).astype(float))


def dropped(w):
    made = nn.Sequential(nn.Dropout(0.7), nn.Linear(*w.shape, w_init=w, b_init=None))
    made.in_size = (w.shape[0],)
    return made


def low_rank(w):
    made = nn.LoRA(w.shape[0], 2, w.shape[1], kernel_init=nn.init.Normal(1.0, seed=3))
    made.in_size = (w.shape[0],)
    return made


# A layer of given weights.
LAYERS: dict[str, Any] = {
    "Linear": lambda w: nn.Linear(*w.shape, w_init=w, b_init=None),
    "with a bias": lambda w: nn.Linear(*w.shape, w_init=w, b_init=0.05 * w[0]),
    "masked": masked,
    "sparse": Sparse,
    "signed": lambda w: nn.SignedWLinear(*w.shape, w_init=jnp.abs(w), w_sign=jnp.sign(w)),
    "one weight": lambda w: nn.AllToAll(*w.shape, abs(w).mean(), include_self=False),
    "positive": Positive,
    "LoRA": low_rank,
    "dropout": dropped,
    "grid": None,  # the only one that does without `Times`: with units, and for every shape
}
PLAIN = ("Linear", "masked", "sparse", "one weight")  # which have units of their own


def layer(name, weight, scale, shape):
    """The layer ``name``, its output ``scale`` times what ``weight`` gives, in ``shape``."""
    if name == "grid":
        return Grid(weight * scale, 0.05 * weight[0] * scale, shape)
    if name in PLAIN and len(shape) == 1:
        return LAYERS[name](weight * scale)
    return Times(LAYERS[name](weight), scale, shape)
