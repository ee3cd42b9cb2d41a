"""What jobs are told of networks of each family, and that what they were told before stays."""

import re
import subprocess
import sys

import pytest

from collapseflow.features.extraction import Reading
from collapseflow.features.families.module import FOLDERS, code_of
from collapseflow.features.inputs import NetworkKeys
from collapseflow.running.errors import UserError
from collapseflow.study.patterns import one_of
from collapseflow.study.plan import Plan
from collapseflow.study.schema import Backbone, load
from collapseflow.training.recipes import NetworkRecipe, identity


def plan(*weights, **backbone):
    """A study of one network, called ``net``."""
    entry = {"weights": list(weights)} if weights else {}
    return Plan(
        load(
            {
                "study": "toy",
                "datasets": {"digits": {"source": "digits"}},
                "backbones": {"net": {**entry, **backbone}},
                "recipes": {"short": {"epochs": 2}},
            }
        )
    )


def reading(start, *weights, **backbone):
    return plan(*weights, **backbone).jobs.reading("digits", f"net/{start}/epoch000")


def test_jobs_of_torchvision_s_networks_are_told_what_they_were_always_told():
    told = {"model": "resnet18", "image_size": 64, "normalize": "imagenet"}
    jobs = plan("imagenet", model="resnet18", image_size=64).jobs
    assert jobs.reading("digits", "net/imagenet/epoch000") == {
        **told,
        "layers": ["penultimate"],
        "pool": "average",
        "precision": "float32",
        "batch_size": 256,
    }
    recipe = jobs.finetuning("net/imagenet/short/s0")
    new = {"head", "preprocessing", "described_by", "model_code"}
    assert told.items() <= recipe.items() and new.isdisjoint(recipe)
    assert jobs.untrained_network("net") == "resnet18"


@pytest.mark.parametrize(
    ("model", "pool", "told"),
    [
        ("resnet18", "average", "average"),
        ("swin_t", "average", "average"),
        ("vit_b_16", "average", "average_places"),
        # As the average of a vision transformer was before: its features stay.
        ("vit_b_16", "average_all", "average"),
        ("timm/vit_tiny_patch16_224", "average", "average_places"),
        ("vit_b_16", "class_token", "class_token"),
        ("resnet18", "max", "max"),
        ("resnet18", "flatten", "flatten"),
    ],
)
def test_a_pool_has_the_word_under_which_its_features_are_kept(model, pool, told):
    assert reading("imagenet", "imagenet", model=model, pool=pool)["pool"] == told


def test_timm_s_networks_take_the_mean_of_their_weights_unless_another_is_given():
    assert plan(model="timm/resnet18").study.backbones["net"].normalize == "weights"
    given = plan(model="timm/resnet18", normalize="none").study.backbones["net"]
    assert given.normalize == "none"
    for model in ("resnet18", "mine:net"):
        assert plan(model=model).study.backbones["net"].normalize == "imagenet"


def test_what_follows_from_the_weights_is_asked_of_those_that_are_read():
    told = {"model": "resnet50", "preprocessing": "weights"}
    of_one = reading("IMAGENET1K_V2", "IMAGENET1K_V2", "random", **told)
    assert of_one["described_by"] == "IMAGENET1K_V2"
    assert (of_one["image_size"], of_one["normalize"]) == ("weights", "weights")
    # Random weights say nothing: the model's usual ones do.
    of_random = reading("random/s0", "IMAGENET1K_V2", "random", **told)
    assert "described_by" not in of_random
    given = reading("random/s0", "random", image_size=96, normalize="none", **told)
    assert (given["image_size"], given["normalize"]) == (96, "none")


def test_weights_with_names_have_a_file_a_start_and_a_label():
    planned = plan("IMAGENET1K_V2", "imagenet", model="resnet50")
    path = planned.jobs.weights("digits", "net/IMAGENET1K_V2/epoch000")
    assert path == "resources/weights/resnet50-IMAGENET1K_V2.safetensors"
    assert planned.labels.start("net", "IMAGENET1K_V2") == "IMAGENET1K_V2"
    assert "net-IMAGENET1K_V2" in planned.study.feature_names(["digits"])
    assert planned.study.distributed_weights() == ["IMAGENET1K_V2", "imagenet"]


