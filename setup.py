"""What pyproject.toml cannot say: the wheel carries the YAML files of `config/` as `bevkd/_config`.

They stay at the top of the repository, where the workflow and its users look for them; an editable install reads them
there.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CONFIG, INSIDE = "config", "bevkd/_config"


class BuildWithConfig(build_py):
    """Copies `config/` into the package that is built."""

    def run(self) -> None:
        """Begin with an empty folder: a module that is gone must not live on in a wheel."""
        if self.editable_mode:
            super().run()
            return
        shutil.rmtree(Path(self.build_lib) / "bevkd", ignore_errors=True)
        super().run()
        for source, target in self._config().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target)

    def _config(self) -> dict[str, str]:
        files = sorted(path for path in Path(CONFIG).rglob("*") if path.suffix in (".yaml", ".csv"))
        return {str(path): str(Path(self.build_lib, INSIDE, path.relative_to(CONFIG))) for path in files}

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """All files that are built."""
        return [*super().get_outputs(include_bytecode), *([] if self.editable_mode else self._config().values())]

    def get_output_mapping(self) -> dict[str, str]:
        """Built file -> its source."""
        own = {} if self.editable_mode else {target: source for source, target in self._config().items()}
        return super().get_output_mapping() | own


setup(cmdclass={"build_py": BuildWithConfig})
