"""Train a model online, on batches of trials or on an endless stream."""

from .constraints import Clamp, Dale
from .evaluation import Evaluation, evaluate
from .folder import unfinished
from .losses import LOSSES, Loss
from .options import TrainOptions
from .trainer import TrainResult, train

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
