"""`records-to-models COMMAND` runs our command whatever lies in the folder."""

import configparser
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from train import anywhere

REPOSITORY = Path(__file__).resolve().parents[2]
# Of the repository alone.
_OWN = {"train.demo", "benchmarks.demo", "benchmarks.gpu_cases", "benchmarks.gpu_check"}


def test_every_command_is_named() -> None:
    found = set()
    for path in REPOSITORY.glob("*/*/__main__.py"):
        found.add(".".join(path.relative_to(REPOSITORY).parts[:2]))
    for path in [*REPOSITORY.glob("train/*.py"), *REPOSITORY.glob("benchmarks/*.py")]:
        if 'if __name__ == "__main__"' in path.read_text():
            found.add(f"{path.parent.name}.{path.stem}")
    assert set(anywhere.COMMANDS) == found - _OWN - {"train.anywhere"}


def test_files_of_the_folder_hide_nothing(tmp_path: Path) -> None:
    for name in ("train", "records", "models"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('mine')\n")
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    entry = setup["options.entry_points"]["console_scripts"].strip()
    assert entry == "records-to-models = train.anywhere:main"
    # As the script that an installation writes.
    source = "import sys; from train.anywhere import main; sys.exit(main())"
    command = [sys.executable, "-P", "-c", source, "train.run", "--help"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("usage: python -m train.run"), done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["run"], 2), (["--help"], 0)])
def test_without_a_command(
    arguments: list[str], code: int, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["records-to-models", *arguments])
    assert anywhere.main() == code
    printed = capsys.readouterr()
    assert "COMMAND: builders.convert, records.describe, " in (printed.err if code else printed.out)
