"""Collapse, batch by batch, against dense formulas with d x d matrices; one process and two."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from collapseflow.measures import Collapse, kept
from collapseflow.measures import statistics as module
from collapseflow.measures.definitions import PRESETS, compare_definitions

ROOT = Path(__file__).parent.parent.parent

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "benchmarks")
    from collapse import dense_measures

#: What moments cannot tell.
OF_SAMPLES = {"nc4", "accuracy_nearest_mean"}


def make_case(n=300, d=12, n_classes=5, seed=0):
    """Features float64, labels of unequal classes, logits of a head near the class means, and this
    head."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    rng.shuffle(labels)
    means = rng.normal(size=(n_classes, d))
    features = means[labels] + rng.normal(size=(n, d)) + 2
    weight, bias = means + 0.2 * rng.normal(size=means.shape), rng.normal(size=n_classes)
    return features, labels, features @ weight.T + bias, (weight, bias)


def fill(collapse, features, labels, logits=None, sizes=(64, 3, 1, 50)):
    """Give batches of these sizes, in turn."""
    ends = [0]
    while ends[-1] < len(labels):
        ends.append(ends[-1] + sizes[(len(ends) - 1) % len(sizes)])
    for start, end in pairwise(ends):
        part = slice(start, end)
        collapse.update(features[part], labels[part], None if logits is None else logits[part])
    return collapse


def require_equal(found, features, labels, logits, head, left_out=(), rtol=1e-12):
    """All measures, but for those that are left out."""
    expected = dense_measures(features, labels, logits.argmax(axis=1), head[0])
    expected["fewest_images"] = np.bincount(labels).min()
    assert set(found) == set(expected) - set(left_out)
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=rtol, abs=1e-13), name


# --- the values -------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["features", "moments"])
@pytest.mark.parametrize(("d", "n_classes"), [(12, 5), (4, 9), (30, 2)])
def test_float64_vectors_agree_with_dense_formulas_to_12_digits(keep, d, n_classes):
    features, labels, logits, head = make_case(300, d, n_classes)
    collapse = fill(Collapse(n_classes, keep=keep), features, labels, logits)
    left_out = OF_SAMPLES if keep == "moments" else ()
    require_equal(collapse.compute(head), features, labels, logits, head, left_out)


@pytest.mark.parametrize("keep", ["features", "moments"])
def test_far_from_the_origin_digits_are_kept(keep):
    """Multiples of 1/1024 beside 2^20, exact in float64: second moments around 0 would lose 12 of
    their digits."""
    features, labels, logits, head = make_case()
    near = np.round(1024 * features) / 1024
    of_near, of_far = (
        fill(Collapse(5, keep=keep), part, labels).compute() for part in (near, near + 2.0**20)
    )
    for name in ("nc1", "cdnv", "directional_cdnv", "nc2_equinorm", "etf_distance"):
        assert of_far[name] == pytest.approx(of_near[name], rel=1e-8), name


def of_type(features, kind):
    """As a tensor or array of a type, and the numbers that it holds."""
    if kind.startswith("torch."):
        tensor = torch.from_numpy(features).to(getattr(torch, kind[6:]))
        return tensor.requires_grad_(), tensor.detach().double().numpy()
    array = features.astype(kind)
    return array, array.astype(np.float64)


@pytest.mark.parametrize("keep", ["features", "moments"])
@pytest.mark.parametrize(
    "kind",
    ["float16", "float32", *(f"torch.{name}" for name in ("float16", "bfloat16", "float32"))],
)
def test_vectors_of_other_types_are_taken_as_the_numbers_that_they_are(keep, kind):
    features, labels, logits, head = make_case()
    given, exact = of_type(features, kind)
    if kind.startswith("torch."):
        labels_given, logits_given = torch.from_numpy(labels), torch.from_numpy(logits)
        layer = torch.nn.Linear(12, 5, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(head[0]))
        given_head = layer
    else:
        labels_given, logits_given, given_head = labels, logits, (head[0], None)
    collapse = Collapse(5, keep=keep, products="float64")
    fill(collapse, given, labels_given, logits_given)
    left_out = OF_SAMPLES if keep == "moments" else ()
    require_equal(collapse.compute(given_head), exact, labels, logits, head, left_out)


def test_types_may_change_from_batch_to_batch(monkeypatch):
    monkeypatch.setattr(kept, "BLOCK_BYTES", 1000)
    features, labels, logits, head = make_case()
    collapse = Collapse(5)
    exact = []
    for number, start in enumerate(range(0, 300, 50)):
        part = slice(start, start + 50)
        given, numbers = of_type(
            features[part], ["float64", "float32", "torch.bfloat16"][number % 3]
        )
        collapse.update(given, labels[part], logits[part])
        exact.append(numbers)
    require_equal(collapse.compute(head), np.concatenate(exact), labels, logits, head)


