"""`python -m train.predict`: the evaluator's predictions from the source files, and bad input."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from builders.brain_tumor_mri.synthetic import write_pictures
from builders.fetal_health.synthetic import write_csv
from train.assembly.predictions import predict_split
from train.folders.finished_run import open_run
from train.predict import main


def _predict(run: Path, source: Path, output: Path, *flags: str, code: int = 0) -> dict[str, Any]:
    """{input: (predicted, probabilities [C])} of the output."""
    assert main([str(run), str(source), f"--output={output}", *flags]) == code
    with open(output, newline="") as file:
        header, *rows = csv.reader(file)
    names = open_run(run).input.class_names
    assert header == ["input", "predicted", *(f"probability_{name}" for name in names)]
    found = {name: (predicted, np.array(p, float)) for name, predicted, *p in rows}
    assert len(found) == len(rows)
    assert all(predicted == names[p.argmax()] for predicted, p in found.values())
    return found


def _evaluator(run: Path, data_dir: Path, *features: str) -> tuple[list[tuple], np.ndarray]:
    """(stored features of the test examples, the evaluator's probabilities [n, C])."""
    _, examples, probability = predict_split(open_run(run), "test", str(data_dir))
    rows = []
    for payload in examples.loader.read(examples.numbers):
        stored = tf.train.Example.FromString(payload).features.feature
        rows.append(tuple(stored[f].bytes_list.value[0].decode() for f in features))
    return rows, probability


def test_rows_of_the_source_table(
    finished_runs: dict[str, Path], synthetic_data_dir: Path, tmp_path: Path
) -> None:
    """Columns in another order, among others."""
    run = finished_runs["fetal_health"]
    write_csv(tmp_path)
    table = pd.read_csv(tmp_path / "fetal_health.csv", dtype=str)
    table = table[table.columns[::-1]].assign(note="a, b")
    table.to_csv(tmp_path / "source.csv", index=False)
    found = _predict(run, tmp_path / "source.csv", tmp_path / "out.csv")
    assert len(found) == len(table)
    rows, expected = _evaluator(run, synthetic_data_dir, "id")
    received = [found[str(int(name.removeprefix("row-")))][1] for (name,) in rows]
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_pictures_of_the_source_folder(
    finished_runs: dict[str, Path],
    synthetic_data_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Damaged files among them are named and left out; one picture alone gives the same."""
    run, pictures = finished_runs["brain_tumor_mri"], tmp_path / "pictures"
    pictures.mkdir()
    write_pictures(pictures)
    (pictures / "Testing" / "notes.txt").write_text("no picture")
    rows, expected = _evaluator(run, synthetic_data_dir, "filename")
    whole = (pictures / rows[0][0]).read_bytes()
    (pictures / "Testing" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (pictures / "Testing" / "empty.jpg").touch()
    capsys.readouterr()
    found = _predict(run, pictures / "Testing", tmp_path / "out.csv")
    printed = capsys.readouterr().out
    assert f"3 of {len(rows) + 3} were left out" in printed
    for name in ("notes.txt", "cut.jpg: its end is missing", "empty.jpg"):
        assert f"  {name}" in printed
    received = np.array([found[name.removeprefix("Testing/")][1] for (name,) in rows])
    np.testing.assert_allclose(received, expected, atol=1e-5)
    (alone,) = _predict(run, pictures / rows[0][0], tmp_path / "one.csv").values()
    np.testing.assert_allclose(alone[1], expected[0], atol=1e-5)


def test_nothing_below_a_folder_is_passed_over(
    finished_runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Links are followed, also to folders; what cannot be read is named."""
    pictures = tmp_path / "all"
    pictures.mkdir()
    write_pictures(pictures)
    folder, elsewhere = tmp_path / "chosen", pictures / "Testing" / "no_tumor"
    folder.mkdir()
    files = sorted(elsewhere.iterdir())
    (folder / "=1+2.jpg").write_bytes(files[0].read_bytes())
    (folder / "linked").symlink_to(elsewhere, target_is_directory=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    said = exif.tobytes()
    segment = b"\xff\xe1" + (len(said) + 2).to_bytes(2, "big") + said
    whole = files[0].read_bytes()
    (folder / "side.jpg").write_bytes(whole[:2] + segment + whole[2:])
    with Image.open(files[0]) as picture:
        picture.transpose(Image.Transpose.ROTATE_270).save(folder / "turned.png")
    (folder / "around").symlink_to(folder, target_is_directory=True)
    (folder / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    with open(folder / "huge.jpg", "wb") as sparse:
        sparse.truncate(60 * 10**9)
    found = _predict(finished_runs["brain_tumor_mri"], folder, tmp_path / "out.csv")
    # A spreadsheet would take the bare name for a formula.
    assert list(found) == [
        "'=1+2.jpg",
        *(f"linked/{file.name}" for file in files),
        "side.jpg",
        "turned.png",
    ]
    printed = capsys.readouterr().out
    assert f"{len(files) + 3} of {len(files) + 6} predicted" in printed
    # Upright: as the same picture whose pixels were turned.
    np.testing.assert_allclose(found["side.jpg"][1], found["turned.png"][1], atol=1e-6)
    assert "  around: a link to a folder around it" in printed
    assert "  gone.jpg: a link to nothing" in printed
    assert "  huge.jpg: a file of 60,000,000,000 bytes" in printed


def test_no_file_of_the_run_is_replaced(
    finished_runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, source = finished_runs["fetal_health"], tmp_path / "rows.csv"
    source.write_bytes(_table("1.0"))
    for name in ("model.keras", "config.json", "history.csv"):
        before = (run / name).read_bytes()
        assert main([str(run), str(source), f"--output={run / name}"]) == 1
        assert "is a file of the run, which would be lost" in capsys.readouterr().err
        assert (run / name).read_bytes() == before


def test_a_number_with_an_underscore_is_none(
    finished_runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python reads 17_00 as 1700; the builders refuse it."""
    source, output = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_bytes(_table("17_00"))
    assert main([str(finished_runs["fetal_health"]), str(source), f"--output={output}"]) == 1
    assert "expected a finite number" in capsys.readouterr().err and not output.exists()


def test_the_input_is_never_replaced(
    finished_runs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The default --output has a name that people give their input, too."""
    monkeypatch.chdir(tmp_path)
    Path("predictions.csv").write_bytes(_table("1.0"))
    Path("link.csv").symlink_to("predictions.csv")
    run = str(finished_runs["fetal_health"])
    assert main([run, "predictions.csv"]) == main([run, "link.csv"]) == 1
    assert "--output predictions.csv is the input itself" in capsys.readouterr().err
    assert Path("predictions.csv").read_bytes() == _table("1.0")


def test_a_prediction_that_is_no_number_names_its_row(
    finished_runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """float32 holds the input, but not what the network makes of it."""
    source, output = tmp_path / "source.csv", tmp_path / "out.csv"
    source.write_bytes(_table("1.5").replace(b"1.5", b"3e38"))
    assert main([str(finished_runs["fetal_health"]), str(source), f"--output={output}"]) == 1
    assert "predict: 1: expected probabilities, received [nan" in capsys.readouterr().err
    assert not output.exists()


def test_texts_of_the_set(
    finished_runs: dict[str, Path],
    synthetic_data_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = finished_runs["song_lyrics"]
    rows, expected = _evaluator(run, synthetic_data_dir, "text")
    with open(tmp_path / "songs.csv", "w", newline="") as file:
        csv.writer(file).writerows([("Lyric",), *rows, ("?!",)])
    found = _predict(run, tmp_path / "songs.csv", tmp_path / "out.csv", "--column=Lyric")
    received = [found[str(i + 1)][1] for i in range(len(rows))]
    np.testing.assert_allclose(received, expected, atol=1e-5)
    printed = capsys.readouterr().out
    assert f"1 of {len(rows) + 1} were left out:\n  {len(rows) + 1}: no words in it" in printed
    # One text per line: those of the set that are one.
    short = "Dusty road, broken heart\n\nneon lights and the dance floor\n"
    (tmp_path / "songs.txt").write_text(short)
    flags = ("--strict",)
    found = _predict(run, tmp_path / "songs.txt", tmp_path / "lines.csv", *flags, code=1)
    assert list(found) == ["1", "3"], "written all the same"
    assert "  2: no words in it" in capsys.readouterr().out


def _table(change: str) -> bytes:
    """A table of two rows with one thing wrong."""
    from builders.fetal_health.table import FEATURE_NAMES

    header, row = list(FEATURE_NAMES), ["1.5"] * len(FEATURE_NAMES)
    lines = [header, row, list(row)]
    if change == "column":
        header[3] = "other"
    elif change == "short":
        lines[2].pop()
    else:
        lines[2][4] = change
    return "\n".join(",".join(line) for line in lines).encode()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "fetal_health",
            _table("column"),
            "each of the model's 21 columns once, parted by commas, semicolons, tabs or |, "
            "received a header with missing: 'uterine_contractions'; other names: 'other'",
        ),
        ("fetal_health", _table("high"), "line 3, column 'light_decelerations': expected a finite"),
        ("fetal_health", _table(""), "line 3, column 'light_decelerations'"),
        ("fetal_health", _table("inf"), "received 'inf'"),
        # Beyond float32, which the model reads: it would become another number.
        ("fetal_health", _table("1e39"), "at most 3.403e+38 (float32), received '1e39'"),
        ("fetal_health", _table("-1e300"), "received '-1e300'"),
        ("fetal_health", _table("short"), "line 3: expected 21 fields as in the header"),
        ("fetal_health", b"\xff\xd8\xff\xe0", "line 1: expected text in UTF-8"),
        ("fetal_health", None, "expected a CSV file, as the run was trained on fetal_health"),
        # A folder may hold texts; this one is empty.
        ("song_lyrics", None, "nothing in it could be predicted"),
        ("song_lyrics", b"\xff\xd8\xff\xe0", "line 1: expected text in UTF-8"),
        ("song_lyrics", b"\n ?!\n", "nothing in it could be predicted"),
        ("brain_tumor_mri", b"a,b\n1,2\n", "nothing in it could be predicted"),
        ("brain_tumor_mri", None, "nothing in it could be predicted"),
    ],
)
def test_bad_input_is_a_clear_error(
    name: str,
    content: bytes | None,
    expected: str,
    finished_runs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = tmp_path / "source"
    source.mkdir() if content is None else source.write_bytes(content)
    output = tmp_path / "out.csv"
    assert main([str(finished_runs[name]), str(source), f"--output={output}"]) == 1
    assert expected in capsys.readouterr().err
    assert not output.exists() and not list(tmp_path.glob(".out*"))


def test_missing_files_are_clear_errors(
    finished_runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(finished_runs["fetal_health"]), str(tmp_path / "nothing.csv")]) == 1
    assert "nothing.csv expected a file or a folder, received nothing" in capsys.readouterr().err
    assert main([str(tmp_path), "nothing.csv"]) == 1
    assert "expected a run folder" in capsys.readouterr().err
