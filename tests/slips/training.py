"""`train` and its data."""

from .table import read

__all__ = ["ROWS"]

ROWS = read("""
# train arguments swapped
# TypeError: `learner` must be a learner or a brainstate.nn.Module | the network comes first, then the task
etrax.train(task, network)

# train options class
# TypeError: `options` must be an `etrax.TrainOptions` | `etrax.TrainOptions(epochs=5)`
etrax.train(network, task, etrax.TrainOptions)

# train options dict
# TypeError: `options` must be an `etrax.TrainOptions` | `etrax.TrainOptions(epochs=5)`
etrax.train(network, task, {"epochs": 2})

# train task name
# TypeError: `task` is the name 'dms' | give the task, `etrax.tasks.get('dms')`
etrax.train(network, "dms")

# train with learner class
# TypeError: `learner` must be a learner or a brainstate.nn.Module, got the class | make an instance of it, e.g. `D_RTRL(...)`
etrax.train(etrax.D_RTRL, task)

# train with uncompiled learner
# RuntimeError: this D_RTRL is not compiled | call `learner.compile_graph(x0)` with one step's input
etrax.train(etrax.D_RTRL(network), task, etrax.TrainOptions(max_batches=1, batch_size=4))

# train loss unknown
# ValueError: `loss` must be one of cross_entropy, stepwise_cross_entropy, mse, or
etrax.train(network, task, loss="crossentropy")

# train loss class
# TypeError: `loss` is the class Loss | give a function of (output, y), or an instance
etrax.train(network, task, loss=etrax.training.Loss)

# train loss torch
# TypeError: `loss` must be a function, got 3 | write e.g. `lambda output, y: jnp.mean((output - y) ** 2
etrax.train(network, task, loss=3)

# train loss of one argument
# TypeError: `loss` must take 2 arguments (too many positional arguments) | write e.g. `lambda output, y: jnp.mean((output - y) ** 2
etrax.train(network, task, etrax.TrainOptions(max_batches=1, batch_size=4), loss=lambda out: jnp.mean(out ** 2))

# train optimizer string
# TypeError: `optimizer` must be one of `braintools.optim`, got 'adam' | `braintools.optim.Adam(lr=1e-3)`; one of optax goes into
etrax.train(network, task, optimizer="adam")

# train optimizer class
# TypeError: `optimizer` must be one of `braintools.optim` | `braintools.optim.Adam(lr=1e-3)`; one of optax goes into
etrax.train(network, task, optimizer=braintools.optim.Adam)

# train optimizer optax
# TypeError: `optimizer` must be one of `braintools.optim` | goes into `braintools.optim.OptaxOptimizer(tx)`
import optax
etrax.train(network, task, optimizer=optax.adam(1e-3))

# train optimizer float
# TypeError: `optimizer` must be one of `braintools.optim`, got 0.001 | `braintools.optim.Adam(lr=1e-3)`; one of optax goes into
etrax.train(network, task, optimizer=1e-3)

# train validation not callable
# TypeError: `validation` must be a function that returns batches, got generator | `lambda: batches`
etrax.train(network, task, validation=task.validation(4))

# train validation float
# TypeError: `validation` must be a function that returns batches, got float | `lambda: batches`
etrax.train(network, task, validation=0.1)

# train folder exists as file
# ValueError: cannot be written (a file of that name is in the way) | name a folder you may write to
import pathlib
pathlib.Path(folder, "f").write_text("x")
etrax.train(network, task, folder=folder + "/f")

# train folder number
# TypeError: `folder` must be a path, got 3 | write e.g. `folder='run'`
etrax.train(network, task, folder=3)

# train resume without folder
# ValueError: `resume` needs the `folder` that the training has written to.
etrax.train(network, task, resume=True)

# train resume nothing there
# ValueError: does not exist, so there is nothing to resume | check its name
etrax.train(network, task, folder=folder + "/none", resume=True)

# train resume a path
# TypeError: `resume` must be True or False, got 'last'.
etrax.train(network, task, folder=folder, resume="last")

# train progress string
# TypeError: `progress` must be what `tqdm` | got 'bar'
etrax.train(network, task, etrax.TrainOptions(max_batches=1, batch_size=4), progress="bar")

# train generator used twice
# ValueError: `task` is an iterator that cannot go back, and `learner` is not | compile it with `etrax.compile(model, etrax.D_RTRL, xs[0]
def batches():
    yield xs, ys
etrax.train(net, batches(), etrax.TrainOptions(epochs=2), loss="mse")

# train function without epoch
# TypeError: `task` must take 1 argument (too many positional arguments) | write e.g. `def batches(epoch): ...`
def batches():
    yield xs, ys
etrax.train(net, batches, loss="mse")

# train data one array
# TypeError: `task` is a value of type ArrayImpl and shape (20, 3, 4), not batches | give e.g. `[(xs, ys)]`, one pair for each batch
etrax.train(net, xs, loss="mse")

# train data tuple xs ys
# ValueError: a batch must be (xs, ys) or (xs, ys, mask), time-major; | for one batch write `[(xs, ys)]`, a list of it
etrax.train(net, (xs, ys), loss="mse")

# train data batches of xs only
# ValueError: a batch must be (xs, ys) or (xs, ys, mask), time-major; | for one batch write `[(xs, ys)]`, a list of it
etrax.train(net, [xs], loss="mse")

# train data dict
# TypeError: `task` is a value of type dict, not batches of data | give e.g. `[(xs, ys)]`, one pair for each batch
etrax.train(net, {"x": xs, "y": ys}, loss="mse")

# train data empty
# ValueError: `task` gives no batch | check that it has trials for a full one, and is not used up
etrax.train(net, [], loss="mse")

# train data epoch returns None
# TypeError: `task` gave None for epoch 0 | a function of the epoch must return batches, or yield them
def batches(epoch):
    pass
etrax.train(net, batches, loss="mse")

# train data batch differs
# ValueError: `xs` of a batch has 20 steps of 3 trials, but `ys` has shape (20, 2 | they must agree
etrax.train(net, [(xs, ys[:, :2])], loss="mse")

# train data mask batch first
# ValueError: `xs` of a batch has 20 steps of 3 trials, but `ys` has shape (20, 3 | they must agree
etrax.train(net, [(xs, ys, jnp.ones((3, 20)))], loss="mse")

# train data four parts
# ValueError: a batch must be (xs, ys) or (xs, ys, mask), time-major; got 4 parts | for one batch write `[(xs, ys)]`, a list of it
etrax.train(net, [(xs, ys, jnp.ones(20), 3)], loss="mse")

# train data strings
# TypeError: `xs` of a batch must be a number or an array, got 'a' | write e.g. `jnp.asarray(...)`
etrax.train(net, [("a", "b")], loss="mse")

# train data units
# ValueError: `xs` of a batch is in mV but must be a plain number, without a unit | write e.g. `1.0`
etrax.train(net, [(xs * u.mV, ys)], loss="mse")

# train with dt not set
# ValueError: `dt` is not set | put the call inside `with brainstate.environ.context(dt=1.0
with brainstate.environ.context(dt=None):
    etrax.train(net, [(xs, ys)], loss="mse")

# train task made at other dt
# ValueError: `task` was made for steps of | make it anew, or use its `dt`
with brainstate.environ.context(dt=0.5 * u.ms):
    etrax.train(network, task, etrax.TrainOptions(max_batches=1, batch_size=4))

# train net for other task
# ValueError: the model does not run on an example input of shape (4, 20) | check the number of inputs, and that `batch_size` is that
etrax.train(etrax.network.build(etrax.tasks.get("dms", delay=20 * u.ms)), task, etrax.TrainOptions(max_batches=1, batch_size=4))
""")
