"""Names and secrets of others: handled as they are, shown escaped, and told to nobody."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from builders.fetal_health.table import FEATURE_NAMES
from builders.song_lyrics import tables
from builders.sources import find_files
from records.decoding.input_config import InputConfig
from records.describe.__main__ import main as describe
from records.opened import open_set
from records.roles import Data
from records.service import __main__ as service
from records.sets.find import find_directory
from records.sets.schema import IMAGE
from records.system.writing import escape_cell
from records.verify.__main__ import main as verify
from tests.support.faults import record_fault
from tests.support.fuzz_inputs import make_picture, make_run_folder
from train.devices.meeting import make_server
from train.engine import tensorboard_files
from train.evaluate import main as evaluate
from train.export import main as export
from train.measures.plots import draw_confusion
from train.predict import main as predict
from train.run import main as train

pytestmark = pytest.mark.pictures  # with such names in them

REPOSITORY = Path(__file__).resolve().parents[2]

WEIRD = "a b 'q\" $HOME `x` ünï; 100% {0} [*?] \n# é&<b>|"


@pytest.fixture
def weird(tmp_path: Path) -> Path:
    """A folder whose name holds all that has a meaning somewhere, named by way of `..`."""
    (tmp_path / WEIRD).mkdir()
    return tmp_path / WEIRD / ".." / WEIRD


def test_every_command_works_in_folders_of_any_name(
    weird: Path, synthetic_data_dir: Path, tmp_path: Path, capsys: Any
) -> None:
    source = Path(find_directory("fetal_health/synthetic", str(synthetic_data_dir)))
    data = weird / "data"
    shutil.copytree(source, data / "fetal_health" / "synthetic" / source.name)
    where, run = f"--data-dir={data}", weird / "run"
    flags = ["--dataset=fetal_health/synthetic", where, "--model=mlp_small", "--epochs=1"]
    flags += ["--no-xla", "--strategy=one_device", f"--run-dir={run}"]
    assert train([*flags, "--cache=disk"]) == 0
    assert train(flags) == 0  # finds the finished run
    assert "is a finished run" in capsys.readouterr().out
    assert verify([str(data)]) == 0
    assert describe(["fetal_health/synthetic", where, f"--output={weird / 'figures'}"]) == 0
    assert evaluate([str(run), where]) == 0
    table = weird / "rows.csv"
    table.write_text(",".join(FEATURE_NAMES) + "\n" + ",".join(["1"] * 21) + "\n")
    assert predict([str(run), str(table), f"--output={weird / 'out.csv'}"]) == 0
    capsys.readouterr()
    assert export([str(run), f"--output={weird / 'model'}"]) == 1
    message = capsys.readouterr().err
    record_fault("an export to a folder with [ in its name", message, "nothing is written", weird)
    output = tmp_path / "model"
    assert export([str(run), f"--output={output}", f"--check={table}"]) == 0
    shutil.rmtree(output)
    assert {p.name for p in tmp_path.iterdir()} == {WEIRD}
    written = {p.name for p in run.iterdir()}
    assert {"metrics.json", "model.keras", "history.csv", "checkpoints"} <= written


def test_pictures_of_any_name_are_predicted(tmp_path: Path, capsys: Any) -> None:
    run, folder, out = make_run_folder(tmp_path / "run", IMAGE), tmp_path / "in", tmp_path / "o.csv"
    names = ["=1+2,\"x'.png", "a\nb\x1b[2J.png", "..png", "Ünï|<b>.png", "-rf.png"]
    (folder / "sub dir").mkdir(parents=True)
    for name in names:
        (folder / "sub dir" / name).write_bytes(make_picture("PNG"))
    raw = os.fsencode(folder) + b"/\xff\xfe.png"  # no UTF-8
    Path(os.fsdecode(raw)).write_bytes(make_picture("PNG"))
    (folder / "bad\n  good.png: fine\x1b[2J.png").write_bytes(b"x")
    assert predict([str(run), str(folder), f"--output={out}"]) == 0
    with open(out, newline="", encoding="utf-8") as file:
        found = [row[0] for row in list(csv.reader(file))[1:]]
    assert sorted(found) == sorted([*(f"sub dir/{name}" for name in names), r"\xff\xfe.png"])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    (line,) = [line for line in printed.splitlines() if "expected JPEG or PNG" in line]
    assert line == r"  bad\n  good.png: fine\x1b[2J.png: expected JPEG or PNG"
    record_fault("a picture's name that holds line ends", line, "left out, said in one line")


def test_ids_and_genres_of_any_kind_are_read(tmp_path: Path) -> None:
    # No "|", ";", "," or "/" in the genre: they part genres.
    link, genre = "/../a b'\"\n|é/", 'Ro\\ck "n" <Roll>\n'
    artists, lyrics = tmp_path / "artists.csv", tmp_path / "lyrics.csv"
    for file, rows in {
        artists: [["Artist", "Link", "Genres"], ['Ünï, "x"', link, genre]],
        lyrics: [["ALink", "SLink", "Lyric", "language"], [link, "../../etc", "la\nla", "en"]],
    }.items():
        with open(file, "w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows(rows)
    known = tables.read_artists(artists)
    assert known[link].genres == ('Ro\\ck "n" <Roll>',)
    songs = list(tables.read_songs(lyrics, known, ("en",), tables.Drops()))
    assert songs == [(1, link, "../../etc", "la\nla")]


def test_class_names_of_any_kind_are_shown() -> None:
    names = ("$x^{", "a|b\nc", "<script>")
    assert escape_cell(names[1]) == r"a\|b c" and escape_cell(names[2]) == "&lt;script>"
    assert escape_cell("no_tumor _a_ **b** `c`") == r"no_tumor \_a\_ \*\*b\*\* \`c\`"
    assert escape_cell("![x](http://a.b) &lt;") == r"!\[x\](http://a.b) &amp;lt;"
    assert draw_confusion(np.eye(3, dtype=np.int64), names, "test").startswith(b"\x89PNG")


SECRET = "kg-5ecret-9f31c0"


def test_a_token_is_told_to_nobody(
    synthetic_data_dir: Path, tmp_path: Path, monkeypatch: Any, capfd: Any
) -> None:
    for name in ("KAGGLE_KEY", "KAGGLE_API_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, SECRET)
    run = tmp_path / "run"
    flags = ["--dataset=fetal_health/synthetic", f"--data-dir={synthetic_data_dir}"]
    flags += ["--model=mlp_small", "--epochs=2", "--strategy=one_device", f"--run-dir={run}"]
    assert train([*flags, "--no-xla", "--profile=1,3"]) == 0
    files = [p for p in run.rglob("*") if p.is_file()]
    assert len(files) > 8
    assert not [p for p in files if SECRET.encode() in p.read_bytes()]
    printed = "".join(capfd.readouterr())
    assert "time: setup" in printed and SECRET not in printed


class _Downloads:
    """TFDS's download manager with a Kaggle that fails."""

    def __init__(self, manual_dir: Path):
        self.manual_dir = manual_dir

    def download_kaggle_data(self, name: str) -> Path:
        raise RuntimeError(f"401 for {name} with key {SECRET}")


