"""Options of Lightning, and classes that configurations name: heeded, or refused in one line before training."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import processes
import pytest
import yaml
from lightning.pytorch.plugins import TorchCheckpointIO
from processes import CAPTIONER, started
from training_runs import arguments, run, small_config

from captioner.cli import main
from captioner.training.checkpointing import DurableCheckpoints
from captioner.training.run import parse
from captioner.utils.nearest import nearest

PICTURES = 24


@pytest.fixture
def config(shapes: Path, tmp_path: Path) -> dict[str, Any]:
    trainer = {"default_root_dir": str(tmp_path / "run"), "max_epochs": 1}
    return small_config(shapes / "captions.jsonl", {"trainer": trainer})


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    assert printed.out == ""
    [line] = printed.err.splitlines()
    return line


CALLBACKS = "--trainer.callbacks"
SCORES = "choose one of val/loss, val/perplexity, val/BLEU-1"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--trainer.devices", "[0]"], "trainer.devices is [0], but there is no GPU in use"),
        (["--trainer.devices", "-1"], "trainer.devices is -1, but there is no GPU in use"),
        (["--trainer.devices", "many"], "trainer.devices is many, but there is no GPU in use"),
        (["--trainer.accelerator", "gpu"], "trainer.accelerator is gpu, but there is no GPU here; leave it out"),
        (
            ["--trainer.strategy", "ddp_spawn"],
            "trainer.strategy starts its processes by spawn, which does not work",
        ),
        (["--trainer.strategy", "ddp_notebook"], "trainer.strategy starts its processes by fork, which does not work"),
        (["--trainer.logger", "CSVLogger"], "trainer.logger: CSVLogger needs save_dir; set trainer.logger.save_dir"),
        (["--trainer.val_check_interval", "0"], "trainer.val_check_interval is 0; it must be greater, or leave it out"),
        (["--trainer.max_epochs", "0"], "trainer.max_epochs is 0; it must be greater, or leave it out"),
        (["--trainer.max_steps", "0"], "trainer.max_steps is 0; it must be greater, or leave it out"),
        (["--trainer.precision", "fp16"], "trainer.precision is fp16; choose one of 16-mixed, bf16-mixed, 32-true"),
        (["--trainer.barebones", "true"], "trainer.barebones keeps no checkpoint, but the best one is wanted"),
        (["--trainer.limit_train_batches", "0.0"], "trainer.limit_train_batches is 0.0, but the best epoch becomes"),
        ([CALLBACKS, "EarlyStopping", f"{CALLBACKS}.monitor", "loss"], f"EarlyStopping monitors 'loss'; {SCORES}"),
        (
            [CALLBACKS, "ModelCheckpoint", f"{CALLBACKS}.monitor", "CIDEr"],
            f"ModelCheckpoint monitors 'CIDEr'; {SCORES[:9]}",
        ),
        (
            [CALLBACKS, "EarlyStopping", f"{CALLBACKS}.monitor", "val/CIDEr"],
            "EarlyStopping has the mode 'min', but of val/CIDEr the max is best; set mode to max",
        ),
        (
            [CALLBACKS, "BackboneFinetuning"],
            "BackboneFinetuning of trainer.callbacks failed: 'CaptioningModule'",
        ),
        (
            [CALLBACKS, "EarlyStopping"],
            "trainer.callbacks: EarlyStopping needs monitor; set trainer.callbacks.monitor",
        ),
        ([CALLBACKS, "LearningRateMonitr"], "there is no class LearningRateMonitr; did you mean LearningRateMonitor"),
        (["--trainer.logger", "CometLogger"], "pip install -U 'comet-ml"),
        (
            ["--trainer.enable_progress_bar", "false", CALLBACKS, "TQDMProgressBar"],
            "`enable_progress_bar=False` but found `TQDMProgressBar`",
        ),
        (["--trainer.max_epochs", "ten"], "trainer.max_epochs is ten; give a whole number or null"),
        (["--trainer.precision", "8"], "trainer.precision is 8; choose one of "),
        (["--model.decoder.cell", "lstn"], "choose one of rnn, gru, lstm, peephole; did you mean lstm?"),
        (["--data.captoins", "a.csv"], "there is no option --data.captoins; did you mean --data.captions?"),
        (["--max-epochs", "3"], "there is no option --max-epochs; did you mean --trainer.max_epochs?"),
        (["--trainer.max_epoch", "3"], "there is no option --trainer.max_epoch; did you mean --trainer.max_epochs"),
        (["--model.encoder.name", "resnet511"], "encoder 'resnet511' is not supported; did you mean "),
        (["--model.encoder.name", "efficientnet_lite0"], "did you mean timm/efficientnet_lite0"),
        (["--model.encoder.name", "timm/resnet-50"], "timm has no network 'resnet-50'; did you mean timm/resnet50"),
        (
            ["--model.encoder.name", "zzzz"],
            "encoder 'zzzz' is not supported; choose timm/NAME of a CNN in timm, or",
        ),
    ],
    ids=lambda value: value[0] + value[-1] if isinstance(value, list) else "",
)
def test_what_cannot_work_is_told_in_one_line(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], message: str
) -> None:
    assert run(config, tmp_path, *overrides) == 2
    assert message in refused(capsys)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"model:\n\tencoder: resnet18\n",
            "FILE, line 2, column 1 is not YAML: found character '\\t'",
        ),
        (b"data:\n  captions: [a.csv\nmodel: {}\n", "FILE, line 3, column 6 is not YAML: "),
        (b"!!python/name:os.system\n", "FILE, line 1, column 1 is not YAML: could not determine a constructor"),
        (b"- a\n- b\n", "FILE has no fields; write some, such as data: and model:"),
        (b"# nothing\n", "FILE has no fields; write some, such as data: and model:"),
        (b"", "FILE is empty: get it again"),
        (b"data: \xe9t\xe9\n", "FILE is not UTF-8 text (byte 6); give a configuration in YAML"),
        (b"<!doctype html><html>", "FILE is a web page: download the file itself"),
        (b"PK\x03\x04", "FILE is a zip archive: "),
    ],
)
def test_a_configuration_that_is_none_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    assert main(["train", "--config", str(file)]) == 2
    assert refused(capsys).replace(str(file), "FILE").startswith(f"captioner: train: {message}")


def test_a_configuration_may_begin_with_a_byte_order_mark(config: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8-sig")
    assert parse(["--config", str(file)]).trainer.max_epochs == 1


def test_options_of_yes_and_no_are_told_to_need_it(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, tmp_path, "--overwrite") == 2
    told = "--overwrite needs a value, those of yes and no too, as in --overwrite true"
    assert refused(capsys) == f"captioner: train: {told}"
    assert run(config, tmp_path, "--model.distillation.teachers", "a.safetensors") == 2
    assert "model.distillation.teachers is a.safetensors; give a list such as [a,b] or null" in refused(capsys)


def test_the_option_that_allows_links_works_as_it_is_told(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = tmp_path / "coco"
    coco.mkdir()
    (coco / "train2017").symlink_to(next(shapes.rglob("*.jpg")).parent)
    pictures = sorted((coco / "train2017").glob("*.jpg"))[:4]
    rows = "".join(f"train2017/{each.name},a dog\n" for each in pictures)
    (tmp_path / "captions.csv").write_text(f"image,caption\n{rows}")
    command = ["train", "--data.captions", str(tmp_path / "captions.csv"), "--data.images", str(coco)]
    command += ["--data.val_share", "0.5", "--data.min_count", "1", "--data.workers", "0", "--model.encoder.name"]
    command += ["resnet18", "--model.encoder.weights", "none", "--model.encoder.image_size", "64"]
    command += ["--trainer.fast_dev_run", "true", "--trainer.default_root_dir", str(tmp_path / "run")]
    assert main(command) == 2
    told = refused(capsys)
    assert told.endswith(cure := "--data.images_anywhere true")
    assert main([*command, *cure.split()]) == 0


def test_words_that_belong_to_no_option_are_told_with_how_lists_are_written(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, tmp_path, "--data.captions", "a.csv", "b.csv") == 2
    assert "b.csv belongs to no option; a configuration is given as --config FILE, and several" in refused(capsys)
    assert run(config, tmp_path, "--data.captions", "[a.csv,b.csv]") == 2
    assert "cannot read a.csv: no such file" in refused(capsys)


@pytest.mark.parametrize("name", ["captioner.safetensors", "captions.csv"])
def test_a_run_does_not_go_on_from_a_file_that_is_no_checkpoint_of_one(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = tmp_path / name
    file.write_bytes(checkpoint.read_bytes() if name.endswith("safetensors") else b"image,caption\n")
    assert main(["train", "--resume", str(file)]) == 2
    assert refused(capsys) == (
        f"captioner: checkpoint {file} to resume from: is no checkpoint of a run; give last.ckpt in the run's folder, "
        "or to begin a new run with a model's weights set model.start.checkpoint"
    )


def test_plugins_of_other_kinds_leave_checkpoints_crash_safe(config: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    kinds = {"environments.LightningEnvironment": DurableCheckpoints, "TorchCheckpointIO": TorchCheckpointIO}
    for plugin, kept in kinds.items():
        config["trainer"]["plugins"] = [{"class_path": f"lightning.pytorch.plugins.{plugin}"}]
        file.write_text(yaml.safe_dump(config))
        assert type(parse(["--config", str(file)]).trainer.strategy.checkpoint_io) is kept


def test_a_package_that_is_not_installed_is_named_before_training(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning.pytorch.callbacks.device_stats_monitor._PSUTIL_AVAILABLE", False)
    assert run(config, tmp_path, CALLBACKS, "DeviceStatsMonitor") == 2
    assert "DeviceStatsMonitor of trainer.callbacks failed: " in (line := refused(capsys))
    assert "psutil" in line


def test_a_misspelt_field_of_a_configuration_is_told_with_the_right_one(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run({**config, "checkpiont": {"save_top_k": 1}}, tmp_path) == 2
    assert "there is no field checkpiont.save_top_k; did you mean checkpoint.save_top_k" in refused(capsys)
    config["data"]["min_cont"] = 2
    assert run(config, tmp_path) == 2
    assert "there is no field data.min_cont; did you mean data.min_count" in refused(capsys)


def test_a_failing_callback_of_the_users_own_is_told_with_its_place(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_parts.py").write_text(
        "from lightning.pytorch import Callback\n"
        "class Divides(Callback):\n"
        "    def setup(self, trainer, pl_module, stage):\n"
        "        1 / 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert run(config, tmp_path, CALLBACKS, "own_parts.Divides", "--allow_package", "own_parts") == 2
    assert refused(capsys) == (
        "captioner: train: Divides of trainer.callbacks failed: division by zero (ZeroDivisionError in own_parts.py, "
        "setup); set it otherwise, or leave it out"
    )


def test_a_fault_of_this_project_keeps_its_traceback(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captioner.training.callbacks.RefuseUnvalidated.on_train_start", lambda *_: [][0])
    monkeypatch.setattr("captioner.training.module.CaptioningModule.on_fit_start", lambda self: self.nothing)
    with pytest.raises(AttributeError, match="nothing"):
        run(config, tmp_path)


def leaves_a_file(folder: Path) -> Path:
    """A module that makes a file when it is imported, and holds classes for every part of a run."""
    mark = folder / "imported"
    (folder / "stranger.py").write_text(
        f"open({str(mark)!r}, 'w').close()\n"
        "from lightning.pytorch import Callback\nfrom lightning.pytorch.loggers import CSVLogger\n"
        "class Looks(Callback): pass\nclass Logs(CSVLogger):\n"
        f"    def __init__(self): super().__init__({str(folder / 'logs')!r})\n"
        "def call(*args): pass\n"
    )
    return mark


NAMED = {
    "callback": {"trainer": {"callbacks": [{"class_path": "stranger.Looks"}]}},
    "one callback": {"trainer": {"callbacks": {"class_path": "stranger.Looks", "init_args": {}}}},
    "by name alone": {"trainer": {"callbacks": "stranger.Looks"}},
    "logger": {"trainer": {"logger": {"class_path": "stranger.Logs"}}},
    "strategy": {"trainer": {"strategy": {"class_path": "stranger.Looks"}}},
    "plugin": {"trainer": {"plugins": [{"class_path": "stranger.Looks"}]}},
    "function": {
        "trainer": {
            "callbacks": {
                "class_path": "lightning.pytorch.callbacks.LambdaCallback",
                "init_args": {"on_fit_start": "stranger.call"},
            }
        }
    },
    "within arguments": {
        "trainer": {
            "logger": {
                "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
                "init_args": {"save_dir": "x"},
                "dict_kwargs": {"comment": {"class_path": "stranger.Looks"}},
            }
        }
    },
    "a command": {"trainer": {"callbacks": {"class_path": "os.system", "init_args": {"command": "touch imported"}}}},
    "a command of an allowed module": {"trainer": {"callbacks": "captioner.utils.files.os.system"}},
    "torch's downloads": {"trainer": {"callbacks": {"class_path": "torch.hub.load"}}},
}


@pytest.mark.parametrize("named", NAMED.values(), ids=NAMED.keys())
def test_a_configuration_from_someone_else_imports_nothing(
    config: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    named: dict[str, Any],
) -> None:
    mark = leaves_a_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    content = {**config, "trainer": {**config["trainer"], **named["trainer"], "fast_dev_run": True}}
    code = run(content, tmp_path)
    assert not mark.exists()
    assert "stranger" not in sys.modules
    if "dict_kwargs" in str(named):  # it stays the value that it is
        return
    assert code == 2
    assert re.search(r"(stranger|system|torch\.hub)\S* is not imported|was not found|no attribute", refused(capsys))


def test_a_file_cannot_allow_itself(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = leaves_a_file(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert run({**config, "allow_package": "stranger"}, tmp_path, CALLBACKS, "stranger.Looks") == 2
    assert not mark.exists()
    capsys.readouterr()


def test_a_package_is_allowed_by_name_for_one_run(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = leaves_a_file(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    options = [CALLBACKS, "stranger.Looks"]
    assert run(config, tmp_path, *options) == 2
    assert refused(capsys) == (
        "captioner: train: trainer.callbacks: stranger.Looks is not imported, since it is not of captioner, "
        "Lightning's parts or torch's; if you trust that package, add --allow_package stranger to the command line"
    )
    assert not mark.exists()
    assert run(config, tmp_path, *options, "--allow_package", "stranger") == 0
    assert mark.exists()
    capsys.readouterr()
    # What it was trained with is kept, and the next run asks again.
    assert main(["train", "--resume", str(tmp_path / "run")]) == 2
    assert "stranger.Looks is not imported" in refused(capsys)
    assert main(["train", "--resume", str(tmp_path / "run"), "--allow_package=stranger"]) == 0


@pytest.mark.parametrize("name", ["jsonargparse", "no-name", "", "*"])
def test_what_is_no_package_cannot_be_allowed(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(config, tmp_path, f"--allow_package={name}") == 2
    assert f"--allow_package {name!r} is not a package that can be allowed" in refused(capsys)


def test_a_profile_and_a_summary_that_were_asked_for_are_told(config: dict[str, Any], tmp_path: Path) -> None:
    options = ["--trainer.profiler", "simple", CALLBACKS, "ModelSummary", "--checkpoint.verbose", "true"]
    # Lightning's loggers write to the standard error that there was when they were made.
    command = [*CAPTIONER, "train", *arguments(config, tmp_path), *options]
    told = processes.run(command, capture_output=True, text=True, check=True).stderr
    assert "FIT Profiler Report" in told
    assert "Trainable params" in told
    assert "'val/CIDEr' reached" in told
    assert "GPU available" not in told


def test_resume_alone_goes_on_with_the_runs_own_configuration(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, tmp_path) == 0
    folder, moved = tmp_path / "run", tmp_path / "moved"
    folder.rename(moved)
    capsys.readouterr()
    assert main(["train", "--resume", str(moved / "last.ckpt"), "--trainer.max_epochs", "2"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{moved / 'captioner.safetensors'}\n"
    assert [line.split(":")[0] for line in printed.err.splitlines() if line.startswith("epoch 2:")] == ["epoch 2"]
    assert yaml.safe_load((moved / "config.yaml").read_text())["trainer"]["default_root_dir"] == str(moved)
    assert main(["train", "--resume", str(moved), "--trainer.max_epochs", "3"]) == 0
    (moved / "config.yaml").unlink()
    capsys.readouterr()
    assert main(["train", "--resume", str(moved)]) == 2
    assert "there is no config.yaml beside it that tells how it was trained; give the run's" in refused(capsys)
    assert main(["train", "--resume", str(folder / "last.ckpt")]) == 2
    assert f"checkpoint {folder / 'last.ckpt'} to resume from: no such file" in refused(capsys)


def test_a_run_of_several_machines_says_for_whom_it_waits(config: dict[str, Any], tmp_path: Path) -> None:
    command = [*CAPTIONER, "train", *arguments(config, tmp_path, "--trainer.num_nodes", "2")]
    with started(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
    assert re.match(r"captioner: this is node 0 of 2; it waits at 127\.0\.0\.1:\d+ for the others\. On each", line)
    assert "MASTER_ADDR" in line


@pytest.mark.parametrize(
    ("given", "names", "right"),
    [
        ("--beam", ["--beam-size", "--batch-size", "--seed"], ["--beam-size"]),
        ("BATCH_SIZE", ["--data.batch_size", "--data.flip"], ["--data.batch_size"]),
        ("capton", ["caption", "captions", "score"], ["caption", "captions"]),
        ("xyz", ["caption", "score"], []),
        ("", ["caption"], []),
        ("caption", [], []),
    ],
)
def test_the_nearest_names_come_first(given: str, names: list[str], right: list[str]) -> None:
    assert nearest(given, names) == right
