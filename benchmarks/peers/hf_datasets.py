"""Hugging Face datasets and tokenizers: Arrow files, transformed as they are read or before.

Cold, as https://huggingface.co/docs/datasets/image_process and /use_dataset have it: the Arrow
file is mapped into memory and `set_transform` decodes by Pillow, or tokenises batch by batch.
`keep`: as in /nlp_process, `map(batched=True)` has done that once; the result lies in memory
(`keep_in_memory`) and is given as NumPy arrays (`set_format`), texts padded to T. The library
reads in one process, its tokenizer on all processors; more processes are torch's DataLoader.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import tokenizers
from pillow_picture import decode
from protocol import Batch, serve
from source_files import read_examples

_PAD, _UNKNOWN = "[PAD]", "[UNK]"


def prepare(request: dict[str, Any]) -> Callable[[], Iterator[Batch]]:
    """Writes the Arrow file, and maps it where `keep` is asked for."""
    datasets.disable_progress_bars()
    transform = _transform(request)
    inputs, labels = zip(*read_examples(request), strict=True)
    if request["modality"] == "tokens":
        lines = (Path(request["folder"]) / "texts.txt").read_text(encoding="utf-8").split("\n")
        # What follows the last line's end is not a text.
        inputs = tuple(lines[: len(labels)])
    columns = {"input": list(inputs), "label": list(labels)}
    raw = datasets.Value("binary" if request["modality"] == "image" else "string")
    arrays = _arrays(request)
    kinds = {"input": arrays if transform is None else raw, "label": datasets.Value("int64")}
    made = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
    made.save_to_disk(request["scratch"])
    keep = request["keep"]
    dataset = datasets.load_from_disk(request["scratch"], keep_in_memory=keep)
    if transform is not None and keep:
        kinds = datasets.Features(kinds | {"input": arrays})
        dataset = dataset.map(transform, batched=True, keep_in_memory=True, features=kinds)
    if transform is None or keep:
        dataset.set_format("numpy", dtype=request["input_dtype"])  # else int64
    else:
        dataset.set_transform(transform)
    random = np.random.default_rng(0)

    def epoch() -> Iterator[Batch]:
        # The generator goes on: each epoch has another order.
        shuffled = dataset.shuffle(generator=random, keep_in_memory=True)
        for batch in shuffled.iter(request["global_batch_size"]):
            yield np.asarray(batch["input"]), np.asarray(batch["label"], np.int64)

    return epoch


def _arrays(request: dict[str, Any]) -> Any:
    """The feature of one finished input."""
    shape, dtype = tuple(request["input_shape"]), request["input_dtype"]
    if len(shape) == 3:
        return datasets.Array3D(shape, dtype)
    return datasets.List(datasets.Value(dtype), length=shape[0])


def _transform(request: dict[str, Any]) -> Callable[[dict[str, list]], dict[str, Any]] | None:
    """What finishes a batch; vectors need nothing."""
    shape = request["input_shape"]
    if request["modality"] == "tabular":
        return None
    if request["modality"] == "image":
        return lambda batch: {
            "input": np.stack([decode(data, shape) for data in batch["input"]]),
            "label": batch["label"],
        }
    words = (Path(request["folder"]) / "words.txt").read_text(encoding="utf-8").split("\n")[:-1]
    vocabulary = {word: i for i, word in enumerate([_PAD, _UNKNOWN, *words])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, _UNKNOWN))
    # The texts are cleaned words with spaces between them: nothing else is to be split.
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(shape[0])
    tokenizer.enable_padding(length=shape[0] if request["keep"] else None, pad_id=0, pad_token=_PAD)

    def tokenize(batch: dict[str, list]) -> dict[str, Any]:
        found = tokenizer.encode_batch_fast(batch["input"])
        return {"input": np.array([text.ids for text in found], np.int32), "label": batch["label"]}

    return tokenize


serve(prepare)
