"""The same study gives the same tables, also on another number of cores."""

import subprocess

from attacked import FULL, ROOT, STUDY, command, require_equal_tables


@FULL
def test_one_core_finds_what_two_cores_find(finished, tmp_path):
    words = command(tmp_path, STUDY, "--cores", "1")
    answer = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, (answer.stdout + answer.stderr)[-5000:]
    require_equal_tables(tmp_path / "results" / STUDY["study"], finished)
