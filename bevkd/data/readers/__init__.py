"""Readers by name: one file per data set format, registered as `reader`.

A reader is a class with a static method `convert(root, version, out, workers)` that writes a Parquet index
(`bevkd.data.index`) and returns its folder.
"""
