"""The stored config: what may differ, and configs stored before a key was made."""

import json

import pytest

from configs.base import base
from vgg_jax.errors import UserError
from vgg_jax.runs.directory import check_same_config, open_workdir, read_config


def test_a_config_stored_before_a_key_was_made_is_that_of_its_default(tmp_path):
    open_workdir(tmp_path, base()).close()
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    del stored["init"], stored["data"]["channel_order"], stored["optimizer"]["frozen"]
    path.write_text(json.dumps(stored))
    check_same_config(tmp_path, base())
    assert read_config(tmp_path).data.channel_order == "RGB"
    other = base()
    other.optimizer.frozen = ("conv1_1/.*",)
    with pytest.raises(UserError, match="frozen"):
        check_same_config(tmp_path, other)
