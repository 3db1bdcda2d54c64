"""The serving system as a queueing network: vocabulary, iteration-time models, serving loop, metrics.

Requests (:mod:`~queueing.workload`) arrive at a :mod:`~queueing.system`; a :mod:`~queueing.policy` plans batches from
what a server may know; the :mod:`~queueing.simulator` checks and executes them under a virtual clock and returns a
:mod:`~queueing.trace`, of which every number in :mod:`~queueing.metrics` is a pure function.
"""
