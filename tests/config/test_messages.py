"""Every message: file, line, column, key, what was expected, the nearest spelling."""

import pytest

from tests.config.files import BASE, problems

SWEEP = BASE + "sweep:\n  space:\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            BASE + "modle: mlp\n", "exp.yaml:5:1: modle: unknown key; nearest valid key: model", id="root key"
        ),
        pytest.param(
            BASE.replace("depth: 20", "depht: 20"),
            "exp.yaml:2:23: model.depht: unknown key; nearest valid key: depth",
            id="component key",
        ),
        pytest.param(
            BASE.replace("depth: 20", "depth: deep"),
            "exp.yaml:2:30: model.depth: expected a whole number, found 'deep'",
            id="type",
        ),
        pytest.param(
            BASE.replace("depth: 20", "depth: 20.0"),
            "exp.yaml:2:30: model.depth: expected a whole number, found 20.0",
            id="no silent conversion",
        ),
        pytest.param(
            BASE.replace("depth: 20", "depth: true"),
            "exp.yaml:2:30: model.depth: expected a whole number, found true",
            id="true is no number",
        ),
        pytest.param(
            BASE.replace("depth: 20", "depth: 21"),
            "exp.yaml:2:30: model.depth: depth 21 is not 6n+2, as the cifar layout needs; nearest: 20 and 26",
            id="rule across fields",
        ),
        pytest.param(
            BASE.replace("depth: 20", "width: 8"),
            "exp.yaml:2:8: model.depth: missing; expected layers with weights; 6n + 2 in the cifar layout",
            id="missing key",
        ),
        pytest.param(
            BASE.replace("depth: 20", "depth: 20, shortcut: padd"),
            "exp.yaml:2:44: model.shortcut: expected none, pad or projection, found 'padd'; nearest: pad",
            id="choice",
        ),
        pytest.param(
            BASE.replace("name: resnet", "name: resnett"),
            "exp.yaml:2:15: model.name: no model is named 'resnett'; nearest: resnet",
            id="name",
        ),
        pytest.param(
            BASE.replace("data: digits", "data: {batch_size: 64}"),
            "exp.yaml:1:7: data.name: missing; expected one of: caption_pairs, cifar10, cifar100, coco,",
            id="missing data source",
        ),
        pytest.param(
            BASE.replace("data: digits\n", ""),
            "exp.yaml:2:7: data: missing; the task classification needs it: one of caption_pairs, cifar10,"
            " cifar100, coco, digit_scenes, digits, emoji, fashion_mnist, folder, imagenet, imagenet22k, mnist,"
            " noisy_curve, nuclei, pets, shards, stamp_captions, stamps, table, tree_crowns, voc2012,"
            " voc2012_labels, written_dates, your own package.module:Name",
            id="needed slot",
        ),
        pytest.param(
            BASE.replace("classification", "scripted"),
            "exp.yaml:1:1: data: the task scripted does not use this slot; remove it, or choose another task",
            id="unused slot",
        ),
        pytest.param(
            BASE + "task: classification\n",
            "exp.yaml:5:1: task: duplicate key; it was first given at line 3, column 1",
            id="duplicate key",
        ),
        pytest.param(
            "data: &d digits\nmodel: *d\n",
            "exp.yaml:2:8: model: expected a value, found the alias *d; write the value out,"
            " or put shared parts into a file that this one `extends`",
            id="alias",
        ),
        pytest.param(
            BASE + "# " + "x" * (1 << 20), "exp.yaml:1:1: larger than 1 MiB; expected an experiment file", id="huge"
        ),
        pytest.param("- 1\n", "exp.yaml:1:1: expected a mapping of keys to values", id="list"),
        pytest.param(
            BASE + "trainer: {epochs: 0}\n", "exp.yaml:5:19: trainer.epochs: expected at least 1, found 0", id="bound"
        ),
        pytest.param(BASE + "trainer: 3\n", "exp.yaml:5:10: trainer: expected a mapping, found 3", id="no mapping"),
        pytest.param(
            BASE + "resources: {gpus_per_rank: 2}\n",
            "exp.yaml:5:28: resources.gpus_per_rank: expected a number from 0 to 1, found 2: a rank trains on one GPU "
            "or a part of it; resources.ranks: 2 takes two GPUs for a trial",
            id="more than a GPU",
        ),
        pytest.param(
            BASE + "resources: {gpus_per_rank: all}\n",
            "exp.yaml:5:28: resources.gpus_per_rank: expected a number or auto or measured, found 'all'",
            id="union",
        ),
        pytest.param(BASE + "storage: [x]\n", "exp.yaml:5:10: storage: expected text, found a list", id="storage"),
        pytest.param(BASE + "name: a/b\n", "exp.yaml:5:7: name: expected letters, digits, dots", id="experiment name"),
        pytest.param(BASE + "extends: other.yml\n", "exp.yaml:5:10: extends: no such file: ", id="extends"),
        pytest.param(
            BASE + "extends: exp.yaml\n", "exp.yaml:5:10: extends: files extend each other in a circle", id="circle"
        ),
        pytest.param(BASE + "sweep: 3\n", "exp.yaml:5:8: sweep: expected a mapping, found 3", id="sweep"),
        pytest.param(
            BASE + "sweep: {sarcher: grid}\n",
            "exp.yaml:5:9: sweep.sarcher: unknown key; nearest valid key: searcher",
            id="sweep key",
        ),
        pytest.param(
            BASE + "sweep: {searcher: gird}\n",
            "exp.yaml:5:19: sweep.searcher.name: no searcher is named 'gird'; nearest: grid",
            id="searcher",
        ),
        pytest.param(
            BASE + "sweep: {searcher: random}\n",
            "exp.yaml:5:19: sweep.searcher.trials: missing; expected number of configs to draw",
            id="searcher argument",
        ),
        pytest.param(
            BASE + "sweep: {seeds: 0}\n",
            "exp.yaml:5:16: sweep.seeds: expected a count from 1 to 10000 or a list of whole numbers",
            id="seeds",
        ),
        pytest.param(
            BASE + "sweep: {seeds: 1000000000000}\n",
            "exp.yaml:5:16: sweep.seeds: expected a count from 1 to 10000",
            id="many seeds",
        ),
        pytest.param(
            BASE + "sweep: {seeds: [1, 1]}\n",
            "exp.yaml:5:16: sweep.seeds: the same seed is listed twice",
            id="seed twice",
        ),
        pytest.param(
            BASE + "sweep: {metric: val/topp1}\n",
            "exp.yaml:5:17: sweep.metric: whether more of 'val/topp1' is better is not known; add `mode: max` or"
            " `mode: min`, or name a known metric; nearest: val/top1",
            id="metric",
        ),
        pytest.param(
            SWEEP + "    model.dept: [8]\n",
            "exp.yaml:7:5: sweep.space.model.dept: unknown key; nearest valid key: model.depth",
            id="searched key",
        ),
        pytest.param(
            SWEEP + "    trainer.epochs: [1, 2]\n",
            "exp.yaml:7:5: sweep.space.trainer.epochs: cannot be searched: it only says how long to train",
            id="searched budget",
        ),
        pytest.param(
            SWEEP + "    data.workers: [1, 2]\n",
            "exp.yaml:7:5: sweep.space.data.workers: cannot be searched: it does not change results",
            id="searched execution",
        ),
        pytest.param(
            SWEEP + "    model.depth: 8\n",
            "exp.yaml:7:18: sweep.space.model.depth: expected a list of values or one of {uniform",
            id="no list",
        ),
        pytest.param(
            SWEEP + "    model.depth: []\n", "exp.yaml:7:18: sweep.space.model.depth: expected a list", id="empty list"
        ),
        pytest.param(
            SWEEP + "    optimizer.lr: {uniform: [2, 1]}\n",
            "exp.yaml:7:29: sweep.space.optimizer.lr.uniform: expected [low, high] with low below high, found [2, 1]",
            id="ends",
        ),
        pytest.param(
            SWEEP + "    optimizer.lr: {loguniform: [0, 1]}\n",
            "exp.yaml:7:32: sweep.space.optimizer.lr.loguniform: a log scale needs a low end above 0, found 0",
            id="log of zero",
        ),
        pytest.param(
            SWEEP + "    model.depth: {int: [8, 20.5]}\n",
            "exp.yaml:7:24: sweep.space.model.depth.int: expected [low, high], two whole numbers; found [8, 20.5]",
            id="whole ends",
        ),
        pytest.param(
            SWEEP + "    model.depth: {int: [8, 20], stepp: 6}\n",
            "exp.yaml:7:33: sweep.space.model.depth.stepp: unknown key; nearest valid key: step",
            id="form key",
        ),
        pytest.param(
            SWEEP + "    optimizer.lr: {loguniform: [0.1, 1]}\n",
            "exp.yaml:7:19: sweep.space.optimizer.lr: loguniform is continuous, and a grid needs values to go through;"
            " list them, or choose the searcher random",
            id="continuous grid",
        ),
        pytest.param(
            SWEEP
            + "".join(f"    {key}: {{int: [1, 1000]}}\n" for key in ("model.width", "data.limit", "data.split_seed")),
            "exp.yaml:6:3: sweep.space: a grid of 1,000,000,000 configs; at most 10,000 are run",
            id="grid of 10^9",
        ),
        pytest.param(
            SWEEP + "    model.width: [8, 16]\n    model.depth: {choice: [8, 14], when: {model.wdth: 8}}\n",
            "exp.yaml:8:43: sweep.space.model.depth.when.model.wdth: unknown key; nearest valid key: model.width",
            id="when key",
        ),
        pytest.param(
            SWEEP + "    model.width: [8, 16]\n    model.depth: {choice: [8, 14], when: {model.width: 9}}\n",
            "exp.yaml:8:56: sweep.space.model.depth.when.model.width: 9 is not among the values of model.width (8, 16);"
            " nearest: 8",
            id="when value",
        ),
        pytest.param(
            SWEEP
            + "    model.width: {choice: [8, 16], when: {model.depth: 8}}\n"
            + "    model.depth: {choice: [8, 14], when: {model.width: 8}}\n",
            "exp.yaml:7:42: sweep.space.model.width.when: conditions (`when`) go round in a circle:"
            " model.width, model.depth",
            id="when circle",
        ),
        pytest.param(
            SWEEP + "    optimizer.momentum: {choice: [0.5, 0.9], when: {optimizer.name: adam}}\n",
            "exp.yaml:7:69: sweep.space.optimizer.momentum.when.optimizer.name: never active: optimizer.name is 'sgd'"
            " in every config",
            id="never active",
        ),
    ],
)
def test_one_wrong_thing(tmp_path, text, expected):
    messages = problems(tmp_path, text)
    assert any(message.startswith(expected) for message in messages), "\n".join(messages)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("model.dept=8", "--set model.dept=8: model.dept: unknown key; nearest valid key: depth"),
        ("modle.depth=8", "--set modle.depth=8: modle.depth: unknown key; nearest valid key: model"),
        ("model.depth", "--set model.depth: expected key=value"),
        ("model.depth=[1", "--set model.depth=[1: model.depth: not YAML: "),
        ("model.depth=21", "--set model.depth=21: model.depth: depth 21 is not 6n+2"),
        ("model.depth.x=2", "--set model.depth.x=2: model.depth: expected a whole number, found a mapping"),
        ("extends=x.yaml", "--set extends=x.yaml: extends: unknown key"),
        ("file=x", "--set file=x: file: unknown key"),
        ("sweep.seeds=none", "--set sweep.seeds=none: sweep.seeds: expected a count"),
    ],
)
def test_a_wrong_setting(tmp_path, setting, expected):
    messages = problems(tmp_path, BASE, [setting])
    assert any(message.startswith(expected) for message in messages), "\n".join(messages)


