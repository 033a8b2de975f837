"""`make results`: its commands parse, and what is finished is not done again (with a stub)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from train import baseline, cross_validate, evaluate, pretrain, results
from train.run import parse_config

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = "train/reproduce_results.sh"

# In place of the interpreter: notes the command, and makes the files that it would make.
STUB = f"""#!{sys.executable}
import json, pathlib, sys
words = sys.argv[2:]
with open("commands.jsonl", "a") as file:
    file.write(json.dumps(words) + "\\n")
def value(flag):
    return words[words.index(flag) + 1]
def touch(*parts):
    path = pathlib.Path(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
if words[0] == "train.run":
    touch(value("--run-dir"), "metrics.json")
elif words[0] == "train.evaluate":
    touch(words[1], f"evaluation-{{value('--split')}}", "evaluation.json")
elif words[0] != "train.results":
    touch(value("--output"))
"""


def _call(folder: Path) -> list[list[str]]:
    """The commands of one call, in order."""
    log = folder / "commands.jsonl"
    log.unlink(missing_ok=True)
    subprocess.run([folder / SCRIPT, "sets", "out folder"], check=True, timeout=60)
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_commands_parse_and_are_given_once(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    shutil.copy(REPOSITORY / SCRIPT, tmp_path / SCRIPT)
    stub = tmp_path / ".venv" / "bin" / "python"
    stub.parent.mkdir(parents=True)
    stub.write_text(STUB)
    stub.chmod(0o755)
    commands = _call(tmp_path)
    parsers = {
        "train.run": parse_config,
        "train.evaluate": evaluate.parse_arguments,
        "train.baseline": baseline.parse_arguments,
        "train.pretrain": pretrain.parse_arguments,
        "train.cross_validate": cross_validate.parse_arguments,
        "train.results": results.parse_arguments,
    }
    for module, *flags in commands:
        parsers[module](flags)
    assert set(parsers) == {module for module, *_ in commands}
    runs = [words for words in commands if words[0] == "train.run"]
    read = Counter(tuple(words[1:]) for words in commands if words[0] == "train.evaluate")
    assert set(read.values()) == {1}, "a split is read once"
    splits = [words[words.index("--split") + 1] for words in read]
    of_test = [split for split in splits if split in ("test", "test_new")]
    compared = 3  # on validation alone
    assert splits.count("test_new") == 1, "the new pictures"
    assert len(of_test) == len(runs) - compared + 1, "and every other run's"
    page = results.parse_arguments(commands[-1][1:])
    made = {path.name for path in (tmp_path / "out folder").iterdir()}
    listed = [*page.cross_validations, *page.baselines, *page.runs]
    weights = {words[words.index("--weights") + 1] for words in runs if "--weights" in words}
    listed += map(Path, weights)
    assert made == {path.name for path in listed}, "all of it stands on the page or is used"
    assert _call(tmp_path) == commands[-1:], "a second call only writes the page"
