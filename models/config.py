"""What a model is made from: the name, the regularisation and, for text, the sizes."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Settings of one model; everything not named here is fixed by the model's name.

    Attributes:
        name: a key of `models.MODELS`.
        dropout: rate in [0, 1) of the model's dropout layers; None keeps the model's own default.
        hidden: MLPs only: units of each hidden layer; None keeps the model's own.
        weights: image models: "imagenet", "random", or the path of a weights file
            (`.weights.h5` / `.h5` without the classifier; for efficientnet_lite0 also `.pth`).
            Text models: the path of a file of `train.pretrain`; the two words mean none.
        preprocess: image models only: "imagenet", as the backbone was trained, or "report", as the
            report fed it: ResNet50 and InceptionV3 with values divided by 255, the others alike.
        vocab_size: text models only: ids lie in [0, vocab_size); 0 is padding.
        embedding_dim: text models only: width of a token's vector; None is the model's default.
        units: text models only: width of the recurrent state (per direction); None is the
            model's default.
        recurrent_dropout: text models only: rate in [0, 1) at which the recurrent state's numbers
            are dropped, the same ones at every token of a text (Gal and Ghahramani 2016). The
            fused cuDNN kernel cannot do that, so on GPUs the layer falls back to a loop.
    """

    name: str
    dropout: float | None = None
    hidden: tuple[int, ...] | None = None
    weights: str = "imagenet"
    preprocess: str = "imagenet"
    vocab_size: int = 10_000
    embedding_dim: int | None = None
    units: int | None = None
    recurrent_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.dropout is not None and not 0.0 <= self.dropout < 1.0:
            raise ValueError(
                f"model: dropout expected a rate in [0, 1) or None, received {self.dropout}"
            )
        if self.preprocess not in ("imagenet", "report"):
            raise ValueError(
                f"model: preprocess expected imagenet or report, received {self.preprocess!r}"
            )
        if self.vocab_size < 2:
            raise ValueError(
                "model: vocab_size expected at least 2 (padding and out-of-vocabulary), "
                f"received {self.vocab_size}"
            )
        if self.hidden is not None and (not self.hidden or min(self.hidden) < 1):
            raise ValueError(
                f"model: hidden expected units of one layer or more, received {self.hidden}"
            )
        for field in ("embedding_dim", "units"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(
                    f"model: {field} expected a positive number or None, received {value}"
                )