def test_everything_wrong_is_said_at_once_in_the_order_of_the_file(tmp_path):
    text = """\
    data: digitz
    model: {name: resnet, depth: 21, widht: 8}
    task: classification
    optimizer: {name: sgd, lr: fast}
    trainer: {epochs: -1}
    resources: {ranks: many}
    sweep:
      space: {model.widht: [8]}
      seeds: -1
    reports: {}
    """
    places = [message.split(": ")[0] for message in problems(tmp_path, text)]
    assert places == [f"exp.yaml:{place}" for place in ("1:7", "2:34", "4:28", "5:19", "6:20", "8:11", "9:10", "10:1")]


def test_a_problem_in_an_extended_file_is_said_there(tmp_path):
    (tmp_path / "base.yaml").write_text("model: {name: resnet,\n  depth: 21}\n")
    messages = problems(tmp_path, "extends: base.yaml\ndata: digits\ntask: classification\noptimizer: sgd\n")
    assert messages == [
        "base.yaml:2:10: model.depth: depth 21 is not 6n+2, as the cifar layout needs; nearest: 20 and 26"
    ]


def test_a_missing_file_names_the_nearest(tmp_path):
    from expflow.config import load
    from expflow.errors import ExperimentInvalid

    (tmp_path / "resnet_depth.yaml").write_text(BASE)
    with pytest.raises(ExperimentInvalid, match=r"resnet_dpth.yaml: no such file; nearest: .*resnet_depth.yaml"):
        load(tmp_path / "resnet_dpth.yaml")


