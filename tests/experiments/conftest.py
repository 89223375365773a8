"""Fixtures of the experiments' tests."""

import pytest

from vgg_jax.reporting import plots


@pytest.fixture(autouse=True)
def _coarse_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures in a fifth of the resolution: every run draws them, and most of that is pixels."""
    monkeypatch.setitem(plots.STYLE, "savefig.dpi", 30)
