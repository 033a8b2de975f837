"""Imports TensorFlow and Keras as a command needs them: without their noise, with our defaults."""

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def native_lines() -> Iterator[list[str]]:
    """Keeps what libraries in C write to the error stream meanwhile: its lines, after the block."""
    lines: list[str] = []
    try:
        kept = os.dup(2)
    except OSError:  # there is no error stream
        yield lines
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            notes.seek(0)
            lines += notes.read().decode(errors="replace").splitlines()


def written_bytes() -> int:
    """Bytes that this thread has written so far, to whatever file; 0 where the kernel counts none.

    A thread that only decodes writes nothing: if it did, a library in C had something to say.
    """
    try:
        with open("/proc/thread-self/io", "rb") as file:
            return int(file.read().split(b"wchar:")[1].split()[0])
    except (OSError, IndexError, ValueError):
        return 0


class NativeNotes:
    """What libraries in C write to the error stream while threads work, told apart by the work.

    A library names no file, and all threads share the stream: work after which something stands
    there is done again, `alone`.
    """

    def __init__(self) -> None:
        """Hears nothing yet."""
        self._file: IO[bytes] | None = None
        self._change = threading.Condition()
        self._sharing = self._waiting = 0

    @property
    def num_bytes(self) -> int:
        """Written so far."""
        return os.fstat(self._file.fileno()).st_size if self._file else 0

    @contextlib.contextmanager
    def listen(self, wanted: bool) -> Iterator[None]:
        """Keeps what is written meanwhile, if wanted; Python's own lines go where they went."""
        if not wanted:
            yield
            return
        sys.stderr.flush()
        kept = os.dup(2)
        with tempfile.TemporaryFile() as self._file, open(kept, "w", errors="replace") as python:
            os.dup2(self._file.fileno(), 2)
            try:
                with contextlib.redirect_stderr(python):
                    yield
            finally:
                os.dup2(kept, 2)
                self._file = None

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Work beside that of others."""
        with self._change:
            self._change.wait_for(lambda: not self._waiting)
            self._sharing += 1
        try:
            yield
        finally:
            with self._change:
                self._sharing -= 1
                self._change.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[list[str]]:
        """Work beside no other: its lines, after the block."""
        lines: list[str] = []
        with self._change:
            self._waiting += 1
            self._change.wait_for(lambda: not self._sharing)
            before = self.num_bytes
            try:
                yield lines
            finally:
                self._waiting -= 1
                self._change.notify_all()
                if self._file is not None:
                    written = os.pread(self._file.fileno(), self.num_bytes - before, before)
                    lines += written.decode(errors="replace").splitlines()


def import_tensorflow_quietly() -> None:
    """Imports TensorFlow without its start-up notes; call it before anything else imports it.

    TensorFlow 2.21 writes some notes before it reads TF_CPP_MIN_LOG_LEVEL, straight to the file
    descriptor, so that one is turned away while the import runs. If the import fails, everything
    it wrote is shown.

    Keras's backend, data format, floatx and epsilon are set, whatever a user's keras.json says.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # 2 still shows "failed call to cuInit"
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("MPLBACKEND", "Agg")  # figures are files; no window system is needed
    # Waiting threads of scikit-learn's OpenMP else spin: on 2 processors that others use, too,
    # gradient boosting took 117 s in place of 1.0.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if "tensorflow" in sys.modules:
        _set_keras()
        return
    notes: list[str] = []
    try:
        with native_lines() as notes:
            import keras
            import tensorflow as tf

            _ = (keras.__version__, tf.__version__)  # both load their parts on first use
            # It warns of functions traced for several shapes, which is what some here are for.
            tf.get_logger().setLevel("ERROR")
    except BaseException:
        sys.stderr.writelines(f"{line}\n" for line in notes)
        raise
    _set_keras()


def _set_keras() -> None:
    """Keras as the models rest on it, whatever stands in the user's ~/.keras/keras.json."""
    import keras

    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
