"""JSON from strangers: bounded in size and depth, and named where it is damaged."""

import json

import pytest

from vgg_jax import json_files
from vgg_jax.errors import UserError
from vgg_jax.json_files import parse_json, read_json, read_object, write_json


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting"),
        ("", "Expecting value"),
        ("[" * 102 + "]" * 102, "nested too deep"),
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "nested too deep"),
        (b"\xff\xfe\xfd", "damaged"),
        ("9" * 5000, "damaged"),
    ],
)
def test_damage_is_named(text, reason):
    with pytest.raises(UserError, match=f"^it.json .*{reason}") as error:
        parse_json(text, "it.json")
    assert len(str(error.value)) < 400


def test_depth_and_size_within_the_bounds(monkeypatch):
    deep = "[" * 100 + "]" * 100
    assert parse_json(deep, "it") == json.loads(deep)
    monkeypatch.setattr(json_files, "MAX_BYTES", 100)
    with pytest.raises(UserError, match="it has 200 bytes of JSON; at most 100 are read"):
        parse_json(deep, "it")


def test_files(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(UserError, match="there is no"):
        read_json(path)
    write_json(path, {"a": [1, None]})
    assert read_object(path) == {"a": [1, None]}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]
    write_json(path, [1])
    assert read_json(path) == [1]
    with pytest.raises(UserError, match="it has no JSON object"):
        read_object(path)
