"""Logs of trainings that were made elsewhere: what they tell of each epoch, and what is refused."""

import pytest

from collapseflow.presentation.logs import check_log, read_log
from collapseflow.running.errors import UserError

#: As Lightning's CSVLogger and LearningRateMonitor write it: the rate first, without an epoch.
LIGHTNING = """\
epoch,lr-SGD,step,train_loss_epoch,train_loss_step,val_loss
,0.1,0,,,
0,,4,,1.5,
0,,9,,2.5,
0,,9,,,1.25
0,,9,1.75,,
,0.05,10,,,
1,,14,,1.0,
1,,19,,0.5,
1,,19,,,nan
1,,19,0.625,,
,0.025,20,,,
"""


@pytest.fixture
def log(tmp_path):
    """A function that writes a log."""

    def write(text):
        path = tmp_path / "log.csv"
        path.write_text(text)
        return path

    return write


def test_columns_that_are_called_as_ours_need_no_word(log):
    path = log("step,loss,epoch,learning_rate,other\n9,0.25,2,0.1,x\n4,0.5,1,0.2,y\n")
    assert read_log(path, {}, 1) == [
        {"epoch": 1, "loss": 0.5, "learning_rate": 0.2},
        {"epoch": 2, "loss": 0.25, "learning_rate": 0.1},
    ]


def test_rows_of_an_epoch_come_together_as_lightning_writes_them(log):
    columns = {"learning_rate": "lr-SGD", "validation_loss": "val_loss"}
    path = log(LIGHTNING)
    assert read_log(path, {**columns, "loss": "train_loss_epoch"}, 0) == [
        {"epoch": 1, "loss": 1.75, "learning_rate": 0.1, "validation_loss": 1.25},
        {"epoch": 2, "loss": 0.625, "learning_rate": 0.05},
    ]
    # Of many values in an epoch a loss is the mean, and a rate the last.
    by_step = read_log(path, {"epoch": "epoch", "loss": "train_loss_step"}, 0)
    assert [record["loss"] for record in by_step] == [2.0, 0.75]
    several = log("epoch,learning_rate\n1,0.3\n1,0.2\n2,0.1\n")
    assert [record["learning_rate"] for record in read_log(several, {}, 1)] == [0.2, 0.1]


def test_of_an_epoch_that_was_trained_again_the_last_time_counts(log):
    # Killed in the third epoch, and begun again from the checkpoint of the first.
    text = "epoch,loss,learning_rate\n1,4,0.3\n2,2,0.2\n3,9,0.1\n2,1,0.2\n2,2,0.15\n3,1,0.1\n"
    assert read_log(log(text), {}, 1) == [
        {"epoch": 1, "loss": 4.0, "learning_rate": 0.3},
        {"epoch": 2, "loss": 1.5, "learning_rate": 0.15},
        {"epoch": 3, "loss": 1.0, "learning_rate": 0.1},
    ]
    # Training and validation one after the other, and the last epoch first, are no second time.
    text = "epoch,loss,validation_loss\n2,1,\n1,2,\n1,,4\n2,,3\n"
    assert read_log(log(text), {}, 1) == [
        {"epoch": 1, "loss": 2.0, "validation_loss": 4.0},
        {"epoch": 2, "loss": 1.0, "validation_loss": 3.0},
    ]


def test_epochs_without_a_finite_value_are_left_out_and_named(log, caplog):
    path = log("epoch,loss\n1,0.5\n2,nan\n3,inf\n,0.1\n")
    assert read_log(path, {}, 1) == [{"epoch": 1, "loss": 0.5}]
    check_log(path, {}, 1, [1, 3])
    assert [r.getMessage() for r in caplog.records] == [f"{path}: has nothing of epoch 3"]


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("", {}, "^log: .*log.csv: cannot be read as CSV"),
        ("epoch,loss\n1,2,3\n", {}, "^log: .*log.csv: cannot be read as CSV"),
        ("n,loss\n1,2\n", {}, "has no column epoch, only n, loss; say which it is by the key col"),
        ("epoch,l\n1,2\n", {}, "has no column loss or .*, only epoch, l; say which it is"),
        (
            "epoch,los\n1,2\n",
            {"loss": "loss"},
            "^columns.loss: .* no column 'loss'; did you mean 'los",
        ),
        ("epoch,loss\n0,2\n", {}, "has the epoch 0; allowed: whole numbers from 1"),
        ("epoch,loss\n1.5,2\n", {}, "has the epoch 1.5; allowed: whole numbers from 1"),
        ("epoch,loss\n1,tensor(2)\n", {}, r"loss is tensor\(2\); allowed: numbers"),
        ("epoch,validation_accuracy\n1,93.1\n", {}, "is 93.1; allowed: shares from 0 to 1"),
    ],
)
def test_what_is_no_log_is_refused_in_a_line(log, text, columns, words):
    with pytest.raises(UserError, match=words) as caught:
        read_log(log(text), columns, 1)
    assert "\n" not in str(caught.value)
