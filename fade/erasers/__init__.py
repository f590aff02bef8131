"""Erasers: one method a file. Importing the package registers every file of it; none imports torch."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
