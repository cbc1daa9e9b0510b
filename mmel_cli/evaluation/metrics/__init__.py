"""The metric families. To add one: write a file with a subclass of Metric, and name it in METRICS."""

from mmel_cli.evaluation.metric import Metric
from mmel_cli.evaluation.metrics.agreement import RegionAgreement
from mmel_cli.evaluation.metrics.aid import Aid
from mmel_cli.evaluation.metrics.captions import CaptionChange, CaptionContrast
from mmel_cli.evaluation.metrics.fading import Fading
from mmel_cli.evaluation.metrics.localisation import Localisation
from mmel_cli.evaluation.metrics.modalities import ImageShare, InteractionShare
from mmel_cli.evaluation.metrics.phrases import Phrases
from mmel_cli.evaluation.metrics.pixels import FineCurves, PixelCurves, ProbabilityCurves
from mmel_cli.evaluation.metrics.quadrants import Quadrants
from mmel_cli.evaluation.metrics.recognition import Recognition
from mmel_cli.evaluation.metrics.residuals import InteractionResidual, WordsResidual
from mmel_cli.evaluation.metrics.sparseness import Sparseness
from mmel_cli.evaluation.metrics.stability import MaxSensitivity, Randomisation
from mmel_cli.evaluation.metrics.tokens import TokenCurves
from mmel_cli.evaluation.metrics.word_curves import WordCurves
from mmel_cli.evaluation.metrics.zero_shot import ZeroShot

METRICS: dict[str, Metric] = {
    "pixel-curves": PixelCurves(),
    "fine-curves": FineCurves(),
    "probability-curves": ProbabilityCurves(),
    "fading": Fading(),
    "zero-shot": ZeroShot(),
    "aid": Aid(),
    "localisation": Localisation(),
    "quadrants": Quadrants(),
    "sparseness": Sparseness(),
    "max-sensitivity": MaxSensitivity(),
    "randomisation": Randomisation(),
    "caption-change": CaptionChange(),
    "caption-contrast": CaptionContrast(),
    "token-curves": TokenCurves(),
    "phrases": Phrases(),
    "recognition": Recognition(),
    "word-curves": WordCurves(),
    "region-agreement": RegionAgreement(),
    "words-residual": WordsResidual(),
    "interaction-residual": InteractionResidual(),
    "image-share": ImageShare(),
    "interaction-share": InteractionShare(),
}
"""By family; each gives one or several named numbers."""
