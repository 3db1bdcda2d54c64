"""Parts of :mod:`queueing.monitors`: events of a run, counters and windows, findings, and the monitors themselves."""