@pytest.mark.parametrize("memory", [0, 6000, 2**30])
@pytest.mark.parametrize("kind", ["float64", "torch.bfloat16"])
def test_what_memory_does_not_hold_is_kept_in_a_temporary_file(monkeypatch, memory, kind):
    monkeypatch.setattr(kept, "BLOCK_BYTES", 1000)
    features, labels, logits, head = make_case()
    given, exact = of_type(features, kind)
    collapse = Collapse(5, memory=memory, products="float64")
    for _ in range(2):
        fill(collapse, given, labels, logits)
        in_memory = sum(b.nbytes for b in collapse._kept._blocks if isinstance(b, np.ndarray))
        assert in_memory <= memory
        assert (collapse._kept._file is None) == (memory == 2**30)
        # More than once, and vectors may follow.
        collapse.compute()
        require_equal(collapse.compute(head), exact, labels, logits, head)
        collapse.reset()


def test_a_temporary_file_that_cannot_be_written_ends_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(kept, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(kept.tempfile, "tempdir", str(tmp_path / "gone"))
    features, labels, *_ = make_case()
    with pytest.raises(OSError, match="^.*gone: features beyond 0 MiB cannot be kept there.*$"):
        fill(Collapse(5, memory=0), features, labels)


def test_a_batch_that_changes_afterwards_stays_as_it_was_given():
    features, labels, logits, head = make_case()
    collapse = Collapse(5)
    buffer, targets = torch.empty(100, 12, dtype=torch.float64), torch.empty(100, dtype=torch.int64)
    for start in range(0, 300, 100):
        part = slice(start, start + 100)
        buffer.copy_(torch.from_numpy(features[part]))
        targets.copy_(torch.from_numpy(labels[part]))
        collapse.update(buffer, targets, logits[part])
    require_equal(collapse.compute(head), features, labels, logits, head)


@pytest.mark.parametrize("products", ["float64", "float32"])
@pytest.mark.parametrize("d", [4, 12])
def test_the_nearest_mean_of_test_vectors_is_one_of_the_training_vectors(d, products):
    features, labels, *_ = make_case(d=d)
    others, their_labels, their_logits, _ = make_case(d=d, seed=1)
    training = fill(Collapse(5), features, labels)
    test = fill(Collapse(5, products=products), others, their_labels, their_logits)
    means = np.stack([features[labels == c].mean(axis=0) for c in range(5)])
    nearest = ((others[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    found = test.compute(training=training)
    assert found["accuracy_nearest_mean"] == np.mean(nearest == their_labels)
    assert found["nc4"] == np.mean(nearest == their_logits.argmax(axis=1))
    own = test.compute()
    assert own["accuracy_nearest_mean"] > found["accuracy_nearest_mean"]
    assert own["nc1"] == found["nc1"]


def test_reset_forgets_and_no_logits_or_head_leave_their_measures_out():
    features, labels, logits, head = make_case()
    collapse = fill(Collapse(5), features + 1, labels, logits)
    collapse.reset()
    fill(collapse, features, labels)
    expected = dense_measures(features, labels, labels, head[0])
    found = collapse.compute()
    assert {"nc3", "nc4", "accuracy", "norm_head", "etf_distance_head"}.isdisjoint(found)
    assert found["nc1"] == pytest.approx(expected["nc1"], rel=1e-12)
    assert found["cdnv"] == pytest.approx(expected["cdnv"], rel=1e-12)


def test_threads_change_no_bit(monkeypatch):
    monkeypatch.setattr(kept, "BLOCK_BYTES", 1000)
    features, labels, logits, head = make_case()
    one, three = (
        fill(Collapse(5, threads=n), features, labels, logits).compute(head) for n in (1, 3)
    )
    assert one == three


# --- products in float32, and a part of the measures ------------------------------------------


def counted_products(monkeypatch):
    """A list that gets the type of the products of each second pass."""
    types = []
    original = module._SecondPass.__init__

    def recorded(self, own, training, parts, products, each):
        types.append(products)
        original(self, own, training, parts, products, each)

    monkeypatch.setattr(module._SecondPass, "__init__", recorded)
    return types


@pytest.mark.parametrize(("n", "d", "n_classes"), [(900, 40, 5), (3000, 64, 150), (2000, 20, 60)])
def test_products_in_float32_are_off_by_less_than_a_millionth(monkeypatch, n, d, n_classes):
    """Only of directional CDNV: of the nearest mean float64 is asked where float32 cannot tell."""
    types = counted_products(monkeypatch)
    features, labels, logits, head = make_case(n, d, n_classes)
    features = (features + 100).astype(np.float32)
    collapse = fill(Collapse(n_classes), features, labels, logits)
    found = collapse.compute(head)
    collapse.products = "float64"
    exact = collapse.compute(head)
    assert types == ["float32", "float64"]
    require_equal(exact, features.astype(np.float64), labels, logits, head, rtol=1e-11)
    assert 0 < abs(found["directional_cdnv"] / exact["directional_cdnv"] - 1) < 1e-6
    for name in set(exact) - {"directional_cdnv"}:
        assert found[name] == pytest.approx(exact[name], rel=1e-12), name
    for name in ("nc4", "accuracy_nearest_mean"):
        assert found[name] == exact[name]


def test_of_means_as_near_as_float32_can_tell_float64_finds_the_nearest():
    """Half of the class means are 1e-5 beside others: distances differ in the tenth digit."""
    rng = np.random.default_rng(3)
    means = rng.normal(size=(20, 8))
    means[10:] = means[:10] + 1e-5 * rng.normal(size=(10, 8))
    labels = np.arange(400) % 20
    features = means[labels] + 1e-5 * rng.normal(size=(400, 8))
    own = np.stack([features[labels == c].mean(axis=0) for c in range(20)])
    nearest = ((features[:, None] - own) ** 2).sum(axis=2).argmin(axis=1)
    share = np.mean(nearest == labels)
    assert 0.6 < share < 1
    collapse = Collapse(20, products="float32", measures=["accuracy_nearest_mean"])
    assert fill(collapse, features, labels).compute() == {"accuracy_nearest_mean": share}


def test_class_means_near_each_other_keep_products_in_float64(monkeypatch):
    types = counted_products(monkeypatch)
    features, labels, logits, head = make_case()
    features = features.astype(np.float32)
    features[labels == 1] = features[labels == 0].mean(axis=0) + 0.001 * features[labels == 1]
    collapse = fill(Collapse(5), features, labels, logits)
    found = collapse.compute(head)
    require_equal(found, features.astype(np.float64), labels, logits, head, rtol=1e-9)
    # Without what rounding would weigh on there is no need for it.
    part = fill(Collapse(5, measures=["nc4", "nc1"]), features, labels, logits).compute()
    assert types == ["float64", "float32"]
    assert part["nc1"] == pytest.approx(found["nc1"], rel=1e-12)
    assert (set(part), part["nc4"]) == ({"nc1", "nc4"}, found["nc4"])


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_vectors_near_the_limits_of_float32_have_the_measures_of_others(scale):
    """Whatever is free of scale: products of vectors of 1e-25 would be nothing in float32."""
    features, labels, logits, _ = make_case()
    scaled = (scale * features).astype(np.float32)
    found = fill(Collapse(5), scaled, labels, logits).compute()
    exact = fill(Collapse(5), scaled.astype(np.float64) / scale, labels, logits).compute()
    for name in ("nc1", "cdnv", "directional_cdnv", "nc4", "accuracy_nearest_mean"):
        assert found[name] == pytest.approx(exact[name], rel=1e-10), name


@pytest.mark.parametrize("kind", ["float64", "float16", "torch.bfloat16"])
def test_the_type_of_the_products_follows_that_of_the_vectors(monkeypatch, kind):
    types = counted_products(monkeypatch)
    features, labels, *_ = make_case()
    collapse = fill(Collapse(5), of_type(features, kind)[0], labels)
    collapse.compute()
    collapse.update(features[:9], labels[:9])
    collapse.compute()
    assert types == ["float64" if kind == "float64" else "float32", "float64"]


@pytest.mark.parametrize("definitions", [None, *PRESETS])
def test_a_part_of_the_measures_has_the_same_values(definitions):
    features, labels, logits, head = make_case()
    whole = fill(Collapse(5, definitions), features, labels, logits).compute(head)
    for name, value in whole.items():
        one = fill(Collapse(5, definitions, measures=[name]), features, labels, logits)
        assert one.compute(head) == {name: value}
    parts = fill(Collapse(5, measures=["nc1"]), features, labels, logits).statistics()
    assert parts.directional is parts.nearest is parts.balanced is None


# --- the definitions of others ----------------------------------------------------------------


def test_a_definition_by_name_gives_what_the_paper_has():
    features, labels, logits, head = make_case()
    collapse = fill(Collapse(5, definitions="papyan2020"), features, labels, logits)
    found = collapse.compute(head)
    assert list(found) == [
        *("nc1", "nc2_equinorm", "nc2_equiangularity", "nc2_maximal_angle"),
        *("nc2_equinorm_head", "nc2_equiangularity_head", "nc2_maximal_angle_head", "nc3", "nc4"),
    ]
    means = np.stack([features[labels == c].mean(axis=0) for c in range(5)])
    around = means - features.mean(axis=0)
    norms = np.linalg.norm(around, axis=1)
    assert found["nc2_equinorm"] == pytest.approx(norms.std() / norms.mean(), rel=1e-12)
    weight = head[0] / np.linalg.norm(head[0])
    expected = np.linalg.norm(weight - around / np.linalg.norm(around))
    assert found["nc3"] == pytest.approx(expected, rel=1e-12)
    nearest = ((features[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert found["nc4"] == pytest.approx(np.mean(nearest != logits.argmax(axis=1)), rel=1e-12)


def test_every_definition_is_what_the_command_prints():
    features, labels, logits, head = make_case()
    printed = compare_definitions(fill(Collapse(5), features, labels, logits).statistics(head))
    names = {row["preset"] for row in printed} - {"collapseflow"}
    assert len(names) > 9
    for name in names:
        found = fill(Collapse(5, definitions=name), features, labels, logits).compute(head)
        assert found == {
            row["quantity"]: row["value"] for row in printed if row["preset"] == name
        }, name


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_classes": 1}, "n_classes: 1; at least two"),
        ({"definitions": "papyan"}, "definitions: 'papyan' is unknown; did you mean"),
        ({"keep": "feature"}, "keep: 'feature' is unknown; did you mean 'features'"),
        ({"products": "float16"}, "products: 'float16' is unknown; did you mean"),
        ({"measures": ["nc1", "nc5"]}, "measures: 'nc5' is unknown; did you mean 'nc"),
        ({"measures": ["cdnv"], "definitions": "tirer"}, "measures: 'cdnv' is unknown; allowed"),
    ],
)
def test_arguments_that_do_not_exist_are_refused(arguments, words):
    with pytest.raises(ValueError, match=f"^{words}[^\n]*$"):
        Collapse(**{"n_classes": 5} | arguments)


def with_values(array, *places, value):
    changed = array.copy()
    for place in places:
        changed[place] = value
    return changed


X, Y, Z, W = make_case(20)


@pytest.mark.parametrize("keep", ["features", "moments"])
@pytest.mark.parametrize(
    ("features", "labels", "logits", "words"),
    [
        (X, Y[:19], Z, r"20 vectors and labels of shape \(19,\): \(20,\) is needed"),
        (X, Y[:, None], Z, r"20 vectors and labels of shape \(20, 1\)"),
        (X, Y * 1.0, Z, "labels of type float64: whole numbers"),
        (X[0], Y, Z, r"features of shape \(12,\): \(n, d\) is needed"),
        (X[:, :3], Y, Z, "vectors of 3 values after vectors of 12"),
        (X, with_values(Y, 7, value=5), Z, "the label 5 in row 7: n_classes = 5 allows 0 to 4"),
        (X, with_values(Y, 3, value=-1), Z, "the label -1 in row 3"),
        (with_values(X, 4, value=np.nan), Y, Z, "the features of row 4 of 20 are not finite"),
        (
            with_values(X, *range(2, 17, 2), value=np.inf).astype(np.float16),
            *(Y, Z, "the features of rows 2, 4, 6, 8, 10 and 3 more of 20 are not finite"),
        ),
        (
            torch.from_numpy(with_values(X, 4, 5, value=np.nan)).bfloat16(),
            *(Y, Z, "the features of rows 4, 5 of 20 are not finite"),
        ),
        (X, Y, Z[:, :4], r"logits of shape \(20, 4\) for 20 vectors and 5 classes"),
        (X, Y, with_values(Z, 1, value=np.nan), "the logits of row 1 of 20 are not finite"),
        (X, Y, None, "logits come with some batches and not with others"),
    ],
)
def test_a_wrong_batch_is_refused_in_one_line_and_nothing_of_it_taken(
    keep, features, labels, logits, words
):
    collapse = fill(Collapse(5, keep=keep), X, Y, Z)
    before = collapse.compute(W)
    with pytest.raises(ValueError, match=f"^{words}[^\n]*$"):
        collapse.update(features, labels, logits)
    assert collapse.compute(W) == before


def test_what_cannot_be_computed_is_said_in_one_line():
    with pytest.raises(ValueError, match="^compute before update: there are no vectors yet$"):
        Collapse(5).compute()
    empty = Collapse(5)
    empty.update(X[:0], Y[:0])
    with pytest.raises(ValueError, match="^compute before update"):
        empty.compute()
    for keep in ("features", "moments"):
        alone = fill(Collapse(5, keep=keep), X, np.full(20, 3))
        with pytest.raises(ValueError, match="^all vectors are of the class 3: [^\n]* two$"):
            alone.compute()
        same = fill(Collapse(5, keep=keep), np.ones((20, 3)), Y)
        with pytest.raises(ValueError, match="^all class means coincide$"):
            same.compute()
    collapse = fill(Collapse(5), X, Y)
    with pytest.raises(
        ValueError, match=r"^a head with a weight of shape \(12, 5\)[^\n]*12 values$"
    ):
        collapse.compute((W[0].T, W[1]))
    other = fill(Collapse(5), X[:, :3], Y)
    with pytest.raises(ValueError, match="^training: 5 classes and vectors of 3 values; [^\n]*12$"):
        collapse.compute(training=other)
    moments = fill(Collapse(5, keep="moments"), X, Y)
    with pytest.raises(ValueError, match="^training: of moments no nearest class mean"):
        moments.compute(training=collapse)


def test_moments_that_do_not_fit_are_refused_before_they_are_summed_up():
    collapse = Collapse(1000, keep="moments")
    with pytest.raises(ValueError, match="^moments of 1000 classes of 2048 values take 32000 MiB"):
        collapse.update(np.zeros((1, 2048), np.float32), np.zeros(1, int))


# --- several processes, and what is imported --------------------------------------------------

#: In each process: its rank, where they meet, what is kept, and how many vectors it has.
PROCESS = """
import json, sys
import numpy as np
import torch.distributed as dist
from collapseflow.measures import Collapse
sys.path.insert(0, {tests!r})
from test_online import fill, make_case

rank, place, keep = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{{place}}", rank=rank, world_size=2)
features, labels, logits, head = make_case()
answers = []
# Every other vector; all in the first process; sorted by class, so that none has all classes.
order = np.argsort(labels, kind="stable")
for mine in (np.arange(rank, 300, 2), np.arange(300 * (1 - rank)), np.array_split(order, 2)[rank]):
    collapse = fill(Collapse(5, keep=keep), features[mine], labels[mine], logits[mine])
    answers.append(collapse.compute(head))


def refused(collapse):
    try:
        collapse.compute()
    except ValueError as error:
        return str(error)


answers.append(refused(Collapse(5, keep=keep)))
answers.append(refused(fill(Collapse(5 + rank, keep=keep), features, labels)))
answers.append(refused(fill(Collapse(5, keep=keep), features[:, rank:], labels)))
answers.append(refused(fill(Collapse(5, keep=keep), features, labels, None if rank else logits)))
print(json.dumps(answers))
dist.destroy_process_group()
"""


@pytest.mark.parametrize("keep", ["features", "moments"])
def test_several_processes_find_the_same_of_all_vectors(tmp_path, keep):
    code = PROCESS.format(tests=str(Path(__file__).parent))
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}"}
    words = [sys.executable, "-c", code]
    running = [
        subprocess.Popen(
            [*words, str(rank), str(tmp_path / "meeting"), keep],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(2)
    ]
    found = []
    for process in running:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors[-3000:]
        found.append(json.loads(output.splitlines()[-1]))
    assert found[0] == found[1]
    *values, nothing, classes, lengths, logits = found[0]
    features, labels, scores, head = make_case()
    left_out = OF_SAMPLES if keep == "moments" else ()
    assert len(values) == 3
    for of_shards in values:
        require_equal(of_shards, features, labels, scores, head, left_out)
    assert nothing == "compute before update: there are no vectors yet"
    together = "processes that do not belong together: "
    assert classes == f"{together}n_classes is 5, and 6 in process 1"
    assert lengths == f"{together}d is 12, and 11 in process 1"
    assert logits == f"{together}logits is True, and False in process 1"


def test_arrays_need_no_pytorch():
    code = (
        "import sys, collapseflow.measures; from collapseflow.measures import Collapse; "
        "import numpy as np; c = Collapse(2); c.update(np.eye(4), [0, 0, 1, 1]); "
        "assert c.compute()['nc1'] > 0; "
        "print([m for m in ('torch', 'sklearn', 'pandas', 'snakemake') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}"},
    )
    assert answer.stdout == "[]\n"


def test_a_name_that_is_not_there_is_no_attribute():
    import collapseflow.measures

    assert "Collapse" in dir(collapseflow.measures)
    with pytest.raises(AttributeError, match="has no attribute 'Colapse'"):
        collapseflow.measures.Colapse  # noqa: B018
