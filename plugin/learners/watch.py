"""NaN and infinity in weights, states, losses and gradients: looked for beside the computation, told at the next call.

Whoever reads a value waits for it, so a call leaves a flag for each array and the next one reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from etrax.checks import first_not_finite, place
from etrax.text import dotted

__all__ = ["Watch", "watch_of"]

_NAMES = {"weights": "the weight", "states": "the state", "loss": "the loss", "grads": "the gradient of"}
_AXES: dict[str, tuple[str, ...]] = {"states": ("sample",), "loss": ("step",)}


class Watch:
    """Looks after a learner, and holds the flags of its last call.

    Parameters
    ----------
    learner : Learner
        Whose weights and states are looked at.
    """

    def __init__(self, learner: Any):
        self.learner = learner
        self._own: list | None = None  # its states, which stay the same until it is compiled again
        self._flags: Any = None
        self._of: Any = None  # what they are of: a structure, and the shapes of its leaves

    def around(self, call: Callable, args: tuple) -> Any:
        """``call(*args)``, with a look at what the call before left, and at what this one leaves."""
        self.read()
        result = call(*args)
        self.note()
        return result

    def note(self, outcome: Any = None, mask: Any = None, *, ask: bool = False) -> Any:
        """Look at weights and states, and at losses and gradients of an ``Outcome``, without waiting for them.

        What is inside a transformation has no value, and leaves no flags. With ``ask``, returns whether all is finite.
        """
        if self._own is None:
            self._own = [{"weights": self.learner.param_states}, {"states": self.learner.hidden_states}]
        seen: list = [{kind: {p: s.value for p, s in of.items()} for kind, of in part.items()} for part in self._own]
        seen += [] if outcome is None else [{"loss": outcome.losses}, {"grads": outcome.grads}]
        flags = _flags(seen, mask if outcome is not None and jnp.ndim(outcome.losses) == 1 else None)
        self._flags = flags if _has_value(flags) else None
        self._of = jax.tree.structure(seen), [np.shape(leaf) for leaf in jax.tree.leaves(seen)]
        return jnp.all(flags[:, 0] < 0) if ask else None

    def read(self) -> None:
        """A FloatingPointError that names the first array that was not finite, once."""
        if self._flags is None:
            return
        flags, self._flags = np.asarray(self._flags), None
        for number, (at, is_nan) in enumerate(flags):
            if at >= 0:
                name, where = self._told(number, int(at))
                raise FloatingPointError(
                    f"{name} held {'NaN' if is_nan else 'infinity'} after the last call, {where}: go on from the weights before it; "
                    "check the data and the loss, and lower the learning rate or clip the gradient."
                )

    def _told(self, number: int, at: int) -> tuple[str, str]:
        """The name of an array, and where in it an entry stands."""
        structure, shapes = self._of
        numbered = jax.tree.unflatten(structure, range(structure.num_leaves))
        (_, kind, *path), _ = jax.tree_util.tree_leaves_with_path(numbered)[number]
        keys = [part for key in path for part in (key.key if isinstance(getattr(key, "key", None), tuple) else [key])]
        words = dotted(key for key in keys if not isinstance(key, jax.tree_util.FlattenedIndexKey))
        return f"{_NAMES[kind.key]} {words}".rstrip(), place(at, shapes[number], _AXES.get(kind.key, ()))


def watch_of(learner: Any) -> Watch:
    """The watch of a learner; a copy has its own."""
    if learner._watch is None or learner._watch.learner is not learner:
        learner._watch = Watch(learner)
    return learner._watch


@jax.jit
def _flags(seen: list[dict[str, Any]], mask: Any):
    """For each array, the number of the first entry that is not finite, -1 if there is none, and whether it is NaN."""

    def flag(kind, value):
        if not (jnp.issubdtype(jnp.result_type(value), jnp.inexact) and jnp.size(value)):
            return jnp.array([-1, 0])
        at = first_not_finite(value, mask if kind == "loss" else None)
        return jnp.stack([at, jnp.isnan(jnp.ravel(value)[at])])

    return jnp.stack(
        [flag(kind, leaf) for part in seen for kind, tree in part.items() for leaf in jax.tree.leaves(tree)]
    )


def _has_value(value: Any) -> bool:
    """Whether an array has a value by now or will have one, as none has inside a transformation."""
    try:
        return bool(value.devices())
    except jax.errors.ConcretizationTypeError:
        return False
