"""Ours beside `fit` under MirroredStrategy on two logical CPU devices; a process of its own.

Started by `benchmarks.training.fit` with a JSON object: directory, question, repetitions, seconds.
Both use one strategy object: two of different sizes in one process poison the collectives.
"""

from __future__ import annotations

import dataclasses
import json

from benchmarks.measuring.child import take_request
from records.system.quiet import import_tensorflow_quietly


def main() -> None:
    """Measures and prints the samples of both, as JSON."""
    request = take_request()
    import_tensorflow_quietly()
    from benchmarks.measuring.timing import OURS, alternate
    from benchmarks.measuring.work import Question, open_work
    from benchmarks.peers import keras_fit
    from benchmarks.training.fit import check_fit, make_fit_work
    from benchmarks.training.loop import OurLoop, build, steps_per_second, timed_epochs
    from train.devices.strategy import make_cluster, set_up_devices

    set_up_devices(2, deterministic=False)
    cluster = make_cluster("mirrored")
    work = open_work(request["directory"])
    built = build(work, Question(**request["question"]), cluster)
    fit_work = make_fit_work(built)
    check_fit(fit_work, work)
    train = keras_fit.make_mirrored(fit_work, cluster.strategy)
    loop = OurLoop(built, cluster)
    loop.warm_up()
    trains = {OURS: loop.train, "fit": train}
    systems = timed_epochs(trains, len(fit_work.labels), request["seconds"])
    samples = alternate(systems, request["repetitions"])
    size = fit_work.global_batch_size
    found = {
        "name": built.name,
        "note": built.note,
        "details": built.details,
        "steps_per_second": steps_per_second(samples, size, len(fit_work.labels)),
        "samples": {name: [dataclasses.asdict(s) for s in samples[name]] for name in samples},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
