"""What all learners have in common: one interface, whatever gives the gradient."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax

from etrax.checks import (
    check_array,
    check_callable,
    check_chunk_size,
    check_dt,
    check_flag,
    check_mask,
    check_model,
    check_name,
    check_sequences,
    check_values,
)
from etrax.contract.recorder import active
from etrax.contract.transforms import warn_of_free_constants
from etrax.engine.names import Path
from etrax.text import dotted, shown

from .report import Report
from .requests import Outcome, Request, chosen
from .settings import Settings
from .step_function import Repeats, kept, loss_of, one_call
from .watch import Watch, watch_of

__all__ = ["Learner", "no_trace", "options_in"]


class Learner(brainstate.nn.Module):
    """A model that can be asked for gradients.

    The interface of all learners. A rule that is a new composition of trace, error and credit is a few lines on
    `online.OnlineLearner`, as `dfa.py`. One of another kind derives from this class, as `BPTT`: it defines
    :meth:`compile_graph`, :attr:`param_states`, :attr:`hidden_states`, :meth:`update`, :meth:`reset_state`, :meth:`report`
    and ``_run``, which gives what a `Request` asks for. Within a step function ``etrax.contract.recorder.active()`` is the
    recorder of the step: ``update`` tells it ``call()`` before it runs the model and ``end()`` after.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network.
    name : str, optional
        Name of the learner.

    Raises
    ------
    TypeError
        If ``model`` is no module, or an option is given that this learner does not read.

    Attributes
    ----------
    traces : dict
        ``name of a source -> EligibilityTrace``; empty where a learner carries none.
    """

    _watch: Watch | None = None  # in a copy too
    _repeats: Any = None
    graph_invisible_attrs: tuple[str, ...] = ("_watch", "_repeats")

    def __init__(self, model: brainstate.nn.Module, *, name: str | None = None, **unread: Any):
        for option in unread:
            raise TypeError(_not_read(option, type(self)))
        check_name(name)
        super().__init__(name=name)
        check_model(model)
        self.model = model
        self.traces: dict[str, Any] = {}

    # -- set-up --------------------------------------------------------------------------

    def compile_graph(self, *args) -> None:
        """Run one step on an example input, collect what the modules register, allocate what is carried.

        Parameters
        ----------
        *args
            Arguments of ``model.update`` for one step (no time axis), e.g. spikes of shape ``(batch, n_in)``.

        Raises
        ------
        ValueError
            If ``dt`` is not set, if ``args`` do not fit the model, or if a parameter can never get a gradient.
        """
        raise NotImplementedError  # abstract

    def _check_example(self, args: tuple) -> None:
        check_dt()
        if not args:
            raise ValueError("`compile_graph` needs an example input of one step, e.g. `learner.compile_graph(xs[0])`.")
        warn_of_free_constants(self.model)
        for i, leaf in enumerate(jax.tree.leaves(args, is_leaf=u.math.is_quantity)):
            check_array(f"example_inputs[{i}]", leaf)
        self._settings = Settings(self.model)
        self._repeats = Repeats()
        self._watch = None

    @property
    def param_states(self) -> dict[Path, brainstate.ParamState]:
        """The trainable parameters by path."""
        raise NotImplementedError  # abstract

    @property
    def hidden_states(self) -> dict[Path, brainstate.HiddenState]:
        """The states that parameters act on through time, by path."""
        raise NotImplementedError  # abstract

    def report(self) -> Report:
        """What is trained by what, and at what cost; print it."""
        raise NotImplementedError  # abstract

    # -- steps and sequences ---------------------------------------------------------------

    def __call__(self, *args) -> Any:
        """See :meth:`update`. Outside a step function, NaN and infinity are looked for as :meth:`check` says."""
        return self.update(*args) if active() is not None else watch_of(self).around(self.update, args)

    def check(self) -> None:
        """Raise a FloatingPointError if the last call, or the weights and states as they are, hold NaN or infinity.

        The next call tells of the last one too, without waiting for it. Neither sees what happens inside ``jit`` or ``grad``:
        call this after a loop of ``grad(learner(x))``, and in ``jit`` ask for ``return_finite``.
        """
        watch_of(self).around(lambda: None, ())
        watch_of(self).read()

    def update(self, *args) -> Any:
        """Run one step of the model and advance what is carried."""
        raise NotImplementedError  # abstract

    def reset_state(self, batch_size: int | None = None, **kwargs) -> None:
        """Give all states of the model their initial values and set what is carried to zero.

        Parameters
        ----------
        batch_size : int, optional
            As given to ``compile``; taken from the compiled model if left out.
        """
        raise NotImplementedError  # abstract

    def etrace_grad(  # noqa: PLR0913 - the interface of all learners; what follows the sequences has defaults
        self,
        *sequences: Any,
        step_fn: Callable,
        mask: Any = None,
        chunk_size: int | None = None,
        weights: dict | None = None,
        trial: bool = False,
        reduction: str = "mean",
        loss_output: str = "per_step",
        has_aux: bool = False,
        return_value: bool = False,
        return_finite: bool = False,
    ) -> Any:
        """Gradient over a sequence; states and traces go on from where they are.

        Parameters
        ----------
        *sequences : pytree
            Time-major: every leaf has the leading length ``T`` and is sliced for ``step_fn``.
        step_fn : callable
            ``(*slices) -> loss`` (or ``(loss, aux)``): calls this learner exactly once and returns the scalar
            loss of the step. Define it once and pass the same object again: it is compiled once, with the
            numbers that it finds in its closure and in globals. What is to change is an argument, or in a state.
        mask : array, optional
            Weight of each step's loss, shape ``(T,)``. The trace advances at every step all the same.
        chunk_size : int, optional
            Steps evaluated in parallel, ``K >= 1``. Any value gives the same gradient (unless credit goes through the
            steps of a chunk: ``vjp_method='multi-step'``, ``through_depth``; or what is carried between chunks is not the
            trace: ``carry='rank1'``, ``'none'``); memory grows with ``K``, not with ``T``. If left out, a sequence is one
            chunk while that fits the learner's ``memory``, which is fastest, and else as few as fit. `BPTT` and `RTRL`
            have no chunks: they accept and ignore it.
        weights : dict, optional
            ``path -> ParamState`` to differentiate; all parameters of the model if left out.
        trial : bool
            Whether the sequence is a whole trial: the trace starts at zero and is zero afterwards, so that none is read
            at its start and none formed at its end, which saves most of what the trace costs where chunks are few.
            States of the model go on from where they are: call :meth:`reset_state` before, as ever.
        reduction : {'mean', 'sum'}
            ``'mean'`` divides by ``max(sum(mask), 1)``.
        loss_output : {'per_step', 'masked', 'scalar'}
            What ``return_value`` gives: the losses ``(T,)``, those times the mask, or the reduced loss.
        has_aux : bool
            Whether ``step_fn`` returns ``(loss, aux)``; aux comes back stacked over time.
        return_value : bool
            Whether to return the losses too.
        return_finite : bool
            Whether to return, last, whether weights, states, gradients and the losses that count are finite: a value that is
            known inside ``jit`` too. Outside, the next call raises where they are not, and so does :meth:`check`.

        Returns
        -------
        grads, or tuple of grads, losses, aux, finite as asked for
            ``grads`` is keyed like ``weights``; each gradient has the unit and structure of its parameter.

        Raises
        ------
        TypeError
            For ``weights`` that are no dict, and a ``step_fn`` that returns no loss: nothing, a pair without ``has_aux``, a number
            that is not real.
        ValueError
            For sequences that are empty, of different lengths or with NaN or infinity (after the first, where the mask counts),
            a mask of another length or with a negative weight, a loss that is not a scalar, a parameter that no path
            reaches, a ``step_fn`` that does not call the learner once;
            without ``chunk_size``, for a sequence that does not fit ``memory`` if the gradient depends on the chunk.

        Notes
        -----
        A gradient may itself be differentiated with `brainstate.transform.grad`, by what acts after the projections: the
        weights of a readout, targets, the mask. What a projection sends is held in the gradient of an online learner.

        Examples
        --------
        >>> import brainstate, brainunit as u, etrax
        >>> brainstate.environ.set(dt=1.0 * u.ms)
        >>> import jax.numpy as jnp
        >>> task = etrax.tasks.get("patterns", duration=50.0 * u.ms)
        >>> net = etrax.network.build(task, etrax.tasks.Recipe(n_rec=6, weight_scale=10.0 * u.mS))
        >>> xs, ys, _ = map(jnp.asarray, next(task.train(batch_size=2)))
        >>> learner = etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=2)
        >>> def loss(x, y):
        ...     return jnp.mean((learner(x) - y) ** 2)
        >>> grads, losses = learner.etrace_grad(xs, ys, step_fn=loss, return_value=True)
        >>> losses.shape, grads["projection", "comm", "weight"]["weight"].shape
        ((50,), (26, 6))
        >>> learner.reset_state()
        >>> again = learner.etrace_grad(xs, ys, step_fn=loss, chunk_size=20)  # in chunks of 20 steps: the same
        >>> bool(u.math.allclose(again["readout", "weight"], grads["readout", "weight"], rtol=1e-4))
        True
        """
        watch = watch_of(self)
        watch.read()
        for flag in ("trial", "has_aux", "return_value", "return_finite"):
            check_flag(flag, locals()[flag])
        if reduction not in ("mean", "sum"):
            raise ValueError(f"`reduction` must be 'mean' or 'sum', got {reduction!r}.")
        if loss_output not in ("per_step", "masked", "scalar"):
            raise ValueError(f"`loss_output` must be 'per_step', 'masked' or 'scalar', got {loss_output!r}.")
        T = check_sequences(sequences)
        check_callable("step_fn", step_fn, "lambda x, y: jnp.mean((learner(x) - y) ** 2)", sequences)
        mask, chunk_size = check_mask(mask, T), check_chunk_size(chunk_size)
        check_values(sequences, mask)
        known = self.param_states  # raises unless compiled
        asked = known if weights is None else chosen(weights, known)

        def step(*slices):
            return loss_of(one_call(step_fn, slices), has_aux)

        key, options = ("grad", step_fn, has_aux), (chunk_size, trial, reduction, loss_output)
        with self._settings.context():
            outcome = self._run(Request(step, key, sequences, mask, asked, self._settings.key(), *options))
        self._repeats.note(step_fn)
        finite = watch.note(outcome, mask, ask=return_finite)
        parts = [outcome.grads, *([outcome.losses] if return_value else []), *([outcome.aux] if has_aux else [])]
        parts += [finite] if return_finite else []
        return parts[0] if len(parts) == 1 else tuple(parts)

    def etrace_evolve(
        self,
        *sequences: Any,
        step_fn: Callable | None = None,
        chunk_size: int | None = None,
        return_outputs: bool = False,
    ) -> Any:
        """Advance states and traces over a sequence, without loss and gradient.

        Parameters
        ----------
        *sequences : pytree
            Time-major inputs, as in :meth:`etrace_grad`.
        step_fn : callable, optional
            Calls the learner once per step; the learner itself if left out.
        chunk_size : int, optional
            As in :meth:`etrace_grad`.
        return_outputs : bool
            Whether to return what each step gave, stacked over time.

        Returns
        -------
        None or pytree
            The outputs ``(T, ...)`` if asked for.
        """
        T = check_sequences(sequences)
        check_values(sequences)
        call: Any = self if step_fn is None else step_fn
        check_callable("step_fn", call, "lambda x: learner(x)", sequences)
        check_flag("return_outputs", return_outputs)

        def step(*slices):
            out = one_call(call, slices)
            return None, kept(out) if return_outputs else None

        key, mask = ("evolve", call, return_outputs), check_mask(None, T)
        chunk_size = check_chunk_size(chunk_size)
        self.param_states  # noqa: B018 - raises unless compiled
        with self._settings.context():
            outcome = self._run(Request(step, key, sequences, mask, {}, self._settings.key(), chunk_size))
        self._repeats.note(call)
        return outcome.aux if return_outputs else None

    def _run(self, request: Request) -> Outcome:
        """What a request asks for; states of the model and what is carried are those after the sequence."""
        raise NotImplementedError  # abstract

    # -- traces --------------------------------------------------------------------------

    def get_etrace_of(self, weight: brainstate.ParamState | Path | str) -> dict[Path, Any]:
        """The eligibility trace of one parameter, in full.

        Parameters
        ----------
        weight : ParamState, path or dotted path
            A parameter of a projection, e.g. ``"syn.comm.weight"``, or a trained constant, e.g. ``"neu.tau"``.

        Returns
        -------
        dict
            ``state path -> d state / d weight``, shaped like the weight with a leading batch axis (as the model
            has one), in the unit of the state per unit of the weight; for a constant, shaped like the state.

        Raises
        ------
        ValueError
            If the parameter is trained through no trace.
        """
        raise no_trace(weight, ())

    def _named(self, weight: brainstate.ParamState | Path | str) -> Any:
        """The parameter that is meant; None if there is none of that name."""
        if not isinstance(weight, str | tuple | list):
            return weight
        named = {dotted(path): state for path, state in self.param_states.items()}
        return named.get(weight if isinstance(weight, str) else dotted(weight))


def options_in(kind: type[Learner]) -> set[str]:
    """The names of the options of a class of learners."""
    parameters = inspect.signature(kind.__init__).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"name"}


def _not_read(option: str, kind: type[Learner]) -> str:
    """What to say of an option that a class of learners does not read."""
    known, left = [], Learner.__subclasses__()
    while left:
        other = left.pop(0)
        left += other.__subclasses__()
        known += [other.__name__] if "__init__" in vars(other) and option in options_in(other) else []  # no copies
    if known:
        return f"`{option}` is not read by {kind.__name__}, but by {', '.join(known)}: leave it out, or choose one of these."
    own = ", ".join(sorted(options_in(kind))) or "none"
    return f"`{option}` is no option of {kind.__name__}; its options are: {own}."


def no_trace(weight: Any, known: list[str] | tuple[str, ...]) -> ValueError:
    """The error for a parameter without a trace, where ``known`` have one."""
    return ValueError(
        f"`weight` {shown(weight)} has no trace; parameters with one: {', '.join(sorted(known)) or 'none'}."
    )
