"""Torch on one thread, and kernels in Triton's interpreter: both must be settled before either is imported."""

import os

import pytest

os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
