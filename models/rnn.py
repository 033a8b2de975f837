"""Recurrent classifiers for right-padded token ids."""

import dataclasses
from typing import Any

import keras

from models.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class RecurrentDesign:
    """What distinguishes one recurrent model from another."""

    cell: str  # "lstm" or "gru"
    bidirectional: bool  # read the steps in both directions
    pool: bool  # average the states of all steps; else take the state after the last token
    embedding_dim: int  # default width of a token's vector
    units: int  # default width of the state, per direction
    dropout: float  # default rate before the logits
    spatial_dropout: float  # rate at which whole embedding channels are dropped
    # Also classify by the words themselves, whatever their order: their vectors' average with
    # learned weights, and their maximum. The recurrent layer then reads the vectors without
    # changing them. On song_lyrics (validation accuracy, 6 to 8 epochs) the words alone give
    # 0.413, a recurrent layer alone 0.385: it learns the training songs by heart.
    bag: bool = False
    pairs: int = 0  # also classify by pairs of neighbouring words, hashed to so many vectors
    # Made for the weights of a language model: the recurrent layer changes the vectors, too, and
    # the maximum of its states counts, as do the text's length and how many words are distinct.
    language: bool = False


_PAIR_DIM = 64
_PAIR_FACTOR = 7919  # a prime: ids up to 2^18 stay within int32
_WORD_DROPOUT = 0.3
_ABSENT = -1e4  # added to what padding says: finite, because 0 times infinity is NaN
CELLS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}


def _make_mask(ids: keras.KerasTensor) -> keras.KerasTensor:
    """Marks the real steps: int64 [B, T] -> bool [B, T], True where there is a token.

    The first step always counts: a text with no token left after cleaning then reads as one
    padding token, instead of dividing 0 by 0 in the average and being refused by cuDNN.
    """
    first = keras.ops.ones_like(ids[:, :1])
    return keras.ops.not_equal(keras.ops.concatenate([first, ids[:, 1:]], axis=1), 0)


def _embed(
    ids: keras.KerasTensor, config: ModelConfig, design: RecurrentDesign, dropout: float
) -> keras.KerasTensor:
    """Vectors of the tokens, with dropout: int64 [B, T] -> [B, T, E]."""
    x = keras.layers.Embedding(
        config.vocab_size,
        config.embedding_dim or design.embedding_dim,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=0.1),
        name="embedding",
    )(ids)
    if design.bag and dropout:
        # Drops whole words, so that no single one decides.
        x = keras.layers.Dropout(_WORD_DROPOUT, (None, ids.shape[1], 1), name="words")(x)
    if design.spatial_dropout and dropout:
        x = keras.layers.SpatialDropout1D(design.spatial_dropout, name="spatial_dropout")(x)
    return x


def _mark_padding(mask: keras.KerasTensor) -> keras.KerasTensor:
    """bool [B, T] -> float32 [B, T, 1], 0 for words and `_ABSENT` for padding."""
    return keras.ops.expand_dims((1.0 - keras.ops.cast(mask, "float32")) * _ABSENT, -1)


def _count_words(ids: keras.KerasTensor) -> keras.KerasTensor:
    """Length and share of distinct words: int64 [B, T] -> float32 [B, 2], both near 0."""
    ordered = keras.ops.sort(ids, axis=1)
    before = keras.ops.concatenate([keras.ops.zeros_like(ordered[:, :1]), ordered[:, :-1]], axis=1)
    length, distinct = (
        keras.ops.sum(keras.ops.cast(keras.ops.not_equal(ordered, x), "float32"), 1, keepdims=True)
        for x in (keras.ops.zeros_like(ordered), before)
    )
    share = distinct / keras.ops.maximum(length, 1.0)
    # A text of some 60 words, three quarters of them distinct, gives two zeros.
    return keras.ops.concatenate([keras.ops.log1p(length) - 4.0, 5.0 * share - 3.75], axis=1)


def _pool_words(
    ids: keras.KerasTensor,
    vectors: keras.KerasTensor,
    mask: keras.KerasTensor,
    vocab_size: int,
    name: str,
) -> list[keras.KerasTensor]:
    """Average with a learned weight per word, and maximum: [B, T, E] -> two of [B, E]."""
    # float32 whatever the policy: the softmax runs over many steps.
    weigh = keras.layers.Embedding(
        vocab_size, 1, embeddings_initializer="zeros", dtype="float32", name=name
    )
    absent = _mark_padding(mask)
    share = keras.ops.softmax(weigh(ids) + absent, axis=1)
    vectors = keras.ops.cast(vectors, "float32")
    # `keepdims`, here and below: else the gradient computes a shape, on the device where there is
    # one, and the host waits for it.
    pooled = [
        keras.ops.sum(vectors * share, axis=1, keepdims=True),
        keras.ops.max(vectors + absent, axis=1, keepdims=True),
    ]
    return [keras.ops.squeeze(x, axis=1) for x in pooled]


