"""The engine that serves a real model under the policies of the simulator.

It is the only package that may import torch and triton (extra `gpu`), and it shares the policy contract and the trace
with :mod:`queueing`, so that one scheduler runs under the virtual clock and on an accelerator alike.  This version
holds no engine yet; the package reserves the name and its place between `queueing` and `validation`.
"""
