"""Imports what commands and services need, so that the forks of this process have it."""

import gc
import importlib
import pkgutil

import services.cli
import services.process
from services.registry import SERVICES

for package in (services.cli, services.process):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
for service in SERVICES:
    importlib.import_module(f"services.{service.name}.app")
gc.freeze()  # a collection in a fork need not copy these pages
