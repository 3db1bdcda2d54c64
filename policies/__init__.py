"""Schedulers and routers, one per file, each a frozen dataclass of parameters with one compiled function."""
