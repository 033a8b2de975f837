"""Command line: scikit-learn on the very examples that a run of ours sees.

    python -m train.baseline --dataset fetal_health/kaggle --data-dir data --seed 0

Tables: gradient boosting and logistic regression. Texts: TF-IDF of the token ids and logistic
regression. Pictures: logistic regression on 32 x 32 pixels. Settings are fixed here, not tuned.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

from records.quiet import import_tensorflow_quietly
from train.config import normalise_flags


def make_baselines(modality: str, seed: int) -> dict[str, Any]:
    """The scikit-learn pipelines for a modality, by name."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    linear = LogisticRegression(max_iter=2000)
    if modality == "tabular":
        boosting = HistGradientBoostingClassifier(random_state=seed)
        return {
            "gradient boosting": boosting,
            "logistic regression": make_pipeline(StandardScaler(), linear),
        }
    if modality == "image":
        small = FunctionTransformer(_flat_pixels)
        weak = LogisticRegression(max_iter=300, C=1e-3)
        return {"logistic regression, pixels": make_pipeline(small, StandardScaler(), weak)}
    counts = FunctionTransformer(_count_ids)
    tfidf = TfidfTransformer(sublinear_tf=True)
    return {"TF-IDF, logistic regression": make_pipeline(counts, tfidf, linear)}


def _flat_pixels(pictures: np.ndarray) -> np.ndarray:
    """Every S / 32-th pixel: uint8 [n, S, S, C] -> float32 [n, 32 * 32 * C]."""
    step = max(1, pictures.shape[1] // 32)
    return pictures[:, ::step, ::step].reshape(len(pictures), -1).astype(np.float32)


def _count_ids(ids: np.ndarray) -> Any:
    """Counts of each id but padding: int32 [n, T] -> sparse float64 [n, largest id + 1]."""
    from scipy.sparse import csr_matrix

    rows, columns = np.nonzero(ids > 1)  # neither padding nor out of vocabulary
    values = np.ones(len(rows))
    # One width for every split: ids lie below the vocabulary size, itself at most 2^20.
    return csr_matrix((values, (rows, ids[rows, columns])), shape=(len(ids), 2**20))


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m train.baseline",
        description="Fits scikit-learn's models on the very examples that train.run sees.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--dataset", required=True, help="name[/config] of a prepared set, or its directory")
    add("--data-dir", help="where prepared sets lie (default: as tfds)")
    add("--feature", help="the input feature, where the set has several")
    add("--seed", type=int, default=0, help="names the validation cut (default: 0)")
    add("--image-size", type=int, default=224, help="pixels (default: 224)")
    add("--sequence-length", type=int, default=200, help="ids per text (default: 200)")
    add("--vocab-size", type=int, default=20_000, help="ids in use (default: 20000)")
    return parser.parse_args(normalise_flags(arguments))


def main(arguments: list[str] | None = None) -> int:
    """Fits on train, prints validation and test metrics; returns the exit code."""
    config = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    import_tensorflow_quietly()
    from records.data import InputConfig, open_data
    from train.metrics import metrics_from_confusion

    sizes = InputConfig(
        image_size=config.image_size,
        sequence_length=config.sequence_length,
        vocab_size=min(config.vocab_size, 2**20),
        feature=config.feature,
    )
    try:
        data = open_data(config.dataset, config.data_dir, sizes, config.seed)
        examples = {role: data.examples(role) for role in data.roles()}
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    from sklearn.metrics import confusion_matrix

    print(f"{data.schema.name}, seed {config.seed}")
    for name, model in make_baselines(data.schema.modality, config.seed).items():
        train = examples["train"]
        model.fit(np.asarray(train.inputs)[train.numbers], train.subset_labels)
        for role in [r for r in examples if r != "train"]:
            part = examples[role]
            predicted = model.predict(np.asarray(part.inputs)[part.numbers])
            classes = range(data.schema.num_classes)
            confusion = confusion_matrix(part.subset_labels, predicted, labels=classes)
            found = metrics_from_confusion(confusion, float("nan"))
            print(
                f"  {name:28} {role:11} accuracy {found.accuracy:.4f}  F1 {found.weighted_f1:.4f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
