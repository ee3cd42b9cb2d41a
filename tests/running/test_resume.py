"""Finished parts are kept for exactly what they depend on, and become outputs whole."""

import errno
import hashlib
import os
from types import SimpleNamespace

import pytest

from collapseflow.running import resume
from collapseflow.running.files import atomic_path, read_json, write_json
from collapseflow.running.resume import (
    DEPENDENCIES,
    digest,
    kept_result,
    publish,
    seconds_taken_over,
    set_aside,
    valid_folder,
)

NEW = {"weights": "b" * 64, "recipe": {"seed": 0, "learning_rate": 2e-4}}
OLD = {"weights": "a" * 64, "recipe": {"seed": 0, "learning_rate": 2e-4}}


def half_written(path):
    """What a process that is killed while it writes leaves behind."""
    with atomic_path(path) as temporary:
        temporary.write_text("half")
    return path.rename(temporary)


# --- what a part depends on -------------------------------------------------------------------


def test_a_digest_is_that_of_json_with_sorted_keys():
    expected = hashlib.sha256(b'{"a": {"c": null, "d": 0.1}, "b": [1, "x"]}').hexdigest()
    assert digest({"b": [1, "x"], "a": {"d": 0.1, "c": None}}) == expected[:16]


@pytest.mark.parametrize(
    "other",
    [
        {**NEW, "weights": "b" * 63 + "c"},
        {**NEW, "recipe": {"seed": 1, "learning_rate": 2e-4}},
        {**NEW, "recipe": {"seed": 0, "learning_rate": 2.0000000000000004e-4}},
        {**NEW, "recipe": None},
        {**NEW, "more": None},
        {"weights": NEW["weights"]},
    ],
    ids=["text", "nested number", "last digit", "null", "one more", "one less"],
)
def test_a_digest_changes_with_every_part_of_the_content(other):
    assert digest(other) != digest(NEW)


def test_what_has_no_stable_content_is_refused():
    with pytest.raises(TypeError):
        digest({"weights": object()})


def visible(folder):
    """The files of a folder without their checksums."""
    return sorted(path for path in folder.iterdir() if path.suffix != ".xxh3")


# --- folders of parts -------------------------------------------------------------------------


def test_a_new_folder_is_made_with_those_above_it(tmp_path):
    folder = valid_folder(tmp_path / "progress" / "mnist", NEW)
    assert folder == tmp_path / "progress" / "mnist" / digest(NEW)
    assert folder.is_dir()
    assert visible(folder) == [folder / DEPENDENCIES]


def test_parts_stay_as_long_as_they_depend_on_the_same(tmp_path):
    folder = valid_folder(tmp_path, NEW)
    (folder / "epoch001.safetensors").write_bytes(b"weights")
    again = valid_folder(str(tmp_path), dict(reversed(NEW.items())))
    assert again == folder
    assert (folder / "epoch001.safetensors").read_bytes() == b"weights"


def test_parts_with_other_dependencies_stay_are_named_and_serve_again(tmp_path, caplog):
    old = valid_folder(tmp_path, OLD)
    (old / "epoch001.safetensors").write_bytes(b"weights")
    assert not caplog.records
    with caplog.at_level("INFO"):
        new = valid_folder(tmp_path, NEW)
    assert str(old) in caplog.text and str(new) not in caplog.text
    assert valid_folder(tmp_path, OLD) == old
    assert (old / "epoch001.safetensors").read_bytes() == b"weights"


def test_a_folder_of_parts_says_what_they_depend_on(tmp_path):
    assert read_json(valid_folder(tmp_path, NEW) / DEPENDENCIES) == NEW


def test_parts_that_are_set_aside_are_moved_never_over_others(tmp_path):
    folder = valid_folder(tmp_path, NEW)
    aside = []
    for content in ("first", "second"):
        part = folder / "epoch001.json"
        part.write_text(content)
        aside.append(set_aside([part]))
        assert not part.exists()
    assert [(a / "epoch001.json").read_text() for a in aside] == ["first", "second"]
    assert {a.parent for a in aside} == {tmp_path}


def test_only_half_written_parts_are_deleted_beside_whole_ones(tmp_path):
    folder = valid_folder(tmp_path, NEW)
    names = ["epoch001.safetensors", "epoch001.optimizer.safetensors", "epoch001.json", "part.json"]
    halves = [half_written(folder / name) for name in names]
    for name in names:
        (folder / name).write_text("whole")
    assert all(half.exists() for half in halves)
    assert valid_folder(tmp_path, NEW) == folder
    assert [path.name for path in visible(folder)] == sorted([*names, DEPENDENCIES])


