"""Devices, memory, the model cache, compilation and other optimizations."""
