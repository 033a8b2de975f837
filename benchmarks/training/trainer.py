"""Trainings in processes of their own: on several devices, with another precision, beside `fit`.

Neither devices nor Keras's precision can change within a process. A `Trainer` starts one process
for each worker and keeps it alive: it builds and warms up, then trains as many epochs as it is
told, so that several trainers can take turns.

Started with a JSON object, this module is such a process.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.measuring.child import start_child, take_request, worker_variables
from benchmarks.measuring.comparison import OURS
from benchmarks.measuring.timing import Sample, fitting_count
from benchmarks.measuring.work import Question, Work, open_work
from benchmarks.peers import keras_fit
from benchmarks.training.loop import OurLoop, build
from train.devices.strategy import make_cluster, set_up_devices

FIT = "fit"


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a training is distributed: over `devices` of each of `processes`."""

    devices: int = 1
    processes: int = 1

    @property
    def name(self) -> str:
        """As tables show it."""
        if self.processes > 1:
            return f"{self.processes} processes"
        return "one device" if self.devices == 1 else f"{self.devices} devices"

    @property
    def strategy(self) -> str:
        """The strategy's name for `make_cluster`."""
        if self.processes > 1:
            return "multi_worker"
        return "mirrored" if self.devices > 1 else "one_device"


class Trainer:
    """The processes that train one question in one layout; a context manager, which ends them."""

    def __init__(
        self,
        work: Work,
        question: Question,
        layout: Layout,
        systems: Iterable[str] = (OURS,),
        **settings: Any,
    ):
        """Starts them; `ready` waits until they are warm.

        `FIT` among `systems` trains beside ours, in the same process; `settings` are fields of
        `TrainConfig` besides the question's.
        """
        self.layout = layout
        request = {
            "directory": work.schema.directory,
            "question": dataclasses.asdict(question),
            "layout": dataclasses.asdict(layout),
            "systems": list(systems),
            "settings": settings,
        }
        several = layout.processes > 1
        # A process for each worker: all get the same request, and differ by TF_CONFIG alone.
        variables = worker_variables(layout.processes) if several else [{}]
        self._children = [start_child("benchmarks.training.trainer", request, v) for v in variables]

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *error: object) -> None:
        for child in self._children:
            child.__exit__()

    def ready(self) -> dict[str, Any]:
        """Waits until all are warm: `name`, `note` and `details` of what they train."""
        self._facts, *_ = [child.answer() for child in self._children]
        return self._facts

    def train(self, epochs: int, system: str = OURS) -> Sample:
        """All train so many epochs, as long as the slowest takes.

        Raises:
          ValueError: a process trained other steps or examples.
        """
        for child in self._children:
            child.send(json.dumps({"epochs": epochs, "system": system}))
        answers = [child.answer() for child in self._children]
        details = self._facts["details"]
        # The smaller batch at the end is a step, too.
        steps = -(-details["examples"] // details["global_batch_size"])
        expected = {"examples": epochs * details["examples"], "steps": epochs * steps}
        for answer in answers:
            trained = {name: answer[name] for name in expected}
            if trained != expected:
                raise ValueError(
                    f"benchmark: {self.layout.name} expected to train {expected}, "
                    f"received {trained}"
                )
        # Workers train in step: the slowest says how long it took.
        return Sample(expected["examples"], max(answer["seconds"] for answer in answers))

    def repetitions(self, system: str, seconds: float) -> Callable[[], Sample]:
        """One call trains whole epochs that last `seconds` and more."""
        epochs = fitting_count(self.train(1, system).seconds, seconds)
        return functools.partial(self.train, epochs, system)


def main() -> None:
    """In the child: builds, warms up, then trains as many epochs as each line says."""
    request = take_request()
    layout, question = Layout(**request["layout"]), Question(**request["question"])
    several = layout.processes > 1
    set_up_devices(None if several else layout.devices, deterministic=False)
    cluster = make_cluster(layout.strategy)
    built = build(open_work(request["directory"]), question, cluster, **request["settings"])
    train_fit = None
    if FIT in request["systems"]:
        # On the same strategy object: two of different sizes in one process poison the collectives.
        fit_work = built.fit_work()
        keras_fit.check_copy(fit_work)
        train_fit = keras_fit.make_mirrored(fit_work, cluster.strategy)
    loop = OurLoop(built, cluster)
    loop.warm_up()
    loop.train(1)  # at the pace found
    facts = {"name": built.name, "note": built.note, "details": built.details}
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        epochs, before, start = asked["epochs"], loop.steps_trained, time.perf_counter()
        if asked["system"] == FIT and train_fit is not None:
            train_fit(epochs)
            counted = {  # as its arguments say; `fit` counts nothing
                "steps": epochs * fit_work.steps_per_epoch,
                "examples": epochs * len(fit_work.labels),
            }
        else:
            examples = 0
            for _ in range(epochs):
                loop.train(1)
                examples += loop.examples_counted
            counted = {"steps": loop.steps_trained - before, "examples": examples}
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, **counted}), flush=True)


if __name__ == "__main__":
    main()