def test_files_beside_the_folders_of_parts_stay(tmp_path):
    old = valid_folder(tmp_path, OLD)
    (tmp_path / "history.log").write_text("what earlier runs have logged")
    new = valid_folder(tmp_path, NEW)
    assert sorted(tmp_path.iterdir()) == sorted([old, new, tmp_path / "history.log"])


def test_parts_of_other_jobs_are_left_alone(tmp_path):
    other = valid_folder(tmp_path / "resnet18", OLD) / "epoch001.json"
    half = half_written(other)
    other.write_text("{}")
    valid_folder(tmp_path / "vgg16", NEW)
    assert other.exists() and half.exists()


# --- results ----------------------------------------------------------------------------------


class Counter:
    """A computation that counts how often it is done."""

    def __init__(self, result):
        self.result, self.calls = result, 0

    def __call__(self):
        self.calls += 1
        return self.result


def test_a_result_is_computed_once(tmp_path):
    result = {"accuracy": 0.1 + 0.2, "iterations": None, "sizes": [1, 2], "ü": True}
    compute = Counter(result)
    for _ in range(3):
        assert kept_result(tmp_path / "new" / "lr.json", NEW, compute) == result
    assert compute.calls == 1


def test_what_a_result_took_counts_for_the_runs_that_take_it_over(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(resume, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(resume, "_earlier_seconds", [])

    def take(seconds):
        clock.now += seconds
        return "result"

    kept_result(tmp_path / "lr.json", NEW, lambda: take(7.5))
    kept_result(tmp_path / "svm.json", NEW, lambda: take(4.0))
    # Of this run, so not of earlier ones.
    assert seconds_taken_over() == 0
    kept_result(tmp_path / "lr.json", NEW, Counter("never"))
    assert seconds_taken_over() == 7.5
    kept_result(tmp_path / "svm.json", OLD, lambda: take(1.0))
    assert seconds_taken_over() == 7.5
    kept_result(tmp_path / "svm.json", OLD, Counter("never"))
    assert seconds_taken_over() == 8.5


@pytest.mark.parametrize("result", [None, 0, [], {}, False])
def test_a_result_that_is_nothing_is_kept_as_well(tmp_path, result):
    compute = Counter(result)
    assert kept_result(tmp_path / "lr.json", NEW, compute) == result
    assert kept_result(tmp_path / "lr.json", NEW, compute) == result
    assert compute.calls == 1


def test_a_result_is_computed_again_when_a_dependency_changes(tmp_path):
    path = tmp_path / "lr.json"
    assert kept_result(path, OLD, Counter("old")) == "old"
    assert kept_result(path, NEW, Counter("new")) == "new"
    assert kept_result(path, NEW, Counter("never")) == "new"
    # One result is kept, not one for each dependency.
    assert kept_result(path, OLD, Counter("old again")) == "old again"
    assert visible(tmp_path) == [path]


def test_results_of_different_files_do_not_mix(tmp_path):
    assert kept_result(tmp_path / "lr.json", NEW, Counter(1)) == 1
    assert kept_result(tmp_path / "svm.json", NEW, Counter(2)) == 2
    assert kept_result(tmp_path / "lr.json", NEW, Counter(3)) == 1


def test_nothing_is_kept_of_a_computation_that_fails(tmp_path):
    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_result(tmp_path / "lr.json", NEW, fail)
    assert list(tmp_path.iterdir()) == []
    assert kept_result(tmp_path / "lr.json", NEW, Counter(1)) == 1


def test_a_failed_computation_does_not_make_an_older_result_valid(tmp_path):
    def fail():
        raise KeyboardInterrupt

    kept_result(tmp_path / "lr.json", OLD, Counter("old"))
    with pytest.raises(KeyboardInterrupt):
        kept_result(tmp_path / "lr.json", NEW, fail)
    assert kept_result(tmp_path / "lr.json", NEW, Counter("new")) == "new"


def test_a_result_that_is_no_json_is_an_error_and_is_not_kept(tmp_path):
    with pytest.raises(ValueError):
        kept_result(tmp_path / "lr.json", NEW, Counter(float("nan")))
    assert list(tmp_path.iterdir()) == []


def test_a_half_written_result_is_removed(tmp_path):
    half = half_written(tmp_path / "lr.json")
    assert half.exists()
    assert kept_result(tmp_path / "lr.json", NEW, Counter(1)) == 1
    assert sorted(tmp_path.iterdir()) == [tmp_path / ".lr.json.xxh3", tmp_path / "lr.json"]


@pytest.mark.parametrize("end", [0, 1, 20, -2])
def test_a_result_whose_file_is_cut_off_is_computed_again(tmp_path, end):
    path = tmp_path / "lr.json"
    assert kept_result(path, NEW, Counter(1)) == 1
    path.write_bytes(path.read_bytes()[:end])
    assert kept_result(path, NEW, Counter(2)) == 2
    assert kept_result(path, NEW, Counter(3)) == 2


@pytest.mark.parametrize("content", [b"\xff\xfe", bytes(64)])
def test_a_file_that_holds_no_result_is_computed_again(tmp_path, content):
    path = tmp_path / "lr.json"
    path.write_bytes(content)
    assert kept_result(path, NEW, Counter(1)) == 1


# --- outputs ----------------------------------------------------------------------------------


@pytest.fixture
def part(tmp_path):
    path = tmp_path / "progress" / "epoch001.safetensors"
    path.parent.mkdir()
    path.write_bytes(bytes(range(256)) * 1000)
    return path


def links_fail_with(monkeypatch, number):
    def refuse(source, target):
        raise OSError(number, os.strerror(number), source, None, target)

    monkeypatch.setattr(os, "link", refuse)


@pytest.fixture(scope="module")
def needs_links(tmp_path_factory):
    folder = tmp_path_factory.mktemp("links")
    (folder / "a").touch()
    try:
        os.link(folder / "a", folder / "b")
    except OSError:
        pytest.skip("the file system has no hard links")


@pytest.mark.usefixtures("needs_links")
def test_an_output_is_a_link_to_its_part_and_takes_no_space(part, tmp_path):
    output = tmp_path / "new" / "epoch001.safetensors"
    publish(part, output)
    assert output.samefile(part)
    assert not output.is_symlink()
    assert visible(output.parent) == [output]
    # Snakemake deletes outputs before it runs a job again; the part stays.
    output.unlink()
    assert part.read_bytes() == bytes(range(256)) * 1000


@pytest.mark.parametrize("name", ["EPERM", "EXDEV", "EMLINK", "ENOSYS", "ENOTSUP"])
def test_an_output_is_a_copy_where_there_are_no_links(part, tmp_path, monkeypatch, name):
    links_fail_with(monkeypatch, getattr(errno, name))
    output = tmp_path / "new" / "epoch001.safetensors"
    publish(str(part), str(output))
    assert output.read_bytes() == bytes(range(256)) * 1000
    assert not output.samefile(part)
    assert visible(output.parent) == [output]


@pytest.mark.parametrize("name", ["ENOSPC", "EACCES", "EIO"])
def test_other_errors_of_a_link_are_raised_and_leave_the_output_as_it_was(
    part, tmp_path, monkeypatch, name
):
    links_fail_with(monkeypatch, getattr(errno, name))
    output = tmp_path / "outputs" / "epoch001.safetensors"
    write_json(output, "old")
    with pytest.raises(OSError) as caught:
        publish(part, output)
    assert caught.value.errno == getattr(errno, name)
    assert output.read_text() == '"old"\n'
    assert visible(output.parent) == [output]


def test_a_copy_that_fails_leaves_no_output(part, tmp_path, monkeypatch):
    links_fail_with(monkeypatch, errno.EXDEV)
    part.unlink()
    output = tmp_path / "outputs" / "epoch001.safetensors"
    with pytest.raises(FileNotFoundError):
        publish(part, output)
    assert list(output.parent.iterdir()) == []


@pytest.mark.usefixtures("needs_links")
@pytest.mark.parametrize("links", [True, False])
def test_an_output_that_is_there_is_replaced_and_not_written_through(
    part, tmp_path, monkeypatch, links
):
    older = part.with_name("older")
    older.write_bytes(b"old")
    output = tmp_path / "outputs" / "epoch001.safetensors"
    publish(older, output)
    assert output.samefile(older)
    if not links:
        links_fail_with(monkeypatch, errno.EPERM)
    # The second time it is the part itself that is there.
    for _ in range(2):
        publish(part, output)
        assert output.read_bytes() == part.read_bytes() == bytes(range(256)) * 1000
        assert output.samefile(part) is links
        assert visible(output.parent) == [output]
    assert older.read_bytes() == b"old"