def test_text_that_is_not_utf_8(tmp_path):
    from expflow.config import load
    from expflow.errors import ExperimentInvalid

    (tmp_path / "exp.yaml").write_bytes(b"about:\n  question: caf\xe9\n")
    with pytest.raises(ExperimentInvalid, match=r"exp.yaml:2:16: expected UTF-8 text"):
        load(tmp_path / "exp.yaml")


def test_a_wrong_searched_value_is_said_at_its_place_in_the_list(tmp_path):
    text = SWEEP + "    model.depth: [8, 21, 20, 22]\n    model.width: [8, 16]\n"
    assert problems(tmp_path, text, check=True) == [
        "exp.yaml:7:22: model.depth: depth 21 is not 6n+2, as the cifar layout needs; nearest: 20 and 26",
        "exp.yaml:7:30: model.depth: depth 22 is not 6n+2, as the cifar layout needs; nearest: 20 and 26",
    ]


def test_a_wrong_combination_of_searched_values_names_the_config(tmp_path):
    text = SWEEP + "    optimizer.name: [sgd, adam]\n    optimizer.momentum: [0.5, 0.9]\n"
    messages = problems(tmp_path, text, check=True)
    assert messages == [
        "exp.yaml:8:5: optimizer.momentum: unknown key; expected one of: beta1, beta2, eps, lr, name, weight_decay"
        " (in the config optimizer=adam momentum=0.5)"
    ] or all("optimizer.momentum: unknown key" in message for message in messages)