def test_timm_s_names_are_folders_that_the_rule_knows():
    planned = plan("a1_in1k", model="timm/resnet18")
    path = planned.jobs.weights("digits", "net/a1_in1k/epoch000")
    assert path == "resources/weights/timm/resnet18-a1_in1k.safetensors"
    model, named = one_of(["timm/resnet18"]), one_of(planned.study.distributed_weights())
    pattern = rf"resources/weights/(?P<model>{model})-(?P<named>{named})\.safetensors"
    assert re.fullmatch(pattern, path).groupdict() == {
        "model": "timm/resnet18",
        "named": "a1_in1k",
    }


def test_random_weights_depend_on_the_size_where_networks_are_built_for_one():
    def told(**backbone):
        return plan("random", **backbone).jobs.untrained_network("net")

    assert told(model="resnet18", image_size=64) == "resnet18"
    assert told(model="vit_b_32", image_size=224) == "vit_b_32"
    assert told(model="vit_b_32", image_size=64) == {"model": "vit_b_32", "image_size": 64}
    # Where the last layer is has no part in them.
    assert told(model="resnet18", head="fc") == "resnet18"


def test_readings_and_trainings_are_told_each_key_of_a_network_that_a_study_file_has():
    keys = NetworkKeys.model_fields.keys() & Backbone.model_fields.keys()
    given = {"model": "resnet50", "image_size": 96, "normalize": "none"}
    given |= {"head": "fc", "preprocessing": "weights"}
    assert keys == given.keys()
    jobs = plan("random", **given).jobs
    told = jobs.reading("digits", "net/random/s0/epoch000")
    recipe = jobs.finetuning("net/random/short/s0")
    assert given.items() <= told.items() and given.items() <= recipe.items()
    assert Reading(**told).identity() == told
    assert given.items() <= identity(NetworkRecipe(**recipe)).items()
    # Nobody is told of what has come later and has its default: there and here it is the same.
    later = NetworkKeys.later()
    assert later == {
        **dict.fromkeys(("head", "described_by", "model_code", "mean", "std")),
        "preprocessing": "whole",
    }
    defaults = {key: Backbone.model_fields[key].default for key in later.keys() & keys}
    assert defaults.items() <= later.items()


def test_a_user_s_code_is_told_to_the_jobs_of_its_network_alone(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDERS, str(tmp_path))
    file = tmp_path / "mine.py"
    found = []
    for text in ("x = 1\n", "x = 2\n"):
        file.write_text(text)
        code_of.cache_clear()
        jobs = plan("random", model="mine:net").jobs
        told = [
            jobs.reading("digits", "net/random/s0/epoch000"),
            jobs.finetuning("net/random/short/s0"),
            jobs.untrained_network("net"),
        ]
        found.append([one["model_code"] for one in told])
    code_of.cache_clear()
    assert len(set(found[0])) == 1 and found[0] != found[1]
    assert "model_code" not in reading("random/s0", "random", model="resnet18")


@pytest.mark.parametrize("size", ["large", 0, 20_000, 64.5])
def test_an_image_size_is_a_number_or_the_word_for_that_of_the_weights(size):
    with pytest.raises(UserError, match="backbones.net.image_size: value .* is refused"):
        plan(model="resnet18", image_size=size)


def test_planning_imports_none_of_the_families_libraries():
    lines = [
        "import sys",
        "from collapseflow.study import check, jobs, schema",
        "from collapseflow.features.families import family_of",
        "[family_of(m).code_of(m) for m in ('resnet18', 'timm/resnet18', 'mine:net')]",
        "print(sorted({'torch', 'torchvision', 'timm', 'sklearn'} & set(sys.modules)))",
    ]
    answer = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
