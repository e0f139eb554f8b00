"""Train a model online, on batches of trials or on an endless stream.

Examples
--------
>>> import brainstate, brainunit as u, etrax, etrax.tasks, etrax.network
>>> with brainstate.environ.context(dt=1.0 * u.ms):                          # doctest: +SKIP
...     task = etrax.tasks.get("digits")
...     net = etrax.network.build(task, seed=0)
...     options = etrax.TrainOptions(epochs=5, learning_rate=1e-2, patience=3)
...     result = etrax.train(net, task, options, folder="run")                 # later: resume=True
...     print(etrax.training.evaluate(net, task.test(32)).accuracy)
0.95
"""

from .constraints import Clamp, Dale
from .evaluation import Evaluation, evaluate
from .losses import LOSSES, Loss
from .options import TrainOptions
from .trainer import TrainResult, train, unfinished

__all__ = [
    "LOSSES",
    "Clamp",
    "Dale",
    "Evaluation",
    "Loss",
    "TrainOptions",
    "TrainResult",
    "evaluate",
    "train",
    "unfinished",
]
