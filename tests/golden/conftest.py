"""A narrow ResNet."""

import pytest

from fcis_tf.model import backbone


@pytest.fixture
def narrow(monkeypatch):
    """A ResNet of the units and widths that the reference has."""
    monkeypatch.setitem(backbone.BLOCKS, "resnet50", (1, 2, 2, 3))
    monkeypatch.setattr(backbone, "RESNET_WIDTHS", (4, 8, 16, 16))
