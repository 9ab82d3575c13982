"""The list of the services for kustomize, which takes no patterns: `python -m services.manifests`."""

from services.registry import SERVICES

_HEAD = """# Made by `make docs` from the table of services; a test fails when it is old.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization

labels:
  - pairs:
      app.kubernetes.io/component: service

resources:
"""


def kustomization() -> str:
    """The file `k8s/base/services/kustomization.yaml`."""
    return _HEAD + "".join(f"  - ../{service.name}\n" for service in SERVICES)


if __name__ == "__main__":
    print(kustomization(), end="")  # noqa: T201 - this is what it is for
