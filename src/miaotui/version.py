"""The version of this package; of its native kernels see `engines/native.py`."""

__version__ = "0.1.0"
