"""Backpropagation through time with the learners' interface, as a baseline."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.contract.dependence import sensitive
from etrax.contract.recorder import Recorder, active, recording
from etrax.engine.ledger import no_path
from etrax.engine.names import Path
from etrax.engine.pure import Pure, States, Values, like
from etrax.text import dotted

from .learner import Learner
from .report import Report, report_of_parameters
from .requests import Outcome, Request, reduced
from .step_function import first_of

__all__ = ["BPTT"]


class BPTT(Learner):
    """Backpropagation through time over the given sequence; memory grows with its length.

    Equation (15) of docs/mathematics.md; Werbos 1990, Proc. IEEE 78(10). The states that the sequence starts from are held constant. Called step by step it
    runs the model; a gradient of such calls reaches back to the first of them, and says so once.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network.
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
    >>> learner = etrax.compile(net, etrax.BPTT, xs[0], batch_size=2)
    >>> print(learner.report())
      parameter               shape    trained by
      ----------------------  -------  ------------------------------------
      projection.comm.weight  (26, 6)  backpropagation through the sequence
      readout.weight          (6, 3)   backpropagation through the sequence
    <BLANKLINE>
    no traces: the states of every step of a sequence are held until its end
    """

    _params: dict | None = None
    _compiled: dict[tuple, tuple[Pure, Callable]] | None = None  # none in a copy, which is to be compiled
    graph_invisible_attrs: tuple[str, ...] = ("_watch", "_repeats", "_states", "_hidden", "_compiled")

    def __init__(self, model: brainstate.nn.Module, *, name: str | None = None, **unread: Any):
        super().__init__(model, name=name, **unread)
        self._states = States(())
        self._said = False

    def compile_graph(self, *args) -> None:
        """Take note of the model's states; ``args`` is one step's input."""
        self._check_example(args)
        found = self.model.states()
        self._states = States(found.values())
        self._params = {path: s for path, s in found.items() if isinstance(s, brainstate.ParamState)}
        self._hidden = {path: s for path, s in found.items() if isinstance(s, brainstate.HiddenState)}
        self._modules = frozenset(id(node) for node in self.model.nodes().values())
        self._compiled = {}
        self._batch = jnp.shape(jax.tree.leaves(args)[0])[0] if jnp.ndim(jax.tree.leaves(args)[0]) > 1 else None

    @property
    def param_states(self) -> dict:
        """The trainable parameters of the model by path."""
        if self._params is None or self._compiled is None:
            kind = type(self).__name__
            raise RuntimeError(
                f"this {kind} is not compiled: use `etrax.compile(model, etrax.{kind}, x0, batch_size=...)`."
            )
        return dict(self._params)

    @property
    def hidden_states(self) -> dict:
        """The hidden states of the model by path."""
        self.param_states  # noqa: B018 - raises unless compiled
        return dict(self._hidden)

    def report(self) -> Report:
        """What is trained, and what it holds; print it."""
        held = "no traces: the states of every step of a sequence are held until its end"
        return report_of_parameters(self.param_states, "backpropagation through the sequence", held)

    def update(self, *args) -> Any:
        """One step of the model."""
        self.param_states  # noqa: B018 - raises unless compiled
        recorder = active(self.model)
        if recorder is None:
            with self._settings.context():
                return jax.tree.map(self._noted, self.model(*args))
        recorder.call()
        out = self.model(*args)
        recorder.end()
        return recorder.counted(out)

    def _noted(self, leaf):
        """``leaf``; says what its derivative is when one is taken for the first time."""

        @jax.custom_jvp
        def identity(value):
            return value

        @identity.defjvp
        def _(primals, tangents):
            if not self._said:
                warnings.warn(
                    f"a gradient of {type(self).__name__} called step by step reaches back to the first call in the function that is "
                    "differentiated, and is that of the same step if there is one: for the gradient of a sequence use "
                    "`learner.etrace_grad`.",
                    stacklevel=2,
                )
                self._said = True
            return primals[0], tangents[0]

        return identity(leaf)

    def reset_state(self, batch_size: int | None = None, **kwargs) -> None:
        """Give all states of the model their initial values."""
        self.param_states  # noqa: B018 - raises unless compiled
        brainstate.nn.reset_all_states(
            self.model, batch_size=self._batch if batch_size is None else batch_size, **kwargs
        )

    # -- sequences -----------------------------------------------------------------------

    def _run(self, request: Request) -> Outcome:
        compiled: Any = self._compiled
        sequences, mask = request.sequences, request.mask
        numbers = {path: self._states.index(state) for path, state in request.weights.items()}
        key = (*request.key, request.setting, tuple(numbers.values()))
        if key not in compiled:
            pure, run = self._make(request, list(numbers.values()))
            self._check_paths(pure, request, numbers)
            compiled[key] = pure, run
        pure, run = compiled[key]
        used, _ = pure.trace(*first_of((mask, *sequences)))
        used = sorted({*used, *numbers.values()})
        grads, last, losses, aux = self._apply(run, self._states.read(used), sequences, mask)
        self._states.write(last)
        denominator = jnp.maximum(jnp.sum(mask), 1.0) if request.reduction == "mean" else 1.0
        grads = {path: jax.tree.map(lambda g: g / denominator, grads[i]) for path, i in numbers.items()}
        return Outcome(grads, reduced(losses, mask, request.reduction, request.loss_output), aux)

    def _apply(self, run: Callable, values, sequences, mask):
        return run(values, sequences, mask)

    def _pure(self, request: Request) -> tuple[Pure, list[int]]:
        """One step as a pure function ``(weight, *slices) -> (loss, aux)``, and the numbers of the states that it writes."""

        def step(weight, *slices):
            with recording(Recorder(modules=self._modules, weight=weight)):
                loss, aux = request.step_fn(*slices)
            return None if loss is None else u.get_mantissa(loss), aux

        pure = Pure(step, self._states)
        _, written = pure.trace(*first_of((request.mask, *request.sequences)))
        return pure, written

    def _make(self, request: Request, numbers: list[int]) -> tuple[Pure, Callable]:
        pure, written = self._pure(request)

        @jax.jit
        def run(values, sequences, mask):
            total = partial(_total, pure, written, values, sequences, mask)
            weights = {i: values[i] for i in numbers}
            if not weights:
                return {}, *total(weights)[1]
            grads, (last, losses, aux) = jax.grad(total, has_aux=True)(weights)
            return grads, last, losses, aux

        return pure, run

    def _check_paths(self, pure: Pure, request: Request, numbers: dict[Path, int]) -> None:
        used, written = pure.trace(*first_of((request.mask, *request.sequences)))
        values = self._states.read({*used, *numbers.values()})
        total = partial(_total, pure, written, values, request.sequences, request.mask)
        for path, i in numbers.items():

            def loss(value, i=i):
                return {"loss": total({i: value})[0]}

            if not sensitive(loss, values[i]):
                raise no_path(dotted(path))


def _total(
    pure: Pure, written: list[int], values: Values, sequences: tuple, mask, weights: Values
) -> tuple[Any, tuple]:
    """The sum of the losses of a sequence; and the last values of the states, losses and aux over time."""
    fixed = {i: v for i, v in values.items() if i not in written}

    def body(state, at):
        new, out = pure({**fixed, **weights, **state}, *at)
        return like(state, {**state, **new}), out

    last, (losses, aux) = jax.lax.scan(body, {i: values[i] for i in written}, (mask, *sequences))
    return jnp.zeros(()) if losses is None else jnp.sum(jnp.where(mask > 0, losses * mask, 0.0)), (last, losses, aux)