def _pool_pairs(
    ids: keras.KerasTensor, mask: keras.KerasTensor, buckets: int, dropout: float
) -> list[keras.KerasTensor]:
    """As `_pool_words` of pairs of neighbours: int64 [B, T] -> two of [B, P]."""
    # One place of padding behind the last word: with T = 1 there would be no place at all to pool
    # over, and a softmax or maximum over none is NaN.
    second = keras.ops.concatenate([ids[:, 1:], keras.ops.zeros_like(ids[:, :1])], axis=1)
    # Hashed: a table of all pairs would need vocab_size squared rows. Collisions share a vector.
    pairs = keras.ops.mod(ids * _PAIR_FACTOR + second, buckets)
    # A text of one word has no pair: its place of padding counts, as for words.
    real = keras.ops.logical_and(mask, keras.ops.not_equal(second, 0))
    some = keras.ops.concatenate([keras.ops.ones_like(real[:, :1]), real[:, 1:]], axis=1)
    embed = keras.layers.Embedding(
        buckets,
        _PAIR_DIM,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=0.1),
        name="pairs",
    )
    vectors = embed(pairs)
    if dropout:
        vectors = keras.layers.Dropout(_WORD_DROPOUT, (None, None, 1), name="dropped_pairs")(
            vectors
        )
    return _pool_words(pairs, vectors, some, buckets, "pair_weights")


def _read_steps(
    x: keras.KerasTensor,
    mask: keras.KerasTensor,
    config: ModelConfig,
    design: RecurrentDesign,
    use_cudnn: bool | str,
) -> list[keras.KerasTensor]:
    """The recurrent layer's average or last state, and maximum: [B, T, E] -> [B, U] each."""
    recurrent = CELLS[design.cell](
        config.units or design.units,
        return_sequences=design.pool,
        recurrent_dropout=config.recurrent_dropout,
        use_cudnn=use_cudnn,
        name=design.cell,
    )
    if design.bidirectional:
        recurrent = keras.layers.Bidirectional(recurrent, name=f"bi{design.cell}")
    x = recurrent(x, mask=mask)
    if not design.pool:
        return [x]
    # float32: a sum over many bfloat16 steps loses the small ones.
    average = keras.layers.GlobalAveragePooling1D(keepdims=True, dtype="float32", name="pool")
    pooled = [average(x, mask=mask)]
    if design.language:
        shown = keras.ops.cast(x, "float32") + _mark_padding(mask)
        pooled.append(keras.ops.max(shown, axis=1, keepdims=True))
    return [keras.ops.squeeze(x, axis=1) for x in pooled]


def build_rnn(
    config: ModelConfig,
    spec: Any,
    num_classes: int,
    *,
    design: RecurrentDesign,
    use_cudnn: bool | str = "auto",
) -> keras.Model:
    """Builds embedding -> dropout -> recurrent layer -> pooling -> dropout -> logits.

    Every id must lie in [0, config.vocab_size): on a CPU a larger one is an error of the gather,
    on a GPU it silently reads zeros, so the input pipeline has to clip. Padding (id 0, on the
    right) never changes the logits. Arguments are those of `models.build_model`; `use_cudnn` must
    be False where the step is compiled with XLA: the cuDNN kernel cannot be part of its program.

    Returns:
        Model from int32 [B, T], T possibly None, to float32 logits [B, num_classes].

    Raises:
        ValueError: a spec that is not a vector of integer ids.
    """
    shape = tuple(spec.shape)
    if len(shape) != 1 or not keras.backend.is_int_dtype(_dtype_name(spec.dtype)):
        raise ValueError(
            f"model: {config.name} expected input int32 [T], received "
            f"{_dtype_name(spec.dtype)} {list(shape)}"
        )
    dropout = design.dropout if config.dropout is None else config.dropout
    given = keras.Input(shape, dtype="int32", name="token_ids")
    # TensorFlow keeps int32 in the host's memory; on a GPU each operation on ids would cross to it.
    ids = keras.ops.cast(given, "int64")
    mask = _make_mask(ids)
    x = _embed(ids, config, design, dropout)
    bag = []
    if design.bag:
        bag = _pool_words(ids, x, mask, config.vocab_size, "word_weights")
        # The vectors are learned from the words alone, see `bag`.
        x = x if design.language else keras.ops.stop_gradient(x)
    bag += _pool_pairs(ids, mask, design.pairs, dropout) if design.pairs else []
    bag += _read_steps(x, mask, config, design, use_cudnn)
    bag += [_count_words(ids)] if design.language else []
    x = bag[0]
    if len(bag) > 1:
        x = keras.layers.Concatenate(dtype="float32", name="words_and_states")(bag)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(given, logits, name=config.name)


def _dtype_name(dtype: Any) -> str:
    """Name of a TensorFlow, NumPy or Keras dtype."""
    return keras.backend.standardize_dtype(dtype)
