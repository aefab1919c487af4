"""Every test of the engine starts from one state of the generator, alone or in company."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
