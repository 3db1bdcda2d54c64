"""The engine that serves a real model under the policies of the simulator.

It is the only package that may import torch and triton (extra `gpu`), and it shares the policy contract, the serving
loop and the trace with :mod:`queueing`, so that one scheduler runs under the virtual clock and on an accelerator alike.
"""
