"""Full ranking, metrics, test sets and comparisons: from scores or embeddings, never a model."""

from contrarec.evaluation.compare import (
    PairedTest,
    bootstrap_interval,
    flipped_sums,
    holm,
    paired_test,
    paired_tests,
    resampled_means,
)
from contrarec.evaluation.metrics import DEFINITIONS, METRICS, parse_metric
from contrarec.evaluation.protocol import Evaluation, GroupEvaluation, evaluate, popularity_groups
from contrarec.evaluation.ranking import Scorer, dot_scorer, top_k

__all__ = [
    "DEFINITIONS",
    "METRICS",
    "Evaluation",
    "GroupEvaluation",
    "PairedTest",
    "Scorer",
    "bootstrap_interval",
    "dot_scorer",
    "evaluate",
    "flipped_sums",
    "holm",
    "paired_test",
    "paired_tests",
    "parse_metric",
    "popularity_groups",
    "resampled_means",
    "top_k",
]
