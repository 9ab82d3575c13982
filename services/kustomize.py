"""The table of services for Kubernetes: `python -m services.kustomize` writes `k8s/base/services/`.

Kustomize takes no patterns, so the services are listed there. Each has a NetworkPolicy that lets in those that call it:
anybody where the front proxy makes it public, else the services whose rows name it; and Prometheus to its metrics.
"""

from collections.abc import Mapping
from pathlib import Path

from services.registry import SERVICES, Service

FOLDER = Path(__file__).parents[1] / "k8s" / "base" / "services"

_HEAD = "# Made by `make docs` from the table of services; a test fails when it is old.\n"
_KUSTOMIZATION = """apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization

labels:
  - pairs:
      app.kubernetes.io/component: service

resources:
  - network.yaml
"""
_POLICY = """---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {name}
  labels:
    app.kubernetes.io/name: {name}
spec:
  podSelector:
    matchLabels:
      app.kubernetes.io/name: {name}
  policyTypes: [Ingress]
"""
_METRICS = """  ingress:
    - ports: # for Prometheus, in whichever namespace it is; the kubelet's probes are not subject to policies
        - port: metrics
"""
_PUBLIC = """    - ports: # public: any pod may call it
        - port: grpc
"""
_CALLERS = """    - ports:
        - port: grpc
      from:
"""
_CALLER = """        - podSelector:
            matchLabels:
              {label}
"""
_DIRECT = "tally-client: direct"


def make_files() -> Mapping[str, str]:
    """The files of the folder, by name."""
    listed = "".join(f"  - ../{service.name}\n" for service in SERVICES)
    return {
        "kustomization.yaml": _HEAD + _KUSTOMIZATION + listed,
        "network.yaml": _HEAD + "".join(map(_policy, SERVICES)),
    }


def _policy(service: Service) -> str:
    labels = [f"app.kubernetes.io/name: {each.name}" for each in SERVICES if service.name in each.calls]
    if service.direct:
        labels.append(_DIRECT)
    ingress = _METRICS
    if service.routed:
        ingress += _PUBLIC
    elif labels:
        ingress += _CALLERS + "".join(_CALLER.format(label=label) for label in labels)
    return _POLICY.format(name=service.name) + ingress


if __name__ == "__main__":
    for name, text in make_files().items():
        (FOLDER / name).write_text(text)
