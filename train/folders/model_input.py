"""What a run's model is fed with, kept in its run folder: enough to use it without the data."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import tensorflow as tf

from records.decoding.input_config import MAX_PIXELS
from records.decoding.picture_files import MAX_SIDE
from records.decoding.table_columns import LabelColumns, TableColumns
from records.roles import Data
from records.sets.hints import rebuild_hint
from records.sets.origin import read_origin
from records.sets.schema import IMAGE, TABULAR, TEXT, TOKENS, Schema
from records.sets.target import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TASKS
from records.system.json_file import read_json
from train.folders.run_folder import RunFolder

FILE_NAME, VOCABULARY = "model_input.json", "vocabulary.txt"
# How ids were made of text: `records.decoding.cleaning` by the features that builders/song_lyrics
# makes with it, `records.decoding.decode.split_words` for sets that store the text itself. Else
# only the set knows.
_RULES = {"token_ids": "clean", "token_ids_basic": "basic"}


@dataclasses.dataclass(frozen=True)
class ModelInput:
    """What becomes of a table's row, a picture or a text on its way to the model.

    Attributes:
      dataset: `name/config/version` of the set that was trained on.
      modality: one of `records.sets.schema`.
      class_names: in the order of the logits; of numbers their names.
      feature_names: columns of a table, in the model's order; () for other inputs.
      dtype: of a table's rows, float32 or float64; not used for other inputs.
      image_size, channels: of decoded pictures; 0 for other inputs.
      sequence_length: T, ids of a text that the model reads; 0 for other inputs.
      text_rule: how words are taken out of a text, see `records.decoding.cleaning_ops`; None for
        other inputs and where the set does not say.
      language: spaCy code of the texts, where the rule depends on it.
      vocabulary: words by the model's ids; () without a rule.
      max_pixels: larger pictures are refused undecoded.
      conversion: how `builders.convert` made inputs of files, as it stands in the set's metadata:
        "kind", and for tables the columns (`records.decoding.table_columns`), for pictures
        "max_side" and of a table's the "column", for texts "column"; None for other sets.
      task: one of `records.sets.target.TASKS`.
      scale: (mean, deviation) of each number among the training examples; None of classes.
      thresholds: of several classes at once, the probability from which on each is decided for,
        chosen on validation; () of others.
      label_columns: where the converted table says what is predicted; None for other sets.
    """

    dataset: str
    modality: str
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...] = ()
    dtype: str = "float32"
    image_size: int = 0
    channels: int = 0
    sequence_length: int = 0
    text_rule: str | None = None
    language: str | None = None
    vocabulary: tuple[str, ...] = ()
    max_pixels: int = MAX_PIXELS
    conversion: dict[str, Any] | None = None
    task: str = SINGLE_LABEL
    scale: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    thresholds: tuple[float, ...] = ()
    label_columns: LabelColumns | None = None

    @property
    def num_classes(self) -> int:
        """C, the number of classes or numbers."""
        return len(self.class_names)

    @property
    def spec(self) -> tf.TensorSpec:
        """One example's input: uint8 [S, S, C], int32 [None] (texts of any length), or [F]."""
        if self.modality == IMAGE:
            return tf.TensorSpec([self.image_size, self.image_size, self.channels], tf.uint8)
        if self.modality == TABULAR:
            return tf.TensorSpec([len(self.feature_names)], self.dtype)
        return tf.TensorSpec([None], tf.int32)

    @classmethod
    def of(cls, data: Data, **learned: Any) -> ModelInput:
        """Of an opened set; `learned` are `scale` and `thresholds`."""
        learned |= {"task": data.schema.task, "label_columns": _label_columns(data.schema)}
        return dataclasses.replace(cls._of(data), **learned)

    @classmethod
    def _of(cls, data: Data) -> ModelInput:
        schema, config = data.schema, data.config
        common = (schema.name, schema.modality, schema.class_names)
        conversion = _conversion(schema)
        if schema.modality == IMAGE:
            return cls(
                *common,
                image_size=config.image_size,
                channels=data.channels,
                max_pixels=config.max_pixels,
                conversion=conversion,
            )
        if schema.modality == TABULAR:
            numbered = [f"{schema.input_name}_{i}" for i in range(int(data.spec.shape[0]))]
            names = schema.feature_names or tuple(numbered)
            dtype = data.spec.dtype.name
            return cls(*common, feature_names=names, dtype=dtype, conversion=conversion)
        language = schema.metadata.get("language")
        rule = "words" if schema.modality == TEXT else None
        if schema.modality == TOKENS and language:
            rule = _RULES.get(schema.input_name)
        words = data.vocabulary.words() if data.vocabulary and rule else None
        return cls(
            *common,
            sequence_length=config.sequence_length,
            text_rule=rule if words else None,
            language=language,
            vocabulary=words or (),
            conversion=conversion,
        )

    @property
    def table_columns(self) -> TableColumns | None:
        """From a row of the converted file to the model's numbers; None for other sets."""
        is_table = self.modality == TABULAR and self.conversion is not None
        return TableColumns.from_json(self.conversion) if is_table else None

    def write(self, folder: RunFolder) -> None:
        """Writes `model_input.json`, and `vocabulary.txt` (the line number, from 0, is the id)."""
        fields = dataclasses.asdict(self)
        words = fields.pop("vocabulary")
        if words:
            folder.write_text(VOCABULARY, "".join(f"{word}\n" for word in words))
        folder.write_text(FILE_NAME, json.dumps(fields, indent=2, ensure_ascii=False) + "\n")

    def check_model(self, model: Any) -> None:
        """Raises ValueError for a Keras model that takes or gives something else."""
        expected: list[Any] = [tuple(self.spec.shape), (self.num_classes,)]
        found: list[Any] = []
        for tensors in (getattr(model, "inputs", None), getattr(model, "outputs", None)):
            (tensor,) = tensors if tensors and len(tensors) == 1 else (None,)
            found.append(None if tensor is None else tuple(tensor.shape[1:]))
        # A model may be made for one length of ids, and not for another kind of input.
        is_ids = found[0] and len(found[0]) == 1 and "int" in str(model.inputs[0].dtype)
        if self.spec.dtype.is_integer and self.modality != IMAGE and is_ids:
            found[0] = expected[0]
        if found != expected:
            raise ValueError(
                f"a model from {found[0]} to {found[1]} where {expected[0]} to {expected[1]} belong"
            )
        dtype = str(model.inputs[0].dtype)
        if self.modality == TABULAR and dtype != self.dtype:
            raise ValueError(f"a model of {dtype} numbers where {self.dtype} belongs")
        words = len(self.vocabulary)
        # On a CPU an id beyond the table is an error, on a GPU it reads zeros.
        for layer in model.layers:
            if layer.name == "embedding" and getattr(layer, "input_dim", words) < words:
                raise ValueError(f"a model of {layer.input_dim} words where {words} belong")

    def check(self) -> None:
        """Raises ValueError for values that no run writes."""
        if self.modality not in (TABULAR, IMAGE, TOKENS, TEXT) or not self.class_names:
            raise ValueError(f"modality {self.modality!r}, {len(self.class_names)} classes")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype {self.dtype!r}")
        if self.text_rule not in (None, "clean", "basic", "words"):
            raise ValueError(f"text_rule {self.text_rule!r}")
        if not isinstance(self.dataset, str) or not isinstance(self.language, str | None):
            raise ValueError(f"dataset {self.dataset!r}, language {self.language!r}")
        sizes = (self.image_size, self.channels, self.sequence_length, self.max_pixels)
        if any(type(size) is not int or not 0 <= size < 2**31 for size in sizes):
            raise ValueError(f"sizes {sizes}")
        self._check_target()
        _check_conversion(self.modality, self.conversion, self.feature_names)

    def _check_target(self) -> None:
        if self.task not in TASKS or (self.scale is not None) != (self.task == REGRESSION):
            raise ValueError(f"task {self.task!r}, scale {self.scale!r:.100}")
        rows = [*(self.scale or ()), *([self.thresholds] if self.task == MULTI_LABEL else [])]
        numbers = [number for row in rows for number in row]
        if (
            any(len(row) != self.num_classes for row in rows)
            or not all(type(n) in (int, float) and math.isfinite(n) for n in numbers)
            or len(self.scale or (1, 2)) != 2
        ):
            raise ValueError(f"scale or thresholds {rows!r:.100} of {self.num_classes} outputs")

    @classmethod
    def read(cls, run: Path, remedy: str) -> ModelInput:
        """Reads what `write` left; `remedy` is what the user can do where that is damaged.

        Raises:
          ValueError: the run folder holds none.
        """
        try:
            fields: dict[str, Any] = dict(read_json(run / FILE_NAME))
            file = run / VOCABULARY
            # Bytes: text mode would take a carriage return inside a word for the end of a line.
            words = file.read_bytes().decode() if file.exists() else ""
            for name in ("class_names", "feature_names"):
                if type(fields[name]) is not list or not all(type(n) is str for n in fields[name]):
                    raise ValueError(f"{name} that are no list of texts")
                fields[name] = tuple(fields[name])
            scale = fields.get("scale")
            fields["scale"] = scale and tuple(map(tuple, scale))
            fields["thresholds"] = tuple(fields.get("thresholds", ()))
            if (columns := fields.get("label_columns")) is not None:
                fields["label_columns"] = LabelColumns.from_json(columns)
            found = cls(**fields, vocabulary=tuple(words.split("\n")[:-1]))
            found.check()
            return found
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"run folder: {run / FILE_NAME} expected what a finished run of this "
                f"version leaves, received {error}. {remedy}"
            ) from error


