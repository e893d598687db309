# The code of this folder, and a look at config/config.yaml before Snakemake reads it, which keeps the second of two equal
# keys in silence and spells out whatever aliases stand for.
import sys
from pathlib import Path

# The code of this folder runs, installed or not.
sys.path[:0] = [str(workflow.basedir), str(Path(workflow.basedir, "workflow", "scripts"))]

from bevkd.config.plain import read_mapping
from bevkd.errors import ConfigError
from targets import stop


def checked(load, *arguments):
    """What a loader returns; a mistake in the configuration ends everything before the plan, in the loader's words."""
    try:
        return load(*arguments)
    except ConfigError as error:
        stop(error)


checked(read_mapping, Path("config/config.yaml"))
