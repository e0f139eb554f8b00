"""One training from its arguments to its result; the parts that it uses are in the other files of this folder."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable
from typing import Any

import brainstate
import braintools
import jax.numpy as jnp
import numpy as np

from etrax.checks import check_callable, check_dt, check_flag, check_kind, check_made_by
from etrax.files import writable_folder
from etrax.learners.compilation import compiled
from etrax.learners.online import EligibilityTrace
from etrax.learners.requests import chosen
from etrax.tasks import Task
from etrax.text import Table, as_html, dotted

from .checkpoint import Checkpoints
from .constraints import make_projection
from .evaluation import Evaluation, evaluate_with, make_forward
from .feed import Feed
from .folder import begun, claimed, resumable
from .logs import bar_of
from .loop import Loop
from .losses import Loss, named_loss, title_of
from .optimizers import check_schedule, learning_rate, optimizer_states, settings, spare_constants, widen
from .options import TrainOptions
from .update import make_update

__all__ = ["TrainResult", "train"]


@dataclasses.dataclass
class TrainResult:
    """A finished training.

    Attributes
    ----------
    learner : D_RTRL or one of its relatives
        What trained; ``learner.model`` is the model.
    history : list of dict
        One row per epoch: means over what it counted, NaN if that is nothing, and the last validation.
    batches : int
        Batches trained on.
    seconds : float
        Wall time, compilation and validation included, over all parts of a training that was resumed.
    stopped : str
        Why it ended: ``'epochs'``, ``'max_batches'``, ``'patience'`` or ``'data'`` (a stream came to its end).
    best_loss : float or None
        The lowest validation loss.
    """

    learner: Any
    history: list[dict[str, Any]]
    batches: int
    seconds: float
    stopped: str
    best_loss: float | None

    def _repr_html_(self) -> str:
        ended = (
            f"{type(self.learner).__name__}: {self.batches} batches in {self.seconds:.1f} s, ended by {self.stopped!r}"
        )
        names = list(dict.fromkeys(name for row in self.history for name in row))
        rows = [
            [f"{v:.4g}" if isinstance(v := row.get(name, ""), float) else str(v) for name in names]
            for row in self.history
        ]
        return as_html([ended, Table([[name.replace("_", " ") for name in names], *rows])])


def train(  # noqa: PLR0913 - what may be exchanged in a training, each with a default
    learner: Any,
    task: Any,
    options: TrainOptions | None = None,
    *,
    loss: str | Loss | Callable | None = None,
    optimizer: Any = None,
    validation: Callable[[], Iterable] | None = None,
    weights: dict | None = None,
    folder: str | os.PathLike | None = None,
    resume: bool = False,
    progress: Any = False,
    on_epoch: Callable[[list[dict[str, Any]]], None] | None = None,
) -> TrainResult:
    """Train a model online.

    Each batch ``(xs, ys)`` or ``(xs, ys, mask)`` is time-major, ``xs`` of shape ``(T, B, n_in)``, ``ys`` ``(T, B, ...)``, the
    mask ``(T,)`` or ``(T, B)``: the weight of each step in the loss. Where it is 0, targets and losses may be anything, NaN too.
    A smaller batch, as the last one of an epoch may be, is trained on as it is; that compiles once more.

    Losses, in training and validation, are means over all counted steps of all trials, each by its weight in the mask; so is
    the loss whose gradient a batch is trained on.

    With a folder, ``log.csv``, checkpoints and ``best.npz`` are written there. A training that was stopped, in whatever
    way, and is resumed with the same arguments ends with the same weights and the same log, bit for bit, as one that
    was not.

    Parameters
    ----------
    learner : compiled learner or brainstate.nn.Module
        A model is compiled with `D_RTRL` for batches like those of the task.
    task : Task, callable or iterable
        Where batches come from; see `etrax.training.feed.Feed`.
    options : TrainOptions, optional
        When to update, log, validate, stop and save.
    loss : {'cross_entropy', 'stepwise_cross_entropy', 'mse'}, Loss or callable, optional
        ``(output, y) -> loss`` of one step, for each trial or, unless there is a mask ``(T, B)``, for all together. If left out, that of the `Task`, or the
        cross-entropy for other data. The second one differs in the accuracy: of steps, not of trials.
    optimizer : braintools.optim.OptaxOptimizer, optional
        New and without parameters; Adam with ``options.learning_rate`` if left out. Its schedule is stepped as
        ``options.schedule_every`` says.
    validation : callable, optional
        Returns batches; ``task.validation`` if the task has it. States, traces and random numbers of the training are
        put back afterwards.
    weights : dict, optional
        ``path -> ParamState`` to train; all parameters if left out.
    folder : path, optional
        Where to write; nothing is written without. One training at a time; one that is there, finished or not, is never written
        over.
    resume : bool
        Go on from the newest whole checkpoint in ``folder``, or from the beginning if there is none yet; with more ``epochs`` or
        ``max_batches``, also if it was finished.
    progress : bool or tqdm
        Whether to show a progress bar, or the bar to go on with.
    on_epoch : callable, optional
        Called with the history after each epoch.

    Returns
    -------
    TrainResult
        Learner, history and why it ended.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, if a new training would write over another one, if another process trains in the folder, or if a
        checkpoint does not fit.
    FloatingPointError
        If inputs, or targets, a loss or a weight that count are not finite, or the network gives NaN, counted or not. The last
        checkpoint stays as it was.
    OSError
        If the disk is full or the folder has gone; the last checkpoint stays whole.
    KeyboardInterrupt
        After Ctrl-C; with a folder, once the running batch is done and a checkpoint is written.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> task = etrax.tasks.get("patterns", duration=50.0 * u.ms)
    >>> net = etrax.network.build(task, etrax.tasks.Recipe(n_rec=6))
    >>> result = etrax.train(net, task, etrax.TrainOptions(epochs=2, max_batches=3, batch_size=8))
    >>> result.batches, result.stopped, result.history[-1]["train_loss"] > 0
    (3, 'max_batches', True)
    """
    options = TrainOptions() if options is None else options
    if not isinstance(options, TrainOptions):
        raise TypeError(f"`options` must be an `etrax.TrainOptions`, got {options!r}: `etrax.TrainOptions(epochs=5)`.")
    if optimizer is not None and not isinstance(optimizer, braintools.optim.Optimizer):
        raise TypeError(
            f"`optimizer` must be one of `braintools.optim`, got {optimizer!r}: `braintools.optim.Adam(lr=1e-3)`; one of optax "
            "goes into `braintools.optim.OptaxOptimizer(tx)`."
        )
    dt = check_dt()
    check_kind(
        "learner",
        learner,
        brainstate.nn.Module,
        "a learner or a brainstate.nn.Module",
        "the network comes first, then the task",
    )
    check_flag("resume", resume)
    if on_epoch is not None:
        check_callable("on_epoch", on_epoch, "lambda history: print(history[-1])", ([],))
    if not isinstance(progress, bool):
        check_made_by("progress", progress, "update", "`tqdm` (or True or False)")
    for name in ("tensorboard", "checkpoint_every"):
        if folder is None and getattr(options, name):
            raise ValueError(f"`{name}` needs a `folder` to write to: give one.")
    if loss is None:
        loss = task.loss if isinstance(task, Task) else "cross_entropy"
    loss = named_loss(loss)
    if resume and folder is None:
        raise ValueError("`resume` needs the `folder` that the training has written to.")
    trials: Any = _validation(task, validation, options)
    feed = Feed(task, options)
    store = None
    if folder is not None:
        folder = resumable(folder) if resume else folder
        store = Checkpoints(writable_folder(folder, "folder"), options.keep)
    with contextlib.nullcontext() if store is None else claimed(store.folder):
        saved = _saved(store, resume)
        if store is not None:
            store.tidy()

        def example():
            return jnp.zeros(np.shape(feed.peek())[1:], brainstate.environ.dftype())

        learner = compiled(learner, example)
        params = dict(learner.param_states if weights is None else chosen(weights, learner.param_states))
        optimizer = braintools.optim.Adam(lr=options.learning_rate) if optimizer is None else optimizer
        project = make_projection(params, options.constraints)
        project()
        check_schedule(optimizer, trials is not None)
        if not options.decay_constants:
            spare_constants(optimizer, learner.model, params)
        widen(optimizer, params)
        optimizer.register_trainable_weights(params)
        identity = {
            "learner": type(learner).__name__,
            "optimizer": f"{type(optimizer).__name__} with the learning rate {learning_rate(optimizer):g}",
            **settings(optimizer),
            "loss": title_of(loss),
            "dt": str(dt),
        }
        forward = make_forward(learner.model, loss)

        def measure() -> Evaluation:
            return evaluate_with(forward, learner.model, trials(), loss, options.loss_window)

        progress = bar_of(feed.total(), disable=not progress) if (own := isinstance(progress, bool)) else progress
        loop = Loop(
            options=options,
            feed=feed,
            update=make_update(learner, options, loss, optimizer, params, project),
            measure=None if trials is None else measure,
            optimizer=optimizer,
            states={**_kept(learner, options), **optimizer_states(optimizer)},
            params=_named(params),
            identity={**options.fixed(), **identity},
            begun_with={"epochs": int(options.epochs)},
            bar=progress,
            on_epoch=on_epoch,
            store=store,
        )
        try:
            loop.run(saved)
        finally:
            if own:
                progress.close()
    at = loop.at
    history = [*at.history, *([at.row()] if at.batch else [])]
    return TrainResult(learner, history, at.count, at.seconds, at.stopped or "", at.best_loss)


def _validation(task: Any, validation: Callable | None, options: TrainOptions) -> Callable[[], Iterable] | None:
    if validation is None and hasattr(task, "validation"):
        return lambda: task.validation(options.batch_size)
    if validation is None and options.patience is not None:
        raise ValueError("`patience` needs a validation: give `validation`, or a task that has one.")
    if validation is not None and not callable(validation):
        raise TypeError(
            f"`validation` must be a function that returns batches, got {type(validation).__name__}: `lambda: batches`."
        )
    return validation


def _saved(store: Checkpoints | None, resume: bool) -> dict[str, Any] | None:
    """The checkpoint to go on from; a new training does not write over another one."""
    if store is None:
        return None
    if resume:
        return store.latest()
    if there := begun(store.folder):
        raise ValueError(
            f"`folder` {str(store.folder)!r} holds {there}: go on with `resume=True`, and more `epochs` if it is finished; name another "
            "folder; or delete this one."
        )
    return None


def _kept(learner: Any, options: TrainOptions) -> dict[str, brainstate.State]:
    """The states that a checkpoint holds: traces only where the next batch does not begin with new ones."""
    return {
        k: s for k, s in _named(learner.states()).items() if not (options.reset and isinstance(s, EligibilityTrace))
    }


def _named(states) -> dict[str, brainstate.State]:
    return {dotted(path): state for path, state in states.items()}