def _label_columns(schema: Schema) -> LabelColumns | None:
    """Where the files of a converted set say what is predicted; None of folders and other sets."""
    origin = read_origin(schema.directory) or {}
    return LabelColumns.from_json(origin["label"]) if "label" in origin else None


def _conversion(schema: Schema) -> dict[str, Any] | None:
    """How the set's own input was made of files, where `builders.convert` made it."""
    found = schema.metadata.get("conversion")
    is_own = schema.metadata.get("input_feature") == schema.input_name
    if not is_own or not isinstance(found, dict):
        return None
    try:
        _check_conversion(schema.modality, found, schema.feature_names)
    except ValueError as error:
        raise ValueError(
            f"data set: {schema.name}: metadata key 'conversion' expected as builders.convert "
            f"writes it, received {error}. {rebuild_hint(schema.directory)}"
        ) from None
    return found


def _check_conversion(modality: str, found: Any, feature_names: tuple[str, ...]) -> None:
    """Raises ValueError for what no build writes."""
    if found is None:
        return
    kinds = {TABULAR: "table", IMAGE: "pictures", TEXT: "texts"}
    if not isinstance(found, dict) or found.get("kind") != kinds.get(modality):
        raise ValueError(f"a conversion {found!r:.100} of {modality}")
    if modality == TABULAR and TableColumns.from_json(found).feature_names != feature_names:
        raise ValueError("columns that give other numbers than the set's")
    if modality == IMAGE:
        side = found.get("max_side")
        if side is not None and not (type(side) is int and 0 < side <= MAX_SIDE):
            raise ValueError(f"max_side {side!r:.100}")
    column_kinds = {TEXT: (str,), IMAGE: (str, type(None))}
    if type(found.get("column")) not in column_kinds.get(modality, (type(None),)):
        raise ValueError(f"column {found.get('column')!r:.100}")
