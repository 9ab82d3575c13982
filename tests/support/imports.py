"""Imports what commands and services need, so that the forks of this process have it."""

import gc
import importlib
import pkgutil

import services.cli
from services.registry import SERVICES

for name in (
    "services.process",
    *(f"services.{service.name}.app" for service in SERVICES),
    *(module.name for module in pkgutil.walk_packages(services.cli.__path__, "services.cli.")),
):
    importlib.import_module(name)
gc.freeze()  # a collection in a fork need not copy these pages
