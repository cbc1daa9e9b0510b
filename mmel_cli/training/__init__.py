"""Learning the weights of the HSRM: objectives, a store of examples on disk, the loop (METHOD 4)."""

from mmel_cli.training.loop import Progress, Trainer, split_of
from mmel_cli.training.objectives import Examples, Objective
from mmel_cli.training.options import TrainOptions
from mmel_cli.training.store import ExampleStore

__all__ = ["ExampleStore", "Examples", "Objective", "Progress", "TrainOptions", "Trainer", "split_of"]
