"""One `tfds build`, or one by a plain TFDS builder, on some cores, in a process of its own.

Started by `benchmarks.build.builders` with a JSON object: `name` of the set, `source` (the folder
of its files), `data_dir`, `cores`, and `plain`: with the plain builder of `peers.plain_builder`.
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import psutil

from benchmarks.measuring.child import take_request
from records.system.quiet import import_tensorflow_quietly
from records.system.tfds_command import run_tfds_here


def main() -> None:
    """Builds, and prints the seconds from the process's start to the build's, as JSON."""
    request = take_request()
    # Before TensorFlow is loaded, which counts its processors; the build's own processes inherit
    # it.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: request["cores"]])
    import_tensorflow_quietly()
    # What `tfds build` loads first, whatever it builds: the plain builder's command does so, too.
    import tensorflow_datasets.scripts.cli.main  # noqa: F401

    started = time.time() - psutil.Process().create_time()
    # The last line of the output is ours.
    with contextlib.redirect_stdout(sys.stderr):
        if request["plain"]:
            from benchmarks.peers import plain_builder

            plain_builder.build(request["name"], Path(request["source"]), request["data_dir"])
        else:
            builder = Path(__file__).resolve().parents[2] / "builders" / request["name"]
            flags = ["--config=kaggle", f"--manual_dir={request['source']}"]
            try:
                run_tfds_here(["build", str(builder), *flags, f"--data_dir={request['data_dir']}"])
            except SystemExit as done:
                if done.code:
                    raise
    print(json.dumps({"startup_seconds": started}))


if __name__ == "__main__":
    main()
