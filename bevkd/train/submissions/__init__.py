"""How detections leave for a benchmark: one file per data set format, registered as `submission` by its reader's name.

A submission is a class with two static methods: `write(run, frames, found, stem)` writes the detections of all frames
of a split in the benchmark's own format, to a file or folder whose name begins with `stem`, and returns it;
`evaluate(run, frames, results, out)` writes the metrics file `out` and returns its content. `found` maps frame tokens
to boxes in the frame's ego frame; every frame has an entry. A third, `check(run, facts)` with the stamp of the index,
may be there: it raises a `ConfigError` before anything is detected where no submission could be written. A split
without any annotation is not evaluated: what `write` returns is then what the benchmark's server takes.
"""
