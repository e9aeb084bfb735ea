from . import ops as ops
from .config import Config as Config
from .config import load_config as load_config
from .data.convert.converter import convert as convert
from .errors import FcisError as FcisError
from .evaluation.run import evaluate as evaluate
from .instances import Instances as Instances
from .labels import Labels as Labels
from .model.fcis import FCIS as FCIS
from .prediction.load import load as load
from .prediction.predictor import Predictor as Predictor
from .serving.export.export import export as export
from .training.callbacks import CocoMetrics as CocoMetrics
from .training.callbacks import WeightAverage as WeightAverage
from .training.fit import Losses as Losses
from .training.fit import training_data as training_data
from .training.fit import validation_data as validation_data
from .training.loop import train as train
from .training.optimizer import build_optimizer as build_optimizer

__version__: str