def test_claims_speak_of_what_is_searched(tmp_path):
    text = SWEEP + (
        "    model.depth: [8, 20]\n"
        "report:\n"
        "  figures: [{x: model.dept, y: val/top1}]\n"
        "  contrasts:\n"
        "    - {metric: fit/loss, of: {model.depth: 56}, against: {model.depth: 8}, expect: higher}\n"
        "    - {metric: fit/loss, of: {model.depth: 8}, against: {model.depth: 8}, expect: higher}\n"
        "    - {metric: fit/loss, of: {model.depth: 8}, against: {model.depth: 20}, expect: not_worse}\n"
    )
    assert problems(tmp_path, text) == [
        "exp.yaml:9:17: report.figures.0.x: model.dept is not searched; nearest: model.depth",
        "exp.yaml:11:44: report.contrasts.0.of.model.depth: 56 is not among the values of model.depth (8, 20);"
        " nearest: 20",
        "exp.yaml:12:57: report.contrasts.1.against: `of` and `against` are the same values; nothing is compared",
        "exp.yaml:13:84: report.contrasts.2.expect: not_worse needs a margin:"
        " the largest difference that still counts as not worse",
    ]


@pytest.mark.parametrize(
    ("seeds", "place", "ending"),
    [
        ("{screen: 1, confirm: 1000000000, top: 4}", "confirm", "found 1000000000"),
        ("{screen: 0, confirm: 5, top: 4}", "screen", "found 0"),
        ("{screen: 1, confirm: 5}", "top", "it is missing"),
    ],
)
def test_a_wrong_count_of_seeds_is_one_problem(tmp_path, seeds, place, ending):
    text = BASE + f"sweep: {{space: {{model.depth: [8]}}, seeds: {seeds}}}\n"
    (problem,) = problems(tmp_path, text)
    assert f": sweep.seeds.{place}: expected a count from 1 to " in problem
    assert problem.endswith(ending)
