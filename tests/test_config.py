from pathlib import Path

import pytest
import yaml

from fcis_tf.config import Config, load_config
from fcis_tf.errors import FcisError


def test_defaults_are_the_papers_coco_setting():
    config = load_config()
    assert (config.model.backbone, config.model.group_size, config.model.pooled_size) == (
        "resnet101", 7, 21,
    )  # fmt: skip
    assert (config.train.learning_rate, config.train.momentum, config.train.weight_decay) == (
        5e-4, 0.9, 5e-4,
    )  # fmt: skip
    assert (config.train.sampling, config.train.roi_batch, config.train.mask_weight) == (
        "ohem", 128, 10.0,
    )  # fmt: skip
    assert len(config.model.anchor_sizes) * len(config.model.anchor_ratios) == 12


def test_a_file_states_differences_and_overrides_win(tmp_path):
    (tmp_path / "base.yaml").write_text("train: {steps: 10, momentum: 0.8}\nmodel: {norm: group}\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "own.yaml").write_text("extends: ../base.yaml\ntrain: {steps: 20}\n")
    config = load_config(
        tmp_path / "sub" / "own.yaml",
        ["train.learning_rate=1e-3", "data.short_sides=[480, 600]", "data.crop=null"],
    )
    assert (config.train.steps, config.train.momentum, config.model.norm) == (20, 0.8, "group")
    assert config.train.learning_rate == 0.001 and config.data.short_sides == (480, 600)


def test_a_saved_configuration_loads_to_itself(tmp_path):
    config = load_config(None, ["train.steps=7", "data.factors=[1.5, 2]", "model.classes=3"])
    config.save(tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_nothing_changes_after_loading():
    with pytest.raises(ValueError, match="frozen"):
        load_config().train.steps = 5


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.learnin_rate=1", "unknown key 'train.learnin_rate'.*'train.learning_rate'"),
        ("trian.steps=1", "unknown key 'trian'; the nearest valid key is 'train'"),
        ("train.steps=many", "train.steps: .*valid integer.*found 'many'"),
        ("train.steps=-1", "train.steps: .*greater than 0.*found -1"),
        ("train.learning_rate=.nan", "train.learning_rate: .*finite"),
        ("model.backbone=vgg", "model.backbone: .*'resnet50', 'resnet101'.*found 'vgg'"),
        ("model=3", "model: expected a section of key: value, found 3"),
        ("train=null", "train: expected a section of key: value, found None"),
        ("train.steps", "expected section.key=value"),
        ("train.steps=[", "not YAML"),
        ("model.pooled_size=3", "pooled_size must be at least"),
    ],
)
def test_faults_name_the_key_in_one_line(override, words):
    with pytest.raises(FcisError, match=words) as fault:
        load_config(None, [override])
    assert "\n" not in str(fault.value)


def test_an_unknown_key_comes_before_a_wrong_value():
    with pytest.raises(FcisError, match="unknown key 'train.momentm'.*'train.momentum'"):
        load_config(None, ["train.steps=-1", "train.momentm=2"])


def test_faulty_files_are_named(tmp_path):
    with pytest.raises(FcisError, match="absent.yaml: no such configuration"):
        load_config(tmp_path / "absent.yaml")
    for name, text, words in (
        ("a", "x: [", "not YAML"),
        ("b", "- 1", "expected sections"),
        ("c", "extends: c.yaml", "extends itself"),
        ("d", "train: {stpes: 3}", "d.yaml: unknown key 'train.stpes'"),
    ):
        (tmp_path / f"{name}.yaml").write_text(text)
        with pytest.raises(FcisError, match=words):
            load_config(tmp_path / f"{name}.yaml")


def test_every_shipped_configuration_is_valid(request):
    files = sorted((request.config.rootpath / "configs").glob("*.yaml"))
    assert files
    for file in files:
        assert isinstance(load_config(file), Config)
        # A shipped file states differences only.
        for section, values in yaml.safe_load(file.read_text()).items():
            if section == "extends":
                continue
            default = getattr(Config(), section)
            for key in values:
                assert key in type(default).model_fields


def test_parity_stands_for_values_that_others_override(tmp_path):
    (tmp_path / "own.yaml").write_text("parity: released\npredict: {voting: soft}\n")
    config = load_config(tmp_path / "own.yaml")
    assert (config.proposals.grid, config.data.resize) == ("released", "released")
    assert config.train.roi_top_up and config.predict.voting == "soft"
    config.save(tmp_path / "run.yaml")
    again = load_config(tmp_path / "run.yaml", ["parity=released", "data.resize=exact"])
    assert (again.predict.voting, again.data.resize) == ("released", "exact")
    assert load_config(tmp_path / "run.yaml", ["parity=best"]) == load_config()


@pytest.mark.parametrize("value", ["releasd", "1", "null"])
def test_an_unknown_parity_is_an_error(value):
    with pytest.raises(FcisError, match="parity: expected 'released' or 'best'"):
        load_config(None, [f"parity={value}"])


CONFIGS = sorted(Path("configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_loads_and_opens_with_its_command(path):
    load_config(path)
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert f"--config {path}" in "".join(comment) or path.stem == "shapes"


def test_the_rows_of_the_papers_tables_differ_where_they_should():
    def of(name):
        return load_config(f"configs/fcis_{name}.yaml")

    coco, voc = of("r101_coco"), of("r101_voc")
    assert of("r101_coco_random").train.sampling == "random" and coco.train.sampling == "ohem"
    for depth in (50, 152):
        model = coco.model.model_copy(update={"backbone": f"resnet{depth}"})
        train = coco.train.model_copy(update={"init": f"keras:resnet{depth}"})
        assert of(f"r{depth}_coco") == coco.model_copy(update={"model": model, "train": train})
    assert len(voc.model.anchor_sizes) * len(voc.model.anchor_ratios) == 9
    assert (voc.train.sampling, voc.train.roi_background_iou) == ("random", 0.1)
    assert (voc.proposals.min_size, voc.predict.min_size) == (16, 16)
    # Four images a step: epochs 14 and 22 of 2811 steps.
    assert round(voc.train.drops[0] * voc.train.steps) == pytest.approx(14 * 2811, abs=20)
    assert of("r101_voc_separate").model.score_maps == "separate"
    assert of("r101_voc_invariant").model.group_size == 1
