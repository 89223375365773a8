"""Addresses of the Hub: fetched once, kept, checked, and every failure in a line."""

import sys
from pathlib import Path

import pytest

from vgg_jax.errors import UserError
from vgg_jax.weights.hub import Address, beside, commit_of, local_path, parse_address

CONTENT = b"of the weights"
REPOSITORY = "owner/net.v1"
ADDRESS = f"hf://{REPOSITORY}"


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("hf://timm/vgg16.tv_in1k", ("timm/vgg16.tv_in1k", None, "model.safetensors")),
        ("hf://a/b@v1", ("a/b", "v1", "model.safetensors")),
        ("hf://a/b@refs%2Fpr%2F1/x.safetensors", ("a/b", "refs/pr/1", "x.safetensors")),
        ("hf://a/b/deep/x.bin", ("a/b", None, "deep/x.bin")),
    ],
)
def test_addresses(address, parts):
    assert parse_address(address) == Address(*parts)


@pytest.mark.parametrize(
    "address", ["hf://", "hf://a", "hf://a/b@", "hf://a/b@x@y", "hf:///b", "hf://a b/c"]
)
def test_what_is_no_address(address):
    with pytest.raises(UserError, match=r"is no address: type hf://owner/name\[@revision\]"):
        local_path(address)


def test_a_file_stays_what_it_is(tmp_path):
    assert local_path("net.safetensors") == "net.safetensors"
    assert local_path(tmp_path) is tmp_path


def test_a_file_is_fetched_once(hub):
    commit = hub.commit(REPOSITORY, {"model.safetensors": CONTENT, "config.json": b"{}"})
    found = local_path(ADDRESS)
    assert Path(found).read_bytes() == CONTENT
    assert commit_of(found, ADDRESS) == commit
    assert Path(local_path(beside(ADDRESS, "config.json"))).read_bytes() == b"{}"
    downloads = [request for request in hub.requests if request.startswith("GET")]
    assert local_path(ADDRESS) == found
    assert [request for request in hub.requests if request.startswith("GET")] == downloads


def test_a_pinned_revision_stays_and_needs_no_network(hub):
    first = hub.commit(REPOSITORY, {"model.safetensors": CONTENT}, name="v1")
    assert Path(local_path(f"{ADDRESS}@v1")).read_bytes() == CONTENT
    hub.commit(REPOSITORY, {"model.safetensors": b"newer"})
    assert Path(local_path(ADDRESS)).read_bytes() == b"newer"
    assert Path(local_path(f"{ADDRESS}@v1")).read_bytes() == CONTENT
    hub.requests.clear()
    assert Path(local_path(f"{ADDRESS}@{first}")).read_bytes() == CONTENT
    assert hub.requests == []


def test_offline_what_is_in_the_cache_is_taken(hub, monkeypatch):
    hub.commit(REPOSITORY, {"model.safetensors": CONTENT})
    local_path(ADDRESS)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert Path(local_path(ADDRESS)).read_bytes() == CONTENT
    with pytest.raises(
        UserError, match=r"^hf://owner/other/.* is not in the cache, and the Hub is"
    ):
        local_path("hf://owner/other")
    assert hub.requests == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://owner/nothing", r"^no repository hf://owner/nothing, or a private one"),
        (f"{ADDRESS}@v9", r"^hf://owner/net\.v1 has no revision v9$"),
        (f"{ADDRESS}/x.safetensors", r"^hf://owner/net\.v1 has no file x\.safetensors$"),
        ("hf://owner/gated", r"^hf://owner/gated wants its terms accepted"),
        ("hf://owner/a--b", r"^hf://owner/a--b/model\.safetensors failed: HFValidationError"),
    ],
)
def test_what_is_not_there_is_named_in_a_line(hub, address, message):
    hub.commit(REPOSITORY, {"model.safetensors": CONTENT})
    hub.commit("owner/gated", {"model.safetensors": CONTENT})
    hub.gated.add("owner/gated")
    with pytest.raises(UserError, match=message) as error:
        local_path(address)
    assert "\n" not in str(error.value)


def test_a_wrong_checksum_is_refused(hub, tmp_path):
    hub.commit(REPOSITORY, {"model.safetensors": CONTENT, "config.json": b"{}"})
    hub.wrong = {"model.safetensors": CONTENT[::-1], "config.json": b"[]"}  # of the same length
    for address in (ADDRESS, beside(ADDRESS, "config.json")):
        with pytest.raises(UserError, match=r"does not have its checksum: .*; rm ") as error:
            local_path(address)
        Path(str(error.value).partition("; rm ")[2].partition(" ")[0]).unlink()
    hub.wrong.clear()
    found = Path(local_path(ADDRESS))
    assert found.read_bytes() == CONTENT
    found.write_bytes(CONTENT[:-1] + b"?")  # damaged on the disk, later
    with pytest.raises(UserError, match="does not have its checksum"):
        local_path(ADDRESS)


def test_a_hub_that_is_not_reached(hub, monkeypatch):
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between tries
    with pytest.raises(UserError, match=r"not in the cache, and the Hub is offline or not reached"):
        local_path(ADDRESS)


def test_a_missing_package_is_told_in_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"^addresses hf:// need huggingface_hub: pip install '"):
        local_path(ADDRESS)
