"""Readers by name: one file per data set format, registered as `reader`.

A reader is a class with

- a static method `convert(root, version, out, workers, options)` that writes a Parquet index (`bevkd.data.index`) and
  returns its folder; `version` is None where the user gave none, and `options` (`bevkd.data.options`) are given only
  where some are not usual;
- a constructor that takes the root of the data set (and `point_columns`, where a conversion may set it, and
  `link_targets`, see `bevkd.data.inside`), and methods `lidar(filename, token)` and `image(filename, token)` that read
  what a row of `sensors` names: points (P, 4+) with x, y, z, intensity in the sensor frame, and a decoded RGB image. A
  file name is what the reader's own `convert` wrote;
- optionally an attribute `most_intensity`, which no point exceeds: the Python API compares what it is given with it;
- optionally a static method `roads(root, version, link_targets)` that returns the maps of the data set
  (`bevkd.data.nuscenes.maps`): `at(location).holds(xy)` says which places of the global frame are road or pavement.
"""
