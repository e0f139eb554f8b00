"""What depends on what, and what has a derivative: followed through loops, branches and compiled functions."""

import braintools
import jax
import jax.numpy as jnp
import pytest

from etrax.contract.dependence import dependent, sensitive

HELD = jnp.arange(3.0)
SMOOTH = {
    "a product": lambda x: 2.0 * x,
    "a scan": lambda x: jax.lax.scan(lambda c, _: (c * x[0], c), 1.0, HELD)[0],
    "a loop": lambda x: jax.lax.fori_loop(0, 3, lambda _, c: c * x[0], 1.0),
    "one branch": lambda x: jax.lax.cond(x[0] > 0, jnp.sum, lambda _: 0.0, x),
    "a compiled function": lambda x: jax.jit(jnp.sin)(x),
    "an order": jnp.sort,
    "the surrogate of a spike": lambda x: braintools.surrogate.ReluGrad()(x - 0.9),
}
FLAT = {
    "argmax": lambda x: (jnp.argmax(x) - 1.0) ** 2,
    "rounding": jnp.round,
    "a comparison": lambda x: jnp.where(x > 0, 1.0, 2.0),
    "a sign": jnp.sign,
    "a stopped gradient": jax.lax.stop_gradient,
    "an index": lambda x: HELD[jnp.argmax(x)],
    "both branches flat": lambda x: jax.lax.cond(x[0] > 0, lambda: 1.0, lambda: 0.0),
    "a loop of roundings": lambda x: jax.lax.fori_loop(0, 3, lambda _, c: c * jnp.round(x[0]), 1.0),
    "a compiled rounding": lambda x: jax.jit(jnp.floor)(x),
    "a rounding that is evaluated again": lambda x: jax.checkpoint(jnp.round)(x),
    "a count": lambda x: jnp.sum(x > 0),
}
NONE = {"what is held": lambda x: HELD, "nothing": lambda x: 1.0}
EVERYTHING = SMOOTH | FLAT | NONE


@pytest.mark.parametrize(
    "wrap", [lambda f: f, jax.jit, lambda f: lambda x: jax.vmap(f)(x[None])], ids=["", "jit", "vmap"]
)
def test_what_is_found(wrap):
    def values(x):
        return {name: wrap(fn)(x) for name, fn in EVERYTHING.items()}

    x = jnp.array([0.3, 1.0, 2.0])
    for at in (x, jax.ShapeDtypeStruct(x.shape, x.dtype)):
        assert sensitive(values, at) == set(SMOOTH)
        assert dependent(values, at) == set(SMOOTH | FLAT)
