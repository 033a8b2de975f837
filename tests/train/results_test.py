"""`python -m train.results`: the page holds what the files hold, and the commands for it."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from train import baseline, cross_validate, evaluate, results
from train.run import main as train
from train.run import parse_config
from train.settings.command_line import format_command


def test_page_of_files(
    synthetic_data_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make = baseline.make_baselines
    linear = "logistic regression"  # boosting takes seconds a fold
    monkeypatch.setattr(baseline, "make_baselines", lambda *a: {linear: make(*a)[linear]})
    data = [f"--data-dir={synthetic_data_dir}", "--dataset=fetal_health/synthetic"]
    small = ["--model=mlp_small", "--epochs=2", "--strategy=one_device", "--hidden", "8", "4"]
    small += ["--no-xla"]
    crossed, fixed, run = tmp_path / "crossed.json", tmp_path / "fixed.json", tmp_path / "run"
    arguments = [*data, *small, "--folds=2", "--seeds", "1", f"--output={crossed}"]
    assert cross_validate.main(arguments) == 0
    second = tmp_path / "second.json"
    changed = [*arguments, "--model=mlp", "--no-baselines", f"--output={second}"]
    assert cross_validate.main(changed) == 0
    assert baseline.main([*data, f"--output={fixed}"]) == 0
    assert train([*data, *small, "--evaluate-test", f"--run-dir={run}"]) == 0
    for split in ("train", "validation", "test", "test"):
        options = [str(run), f"--split={split}", "--resamples=10"]
        assert evaluate.main([*options, f"--data-dir={synthetic_data_dir}"]) == 0
    other = tmp_path / "other"
    assert train([*data, *small, "--seed=4", "--evaluate-test", f"--run-dir={other}"]) == 0
    options = [str(other), "--split=validation", "--resamples=10"]
    assert evaluate.main([*options, f"--data-dir={synthetic_data_dir}"]) == 0
    page = tmp_path / "RESULTS.md"
    files = ["--cross-validations", str(crossed), str(second)]
    files += [f"--baselines={fixed}", "--runs", str(other), str(run)]
    assert results.main([*files, f"--output={page}"]) == 0
    text = page.read_text()
    assert "## fetal_health/synthetic/1.0.0" in text and str(tmp_path) not in text
    assert text.count("2 folds of the split train, 1 seed: mean ± deviation of 2 values") == 1
    assert text.count("the last epoch counts, so the folds choose nothing.") == 1
    assert "\nWeights: the last epoch.\n" in text, "--early-stopping is 0"
    assert "\n    python -m train.baseline --dataset fetal_health/synthetic\n" in text
    table = [line.split(" |")[0] for line in text.partition("\n\n    python")[0].splitlines()]
    both = f"| mean of mlp_small and {linear}"
    assert table[-4:] == ["| mlp_small", f"| {linear}", both, "| mlp"]
    assert re.search(r"cross_validate .*--model mlp .*--seeds 1 --no-baselines$", text, re.M)
    assert "new pictures" not in text, "nothing was asked about them"
    twice = tmp_path / "twice.md"  # the same model again: in a table of its own, none is lost
    files_of_one = ["--cross-validations", str(crossed), str(second), str(second)]
    assert results.main([*files_of_one, f"--output={twice}"]) == 0
    assert twice.read_text().count("| mlp |") == 2
    rows = json.loads(crossed.read_text())["systems"][linear]
    assert f"| {linear} | {np.mean([r['weighted_f1'] for r in rows]):.4f} ±" in text
    metrics = json.loads((run / "metrics.json").read_text())
    test, validation = metrics["test"], metrics["validation"]
    assert f"{validation['accuracy']:.4f}, {validation['weighted_f1']:.4f}" in text
    assert f"{test['accuracy']:.4f}, {test['weighted_f1']:.4f}" in text
    measured = json.loads(fixed.read_text())["systems"][linear]
    assert f"{measured['test']['accuracy']:.4f}" in text
    second_seed = json.loads((other / "metrics.json").read_text())["validation"]
    means = [(validation[k] + second_seed[k]) / 2 for k in ("accuracy", "weighted_f1")]
    cells = f"| {means[0]:.4f}, {means[1]:.4f} |  |  |  |  |"  # test was read for one seed only
    assert re.search(rf"^\| `mlp_small` \| mean \|  {re.escape(cells)}$", text, re.MULTILINE)
    column = [
        line.split(" | ")[-2] for line in text.splitlines() if line.startswith("| `mlp_small` | ")
    ]
    assert column == ["3", "1", ""], "by train.run once, by train.evaluate twice or not at all"
    assert text.index("| `mlp_small` | 0 |") < text.index("| `mlp_small` | 4 |")
    first = test["confusion_matrix"][0]
    assert f"| {' | '.join(map(str, first))} |" in text
    commands = re.findall(r"^    python -m train\.run (.*)$", text, re.MULTILINE)
    stored = json.loads((run / "config.json").read_text())
    again = parse_config(commands[0].split()).to_dict()
    for name in ("dataset", "model", "epochs", "hidden", "strategy", "seed"):
        assert again[name] == stored[name]
    older = shutil.copytree(other, tmp_path / "older")
    settings = json.loads((older / "config.json").read_text())
    del settings["group_folds"]  # as another version wrote it, that had no such flag
    (older / "config.json").write_text(json.dumps(settings))
    assert results.main([f"--runs={older}", f"--output={page}"]) == 1
    assert "another version of this project: missing group_folds" in capsys.readouterr().err
    assert page.read_text() == text
    changed_run = shutil.copytree(run, tmp_path / "changed")
    stored["learning_rate"] = 0.25
    (changed_run / "config.json").write_text(json.dumps(stored))
    assert results.main(["--runs", str(run), str(changed_run), f"--output={page}"]) == 0
    assert "| `mlp_small` | 0 |" in page.read_text()
    assert "| `mlp_small --learning-rate 0.25` | 0 |" in page.read_text()
    capsys.readouterr()
    assert results.main([f"--runs={tmp_path}"]) == 1
    assert "expected a run folder" in capsys.readouterr().err


def test_command_names_what_is_not_the_default() -> None:
    config = parse_config(["--dataset=x", "--model=gru", "--units=4", "--no-augment", "--seed=3"])
    command = format_command("python -m train.run", config.to_dict())
    expected = "python -m train.run --dataset x --model gru --no-augment --units 4 --seed 3"
    assert command == expected


@pytest.mark.parametrize("command", ["cross_validate", "baseline"])
@pytest.mark.parametrize("content", ["{}", "[]", "null", "1", '{"dataset": "a", "systems": [1]}'])
def test_a_file_of_another_kind_is_named(command: str, content: str, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=rf"other.json expected what train.{command} --output"):
        results._read(file, command)


def test_a_table_says_which_epoch_counts() -> None:
    stopped = {"model": "gru", "early_stopping": 3, "monitor": "accuracy"}
    whole = {"model": "mlp", "early_stopping": 0, "monitor": "loss"}
    runs = [[{"config": stopped}], [{"config": whole}], [{"config": stopped}]]
    assert results._weights_of_runs(["`a`", "`b`", "`c`"], runs) == [
        "Weights of `a`, `c`: the epoch of the best validation accuracy; test chose nothing.",
        "Weights of `b`: the last epoch.",
    ]
    assert results._epochs_of_folds([{"settings": stopped}, {"settings": whole}]) == [
        "Of `gru` the epoch of the best accuracy on the fold counts: it flatters.",
        "Of `mlp` the last epoch counts, so the folds choose nothing.",
    ]
