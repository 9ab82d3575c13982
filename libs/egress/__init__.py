"""Calls to external servers: HTTP with bounds, to allowed addresses only.

A DID document may name any address: this machine, a cloud's metadata service, or a host that redirects to either. So
each connection is checked when it is made, by its address (`guard`).
"""
