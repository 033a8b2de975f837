"""Opens the folder of a finished run: its settings, its model and what that is fed with."""

import dataclasses
import os
import shlex
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import models
from models import own
from records.stores.address import is_address, parse_output
from records.stores.upload import write_all
from records.system.places import check_local
from train.folders.model_input import ModelInput
from train.folders.run_copy import fetch_run
from train.folders.stored_config import (
    FILE_NAME,
    MODEL,
    WEIGHTS,
    StoredConfig,
    missing_files,
    read_config,
)
from train.measures.metrics import say
from train.settings.command_line import RUN, format_command
from train.settings.config import json_ready
from train.settings.resolved import Settings
from train.settings.sets import rename_sets

_HINT = "Name a folder that python -m train.run has left, such as runs/<set>-<model>-<hash>"


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A finished run."""

    path: Path  # its folder, on this machine
    place: str  # for people: that, or the address of its store
    settings: Settings  # as it used them
    fingerprint: str  # of the data it was trained on
    input: ModelInput  # what its model is fed with
    # Where the data lay when it began, a place for each set; () where an older run did not say.
    directories: tuple[str, ...]
    again: str  # the command that writes a file of the folder anew, once it is removed

    def keep(self, folder: Path) -> None:
        """Uploads the files of a folder below its own, where the run is in a store.

        Raises:
          OSError: one is not taken; they stay where they are.
        """
        if is_address(self.place):
            files = {p.relative_to(self.path).as_posix(): p for p in folder.rglob("*")}
            files = {name: path for name, path in files.items() if path.is_file()}
            write_all(parse_output(self.place, "RUN"), files)
            print(f"uploaded: {self.place}/{folder.relative_to(self.path).as_posix()}")

    def load_model(self) -> keras.Model:
        """The model with the weights that the run chose; sets Keras's precision to the run's.

        Raises:
          ValueError: the file is damaged, or holds the model of something else.
        """
        keras.config.set_dtype_policy(self.settings.precision)
        file = self.path / MODEL
        try:
            if models.is_own(self.settings.model):  # its classes are not known to Keras
                model = own.build_own(self.settings.model, self.input.spec, self.input.num_classes)
                if scale := self.input.scale:
                    model = models.in_units(model, *scale)
                model.load_weights(file if file.exists() else self.path / WEIGHTS)
                return model
            model = keras.models.load_model(file, compile=False, safe_mode=True)
            self.input.check_model(model)
            return model
        except Exception as error:  # zipfile, HDF5 and Keras raise some ten kinds
            reason = f"{type(error).__name__}: {error}"
            # Keras would explain how to run it all the same.
            if "Python lambda" in reason or "`Lambda` layer" in reason:
                reason = "one with a Lambda layer, which is Python code and is not run"
            raise ValueError(
                f"run folder: {file} expected the Keras model of this run, received "
                f"{reason.rstrip('.')}. {_remove(self.again)}"
            ) from error

    def say(self, outputs: np.ndarray) -> np.ndarray:
        """What outputs [n, C] of the model stand for: `train.measures.metrics.say`."""
        return say(self.input.task, outputs)

    def make_call(self) -> Any:
        """Loads the model; the function from a batch of its inputs to its outputs [B, C].

        Texts int32 [B, any T]; else as the model's own input.
        """
        return make_call(self.load_model())


def make_call(model: keras.Model) -> Any:
    """The function, traced once, from a batch of a model's inputs to its outputs [B, C].

    Those are float32 logits, or float64 numbers.
    """
    shape, dtype = model.inputs[0].shape, model.inputs[0].dtype

    def call(inputs: tf.Tensor) -> tf.Tensor:
        return tf.cast(model(inputs, training=False), models.output_dtype(model))

    # Pictures are uint8 until the model casts them.
    kind = tf.uint8 if len(shape) == 4 else dtype
    # Any number of rows: the smaller last batch is not traced anew.
    signature = [tf.TensorSpec([None, *shape[1:]], kind)]
    return tf.function(call, input_signature=signature, autograph=False)


def open_run(path: str | Path) -> FinishedRun:
    """Opens a run folder; of one in a store, a copy on this machine.

    Raises:
      ValueError: it is none, or the run is unfinished; the message names the command that mends.
      StoreError: its store refuses, or does not answer.
    """
    place = os.fspath(path)
    if is_address(path):
        place = str(address := parse_output(path, "RUN"))
        path = fetch_run(address)
    check_local(path, "RUN")
    path = Path(path)
    if not (path / FILE_NAME).is_file():
        received = f"a folder without {FILE_NAME}" if path.is_dir() else "no folder"
        raise ValueError(f"run folder: {place} expected a run folder, received {received}. {_HINT}")
    stored = read_config(path, _HINT)
    if "@" in (stored.asked.model or ""):
        raise ValueError(
            f"run folder: {place} expected a run of python -m train.run, received one of "
            f"train.fit, whose model is Keras's: keras.models.load_model({str(path / MODEL)!r}), "
            "or the model's own load_weights"
        )
    again = _format_again(place, stored)
    if missing := missing_files(path):
        raise ValueError(
            f"run folder: {place} expected a finished run, received one without "
            f"{' and '.join(missing)}. To finish it: {again}"
        )
    return FinishedRun(
        path=path,
        place=place,
        settings=Settings.of(stored.asked, stored.resolved),
        fingerprint=stored.fingerprint,
        input=ModelInput.read(path, _remove(again)),
        directories=stored.directories,
        again=again,
    )


def _format_again(run: str, stored: StoredConfig) -> str:
    """The command that goes on with a run, from any folder where its data are still in place."""
    settings = stored.asked.to_dict()
    places = iter(stored.directories)
    there = [is_address(d) or (Path(d) / "dataset_info.json").exists() for d in stored.directories]
    if there and all(there):
        dataset = rename_sets(stored.asked.dataset, lambda _: next(places))
        settings |= json_ready({"dataset": dataset})
    try:
        command = format_command(RUN, settings)
    except (KeyError, ValueError):  # the settings name no model that there is
        return "the python -m train.run command that began it"
    return f"{command} --run-dir {shlex.quote(run)}"


def _remove(again: str) -> str:
    return f"Remove it, and this command writes it anew: {again}"
