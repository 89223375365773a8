"""Fixtures of the experiments' tests."""

import pytest

from vgg_jax.reporting import plots


@pytest.fixture(autouse=True)
def _coarse_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures in a fifth of the resolution and not laid out: every run draws them, of any data."""
    monkeypatch.setitem(plots.STYLE, "savefig.dpi", 30)
    monkeypatch.setitem(plots.STYLE, "figure.constrained_layout.use", False)
