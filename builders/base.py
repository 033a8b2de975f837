"""The base of the project's TFDS builders: shard counts, refusals, fingerprint and record index."""

import abc
import contextlib
import inspect
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging
from etils import epath
from google.protobuf.json_format import ParseError

from builders import build_request, messages, sources, storage, writing
from records.sets import fingerprint
from records.sets.builder_source import source_change, write_source_hash
from records.stores.address import Address, is_address, parse_output
from records.system.places import check_local

# At import: the `tfds` command gives no other place between its start and the first error.
messages.shorten_tracebacks()
SYNTHETIC = "synthetic"
_INPUT_KEYS = ("input_feature", "label_feature", "id_feature", "group_feature")
_METADATA_KEYS = (*_INPUT_KEYS, "generated", "dropped", "class_counts")


class RecordsBuilder(  # type: ignore[call-arg]
    tfds.core.GeneratorBasedBuilder, skip_registration=True
):
    """Builds a set of TFRecord shards with a fingerprint and a record index.

    A subclass defines `VERSION`, `BUILDER_CONFIGS` (first `kaggle`; one named `synthetic`),
    `NUM_SHARDS`, `MANUAL_DOWNLOAD_INSTRUCTIONS` and the methods `_info`, `_split_generators`,
    `_generate_examples` and `write_synthetic_source`. `_info` calls `make_info`;
    `_split_generators` finds its files with `find_source` and calls `set_counts`.

    Attributes:
      NUM_SHARDS: shards per split, unless `--num_shards` asks for another number; a split never
        gets more shards than it has examples.
    """

    NUM_SHARDS: int = 4

    def __init__(self, *, file_format: Any = None, **kwargs: Any):
        """Makes a builder; arguments as for any TFDS builder.

        Raises:
          ValueError: `file_format` is not tfrecord, `data_dir` is an address that cannot be
            written, or the metadata of the set that lies there are damaged.
        """
        self._store: Address | None = None
        place: Any = kwargs.get("data_dir")
        if is_address(place):
            # Built here first: a build that ends early then leaves nothing there.
            self._store = parse_output(place, "--data_dir")
            kwargs["data_dir"] = storage.local_copy(self._store)
        check_local(kwargs.get("data_dir"), "--data_dir", is_output=True)
        build_request.check_file_format(self.place, file_format)
        self._synthetic_dir: Path | None = None
        # What works on many rows in place of this machine: a `BeamRun`, or None.
        self.workers: Any = None
        self._manual_dir_given = False
        try:
            super().__init__(file_format=file_format, **kwargs)
        except ParseError as error:  # also with --overwrite, which TFDS asks for later
            raise ValueError(
                f"{self.place}: {self.data_dir}/dataset_info.json expected JSON as TFDS writes it, "
                f"received something else ({error}). Remove that folder, and build the set again"
            ) from None

    @property
    def place(self) -> str:
        """First words of messages: the builder's folder."""
        return f"builders/{self.name}"

    @property
    def address(self) -> Address | None:
        """Where the set lies in a store; None where it lies in `data_dir`."""
        if self._store is None:
            return None
        return self._store / Path(self.data_dir).relative_to(self.data_dir_root).as_posix()

    @property
    def is_synthetic(self) -> bool:
        """Whether this config's data are generated."""
        return self.builder_config is not None and self.builder_config.name == SYNTHETIC

    @property
    def data_path(self) -> epath.Path:
        """Directory of this config and version; deleting it only sets it aside."""
        return storage.GuardedPath(self.data_dir)

    def is_prepared(self) -> bool:
        """Whether the set is complete; without TFDS's warning where there is none at all."""
        return bool(self.data_path.is_dir() and super().is_prepared())

    @abc.abstractmethod
    def write_synthetic_source(self, directory: Path) -> None:
        """Writes generated source files, in the layout and with the quirks of the real ones."""

    def make_info(
        self,
        features: dict[str, Any],
        *,
        input_feature: str,
        id_feature: str,
        homepage: str,
        group_feature: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> tfds.core.DatasetInfo:
        """Returns what `_info` must return.

        Args:
          features: feature name to TFDS feature; the class is called `label`.
          input_feature: the feature a model reads by default.
          id_feature: the feature that names an example.
          group_feature: the feature whose equal values must stay in one split or fold, or None.
          metadata: further metadata, written as JSON.
        """
        # `set_counts` fills the last two once the source is read.
        values = {
            "input_feature": input_feature,
            "label_feature": "label",
            "id_feature": id_feature,
            "group_feature": group_feature,
            "generated": self.is_synthetic,
            "dropped": {},
            "class_counts": {},
            **(metadata or {}),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=(input_feature, "label"),
            homepage=homepage,
            metadata=tfds.core.MetadataDict(values),
        )

    def set_counts(
        self, class_counts: dict[str, int], dropped: dict[str, int] | None = None
    ) -> None:
        """Stores {class: examples over all splits} and {reason: rows left out}; says the latter."""
        # `int`: metadata become JSON, which knows no NumPy integers.
        self.info.metadata["class_counts"] = {k: int(v) for k, v in class_counts.items()}
        self.info.metadata["dropped"] = {k: int(v) for k, v in (dropped or {}).items()}
        for reason, count in self.info.metadata["dropped"].items():
            self.report(f"dropped {count} ({reason})")

    def report(self, message: str) -> None:
        """Logs one line that starts with the builder's place."""
        logging.info("%s: %s", self.place, message)

    def find_source(self, dl_manager: Any, files: Sequence[str], kaggle_name: str) -> Path:
        """As `builders.sources.find_files`; for the synthetic config it makes the files."""
        if self._synthetic_dir is not None:
            self.write_synthetic_source(self._synthetic_dir)
            return self._synthetic_dir
        found = sources.find_files(
            dl_manager, self.place, files, kaggle_name, manual_dir_given=self._manual_dir_given
        )
        return found.absolute() if self.workers else found  # they may have another directory

    def download_and_prepare(
        self,
        *,
        download_dir: Any = None,
        download_config: tfds.download.DownloadConfig | None = None,
        file_format: Any = None,
        **kwargs: Any,
    ) -> None:
        """Builds the set, as TFDS does; with what the module's other parts add.

        With an address for `data_dir` it is then checked and uploaded, and the local copy goes.

        Raises:
          ValueError: the request asks for something that would be ignored or lose data, or the
            source files are not as expected.
          FileNotFoundError: the source files are missing.
          OSError: the data directory cannot be written.
          RuntimeError: another build of this config is running.
          StoreError: it cannot be uploaded; the same command uploads what was built.
        """
        request = download_config or tfds.download.DownloadConfig()
        check_local(request.manual_dir, "--manual_dir")
        if self.address is None:
            self._build(request, download_dir, file_format, **kwargs)
            return
        from records.verify.upload import check_free, upload_set

        # A build begins anew where it was asked to with --overwrite.
        keeps = request.download_mode == tfds.download.GenerateMode.REUSE_DATASET_IF_EXISTS
        check_free(self.address, overwrite=not keeps)
        self._build(request, download_dir, file_format, **kwargs)
        upload_set(self.data_dir, self.address)
        shutil.rmtree(self.data_dir)

    def _build(
        self,
        request: tfds.download.DownloadConfig,
        download_dir: Any,
        file_format: Any,
        **kwargs: Any,
    ) -> None:
        """Builds the set in `data_dir`."""
        final = Path(self.data_dir)
        reuse = request.download_mode == tfds.download.GenerateMode.REUSE_DATASET_IF_EXISTS
        if reuse and final.is_dir() and not storage.aside_path(final).exists():
            # Nothing is written here: prepared data may lie on a read-only disk.
            build_request.check_file_format(self.place, file_format)
            build_request.check_request(self.place, request, self.NUM_SHARDS)
            self._reuse(request)
            return
        # Before the source is read and cleaned, which takes long.
        storage.check_writable(final.parent, self.place)
        writes_to = [str(final.parent), *([tempfile.gettempdir()] * self.is_synthetic)]
        with (
            storage.full_disk_explained(writes_to, self.place),
            storage.lock(final.parent, self.place),
            self._old_copy_kept(final),
        ):
            build_request.check_file_format(self.place, file_format)
            build_request.check_request(self.place, request, self.NUM_SHARDS)
            # Writes metadata alone; no shard is touched.
            if request.download_mode == tfds.download.GenerateMode.UPDATE_DATASET_INFO:
                super().download_and_prepare(download_dir=download_dir, download_config=request)
                return
            # Under the lock: the folder of a running build looks the same.
            leftovers = storage.remove_leftovers(final)
            if leftovers:
                self.report(f"removed what {leftovers} killed build(s) left in {final.parent}")
            if reuse and storage.restore_aside(final):
                self.report(f"an --overwrite was cut short; its old copy is back in {final}")
                self.info.read_from_directory(self.data_dir)
            if reuse and final.is_dir():
                self._reuse(request)
                return
            self._manual_dir_given = request.manual_dir is not None
            super().download_and_prepare(
                download_dir=download_dir,
                download_config=build_request.with_shards(request, self.NUM_SHARDS),
                file_format=file_format,
                **kwargs,
            )

    @contextlib.contextmanager
    def _old_copy_kept(self, final: Path) -> Iterator[None]:
        """Puts an overwritten set back when its successor fails, deletes it when it is complete."""
        try:
            yield
        # Also Ctrl-C: the old copy must come back.
        except BaseException:
            if storage.restore_aside(final):
                self.report(f"the copy that stood in {final} before is kept")
            raise
        storage.drop_aside(final)

    def _reuse(self, request: tfds.download.DownloadConfig) -> None:
        """Says that the set is there; refuses what would need it to be built anew.

        Raises:
          ValueError: another number of shards, or a cut, was asked for.
        """
        rebuild = f"To build it anew: {self._command(request)} --overwrite"
        for split in self.info.splits.values() if request.num_shards else ():
            # A split never gets more shards than it has examples.
            expected = min(request.num_shards, split.num_examples)
            if split.num_shards != expected:
                raise ValueError(
                    f"{self.place}: {self.data_dir} is already prepared; --num_shards expected "
                    f"{expected} shards of split {split.name}, received {split.num_shards}. "
                    f"{rebuild} --num_shards={request.num_shards}"
                )
        if request.max_examples_per_split is not None:
            raise ValueError(
                f"{self.place}: {self.data_dir} is already prepared; --max_examples_per_split="
                f"{request.max_examples_per_split} would be ignored. {rebuild}"
            )
        if change := source_change(self.data_dir, self._folder):
            logging.warning("%s: %s", self.place, change)
        self.report(
            f"already prepared in {self.data_dir}, used as it is; the source files were not read. "
            + rebuild
        )

    @property
    def _folder(self) -> Path:
        """That of the builder's source."""
        return Path(inspect.getfile(type(self))).parent

    def _command(self, request: tfds.download.DownloadConfig) -> str:
        """The `tfds build` of this set, as a shell takes it here."""
        command = ["tfds", "build", os.path.relpath(self._folder)]
        if self.builder_config:
            command += ["--config", self.builder_config.name]
        if request.manual_dir and not self.is_synthetic:
            command += ["--manual_dir", os.fspath(request.manual_dir)]
        return shlex.join([*command, "--data_dir", str(self._store or self.data_dir_root)])

    def _download_and_prepare(
        self, dl_manager: Any, download_config: tfds.download.DownloadConfig
    ) -> None:
        """Writes shards, metadata, fingerprint and index into the incomplete directory."""
        with contextlib.ExitStack() as stack:
            if self.is_synthetic:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=self.name))
                self._synthetic_dir = Path(folder)
            if build_request.asks_for_beam(download_config):
                from builders.on_beam import BeamRun  # takes seconds

                self.workers = stack.enter_context(
                    BeamRun(download_config, Path(self.data_dir) / "beam")
                )
            try:
                super()._download_and_prepare(dl_manager, download_config)
            finally:
                # The folders go with the stack: no later call may look for files there.
                self._synthetic_dir = self.workers = None
        if download_config.max_examples_per_split == 0:
            return
        self._check_metadata()
        # The index is parsed by the stored metadata, and all must be there when TFDS renames the
        # directory to its final name. TFDS writes the same metadata once more after this.
        self.info.write_to_directory(self.data_dir)
        fingerprint.write_fingerprint(self.data_dir)
        write_source_hash(self.data_dir, self._folder)
        # Needed by a build alone: `info` and `as_dataset` go without it.
        from records.decoding import indexing

        indexing.write_indexes(os.path.normpath(self.data_dir))

    def _generate_splits(
        self, dl_manager: Any, download_config: tfds.download.DownloadConfig
    ) -> list[tfds.core.SplitInfo]:
        """As TFDS: each split of `_split_generators`, here or on Beam; the files are the same."""
        splits = self._split_generators(dl_manager).items()
        if self.workers:
            place = {name: self._get_filename_template(name) for name, _ in splits}
            return list(
                self.workers.write_splits(splits, self.info.features, place, download_config)
            )
        return [
            writing.write_split(
                name,
                examples,
                self.info.features,
                self._get_filename_template(name),
                download_config,
            )
            for name, examples in tfds.core.utils.tqdm(
                splits, desc="Generating splits...", unit=" splits", leave=False
            )
        ]

    def _check_metadata(self) -> None:
        metadata = self.info.metadata
        missing = [key for key in _METADATA_KEYS if key not in metadata]
        names = getattr(self.info.features["label"], "names", [])  # numbers have none
        # A class that is missing or misspelt would be counted nowhere.
        if missing or sorted(metadata["class_counts"]) != sorted(names):
            raise ValueError(
                f"{self.place}: metadata expected {', '.join(_METADATA_KEYS)} and a count of each "
                f"of {names}, received {dict(metadata)}"
            )
