"""The record beside results: where they come from, without the folders of this machine."""

import json

from vgg_jax.runs.record import Record, machine, record


def test_only_names_of_options_are_kept_of_absolute_paths():
    described = record("experiments.name.run", ["--data_dir=/home/me", "--out=here", "--seeds=2"])
    command = "python -m experiments.name.run --data_dir=DATA_DIR --out=here --seeds=2"
    assert described["command"] == command
    assert described.items() >= machine().items()


def test_versions_of_further_packages():
    versions = record("a", [], ["pillow", "no-such-package"])["versions"]
    assert versions["pillow"]
    assert versions["no-such-package"] is None


def test_a_resumed_run_keeps_the_records_before_it(tmp_path):
    for cells in (1, 2, 3):
        running = Record(tmp_path, "a", [])
        running.write(cells=cells)
    stored = json.loads((tmp_path / "record.json").read_text())
    assert stored["cells"] == 3
    assert [earlier["cells"] for earlier in stored["earlier"]] == [1, 2]
