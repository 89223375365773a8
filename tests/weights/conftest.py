"""A Hub for the tests, in place of huggingface.co."""

from collections.abc import Iterator

import pytest

from tests.weights import hub_server


@pytest.fixture(scope="module")
def hub_running() -> Iterator[hub_server.Hub]:
    with hub_server.running() as hub:
        yield hub


@pytest.fixture
def hub(hub_running, monkeypatch, tmp_path) -> hub_server.Hub:
    """The Hub, empty, and with an empty cache in tmp_path/cache."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra `hub`")
    url = hub_running.url
    hub_running.__init__()
    hub_running.url = url
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    # Large files go by LFS, as the protocol of Xet is another program's.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_tests")
    return hub_running
