"""Imports the modules of a model's folder from bytes that were verified and sent, and from no file."""

import sys
from collections.abc import Mapping, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType


class FolderModules(MetaPathFinder, InspectLoader):
    """Finds a module among the files of a folder, after all that is installed.

    Parameters
    ----------
    files
        Name with slashes -> content.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how a module is loaded; None when the folder has none of that name.

        Parameters
        ----------
        fullname
            Of the module, with dots.
        path, target
            Not used.
        """
        del path, target
        file = self._file(fullname)
        return (
            None
            if file is None
            else spec_from_loader(fullname, self, origin=file, is_package=file.endswith("/__init__.py"))
        )

    def get_source(self, fullname: str) -> str:
        """Return the source of a module.

        Raises
        ------
        ImportError
            When the folder has none of that name.
        """
        file = self._file(fullname)
        if file is None:
            raise ImportError(fullname)
        return self._files[file].decode("utf-8")

    def is_package(self, fullname: str) -> bool:
        """Return whether a module is a package."""
        return (self._file(fullname) or "").endswith("/__init__.py")

    def _file(self, fullname: str) -> str | None:
        base = fullname.replace(".", "/")
        return next((name for name in (f"{base}.py", f"{base}/__init__.py") if name in self._files), None)


def import_model(files: Mapping[str, bytes], file: str) -> ModuleType:
    """Run the file of a model and return it as a module.

    Parameters
    ----------
    files
        Of its folder; name with slashes -> content.
    file
        Which of them.
    """
    sys.meta_path.append(FolderModules(files))
    name = file.removesuffix(".py")
    module = ModuleType(name)
    module.__file__ = file
    sys.modules[name] = module
    exec(compile(files[file], file, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - this process is for it
    return module