def test_a_failed_download_does_not_show_the_token(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", SECRET)
    monkeypatch.delenv("KAGGLE_API_TOKEN", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    place = "builders/fetal_health"
    with pytest.raises(FileNotFoundError) as error:
        find_files(_Downloads(tmp_path), place, ["a.csv"], "a/b", manual_dir_given=False)
    assert SECRET not in str(error.value) and error.value.__cause__ is None
    assert error.value.__suppress_context__
    record_fault(
        "Kaggle refuses the token", str(error.value), "the build ends; the token is hidden"
    )


def test_the_data_service_listens_only_where_that_was_agreed_to(
    monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(service, "run_local", lambda *_: pytest.fail("started"))
    monkeypatch.setattr(service, "run_dispatcher", lambda *_: pytest.fail("started"))
    monkeypatch.setattr(service, "run_worker", lambda *_: pytest.fail("started"))
    worker = ["worker", "--dispatcher", "localhost:1", "--index", "0", "--of", "1"]
    for command in (["local"], ["dispatcher"], worker):
        assert service.main(command) == 1
        message = capsys.readouterr().err
        assert "every network interface" in message and "Add --expose" in message
    record_fault("a data service without --expose", message, "nothing is started")


def test_workers_of_one_machine_meet_where_no_other_reaches_them() -> None:
    for host in ("localhost", "127.0.0.1"):
        with make_server(host, 0) as server:
            assert server.getsockname()[0] == "127.0.0.1"
    with make_server("127.0.0.7", 0) as server:
        assert server.getsockname()[0] == "127.0.0.7"
    with make_server(socket.gethostname(), 0) as server:
        assert server.getsockname()[0] in ("::", "0.0.0.0")


@pytest.mark.parametrize("name", ["records", "models"])
def test_a_file_of_the_user_that_hides_a_package_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("print('mine')")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    paths = f"import sys; sys.path.insert(1, {str(REPOSITORY)!r});"

    def run(*flags: str) -> subprocess.CompletedProcess[str]:
        start = f"{paths} sys.argv[0] = '-m'; import train"
        command = [sys.executable, *flags, "-c", start]
        options = {"capture_output": True, "text": True, "env": environment}
        return subprocess.run(command, cwd=tmp_path, **options)  # type: ignore[call-overload]

    hidden = run()
    assert hidden.returncode == 1 and hidden.stdout == ""
    expected = f"error: place: {tmp_path / name}.py hides the package {name!r} of this project"
    assert hidden.stderr.startswith(expected) and "python -P -m" in hidden.stderr
    assert run("-P").returncode == 0


def test_tensorboards_table_of_samples_holds_any_class_name(
    synthetic_data_dir: Path, monkeypatch: Any
) -> None:
    opened = open_set("fetal_health/synthetic", str(synthetic_data_dir))
    schema = dataclasses.replace(
        opened.schema, class_names=("a|b", "x\n| y |", "![x](http://y)<b>")
    )
    opened = dataclasses.replace(opened, schema=schema)
    data, texts = Data(opened, InputConfig()), []
    monkeypatch.setattr(tf.summary, "text", lambda name, text: texts.append(text))
    tensorboard_files._write_samples(data, data.examples("train"))
    rows = [re.split(r"(?<!\\)\|", line) for line in texts[0].splitlines()]
    # A row for each feature, a column for each of 8 examples.
    assert len(rows) == len(FEATURE_NAMES) + 2 and {len(row) for row in rows} == {1 + 8 + 2}
    # A picture in it would make the viewer's browser call out.
    assert "<b>" not in texts[0] and "![x](" not in texts[0]
