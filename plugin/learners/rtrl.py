"""Exact real-time recurrent learning, for networks small enough.

See equations (13) and (14) of docs/mathematics.md; Williams & Zipser 1989, Neural Computation 1(2). The influence is that of
every parameter on every state of the whole network, so nothing is dropped; it has (states x parameters) entries,
which is why diagonal and other approximations exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from etrax.checks import whole_number
from etrax.contract.recorder import active
from etrax.engine.names import Path
from etrax.engine.pure import Pure, like
from etrax.text import bytes_text, dotted

from .bptt import BPTT
from .learner import no_trace
from .report import Report, report_of_parameters
from .requests import Outcome, Request
from .settings import check_claim, claim

__all__ = ["RTRL"]


class RTRL(BPTT):
    """Exact online gradient by forward differentiation over all parameters, with the interface of :class:`BPTT`.

    The influence goes on from call to call, so that the gradients of two halves of a sequence add up to that of
    the whole; :meth:`reset_state` sets it to zero.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network; its layers must allow forward differentiation (no ``jax.custom_vjp``).
    limit : int
        Bytes that the influence (and the directions of differentiation) may take.
    name : str, optional
        Name of the learner.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import jax.numpy as jnp
    >>> task = etrax.tasks.get("patterns", duration=50.0 * u.ms)
    >>> net = etrax.network.build(task, etrax.tasks.Recipe(n_rec=6, weight_scale=10.0 * u.mS))
    >>> xs, ys, _ = map(jnp.asarray, next(task.train(batch_size=2)))
    >>> grads = []
    >>> for algorithm in (etrax.RTRL, etrax.BPTT):
    ...     learner = etrax.compile(net, algorithm, xs[0], batch_size=2)
    ...     step = lambda x, y, learner=learner: jnp.mean((learner(x) - y) ** 2)
    ...     grads.append(learner.etrace_grad(xs, ys, step_fn=step)["projection", "comm", "weight"]["weight"])
    >>> bool(u.math.allclose(*grads, rtol=1e-3))
    True
    """

    def __init__(self, model: brainstate.nn.Module, *, limit: int = 2**30, name: str | None = None, **unread: Any):
        super().__init__(model, name=name, **unread)
        self.limit = whole_number("limit", limit, bytes=True)

    def compile_graph(self, *args) -> None:
        """Allocate the influence; ``args`` is one step's input.

        Raises
        ------
        ValueError
            If it would take more bytes than ``limit``.
        """
        super().compile_graph(*args)
        self._trained = [self._states.index(state) for state in self.param_states.values()]
        with self._settings.context():
            _, written = Pure(self.model, self._states).trace(*args)
        self._recurrent = [i for i in written if _is_inexact(self._states.all[i].value) and i not in self._trained]
        theta, h = (ravel_pytree(self._states.read(which))[0] for which in (self._trained, self._recurrent))
        needed = theta.size * (h.size + theta.size) * h.dtype.itemsize
        if needed > self.limit:
            raise ValueError(
                f"RTRL of {theta.size} parameters and {h.size} state values needs {needed:,} bytes, more than `limit` = "
                f"{self.limit:,}: use etrax.D_RTRL or etrax.BPTT, a smaller network or batch, or raise `limit`."
            )
        self._carried = [self._states.all[i] for i in self._recurrent]
        claim(self, self._carried)
        self.influence = brainstate.ShortTermState(jnp.zeros((theta.size, h.size), h.dtype))

    def report(self) -> Report:
        """What is trained, and what is carried on; print it."""
        params = self.param_states
        nbytes = self.influence.value.size * self.influence.value.dtype.itemsize
        held = f"influence of every parameter on every state: {bytes_text(nbytes)}"
        return report_of_parameters(params, "the influence on all states", held, nbytes)

    def update(self, *args) -> Any:
        """One step of the model; the influence advances with it."""
        if active(self.model) is not None:
            return super().update(*args)
        sequences = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], args)
        out = self.etrace_evolve(*sequences, return_outputs=True)
        return jax.tree.map(lambda leaf: self._noted(leaf[0]), out)

    def reset_state(self, batch_size: int | None = None, **kwargs) -> None:
        """Give all states of the model their initial values and set the influence to zero."""
        super().reset_state(batch_size, **kwargs)
        self.influence.value = jnp.zeros_like(self.influence.value)

    def get_etrace_of(self, weight: brainstate.ParamState | Path | str) -> dict[Path, Any]:
        """The influence of one parameter on every state.

        Parameters
        ----------
        weight : ParamState, path or dotted path
            A parameter of the model.

        Returns
        -------
        dict
            ``state path -> d state / d weight``, of the shape of the state followed by that of the weight, in the unit of
            the state per unit of the weight; a dict of them for a weight of several arrays.

        Raises
        ------
        ValueError
            If the model has no such parameter.
        """
        state = self._named(weight)
        found = [i for i in self._trained if self._states.all[i] is state]
        if not found:
            raise no_trace(weight, [dotted(path) for path in self.param_states])
        index = found[0]
        theta, to_theta = ravel_pytree(self._states.read(self._trained))
        _, to_h = ravel_pytree(self._states.read(self._recurrent))
        paths = {self._states.index(s): path for path, s in self.hidden_states.items()}
        by_theta = jax.vmap(to_h)(self.influence.value)  # one more axis in front: parameters

        def of(number: int):
            rows = by_theta[number]
            mantissa = u.get_mantissa(rows)
            last = jnp.moveaxis(mantissa, 0, -1)  # (*shape of the state, parameters)
            own = jax.vmap(lambda row: to_theta(row)[index])(last.reshape(-1, theta.size))

            def shaped(part, weight):
                value = u.get_mantissa(part).reshape(*mantissa.shape[1:], *u.math.shape(weight))
                return u.maybe_decimal(u.Quantity(value, unit=u.get_unit(rows) / u.get_unit(weight)))

            return jax.tree.map(shaped, own, state.value, is_leaf=lambda leaf: isinstance(leaf, u.Quantity))

        return {paths[i]: of(i) for i in self._recurrent if i in paths}

    def _run(self, request: Request) -> Outcome:
        check_claim(self, self._carried)
        if request.trial:
            self.influence.value = jnp.zeros_like(self.influence.value)
        outcome = super()._run(request)
        if request.trial:
            self.influence.value = jnp.zeros_like(self.influence.value)
        return outcome

    def _apply(self, run: Callable, values, sequences, mask):
        values = {**self._states.read([*self._trained, *self._recurrent]), **values}
        grads, last, self.influence.value, losses, aux = run(values, self.influence.value, sequences, mask)
        return grads, last, losses, aux

    def _make(self, request: Request, numbers: list[int]):
        pure, written = self._pure(request)
        trained, recurrent = self._trained, self._recurrent
        for i in written:
            if i not in recurrent and _is_inexact(self._states.all[i].value):
                raise ValueError(
                    f"`step_fn` writes {self._states.all[i].name or f'state {i}'}, a state that a step of the model does not write, "
                    "so its influence is unknown: return it with `has_aux=True` instead."
                )

        @jax.jit
        def run(values, influence, sequences, mask):
            fixed = {i: v for i, v in values.items() if i not in written}
            theta, to_theta = ravel_pytree({i: values[i] for i in trained})
            directions = jnp.eye(theta.size, dtype=theta.dtype)
            _, to_h = ravel_pytree({i: values[i] for i in recurrent})

            def body(carry, at):
                state, influence, total = carry
                at, weight = at

                def step(h, theta):
                    new, (loss, aux) = pure({**fixed, **to_theta(theta), **state, **to_h(h)}, weight, *at)
                    new, loss = like(state, {**state, **new}), jnp.zeros(()) if loss is None else loss
                    return (ravel_pytree({i: new[i] for i in recurrent})[0], loss), (new, aux)

                h = ravel_pytree({i: state[i] for i in recurrent})[0]
                (_, loss), advance, (new, aux) = jax.linearize(step, h, theta, has_aux=True)
                influence, slope = jax.vmap(advance)(influence, directions)  # (13), (14)
                return (new, influence, total + jnp.where(weight > 0, weight * slope, 0.0)), (loss, aux)

            start = {i: values[i] for i in written}
            carry = (start, influence, jnp.zeros_like(theta))
            (last, influence, total), (losses, aux) = jax.lax.scan(body, carry, (sequences, mask))
            grads = to_theta(total)
            return {i: grads[i] for i in numbers}, last, influence, losses, aux

        return pure, run


def _is_inexact(value: Any) -> bool:
    return all(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in jax.tree.leaves(value))
