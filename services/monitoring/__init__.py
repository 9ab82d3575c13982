"""What operators see: dashboards, rules and alerts, and the page of metrics, made from the catalogue and the table.

`python -m services.monitoring` writes docs/metrics.md and k8s/components/monitoring.
"""
