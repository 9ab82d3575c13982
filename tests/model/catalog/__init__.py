"""An explicit-state model of how a replica of the catalog stays sure of the rules, and PutRules of the replicas."""
