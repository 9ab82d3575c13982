"""Who may call what: TLS on both sides of a connection, who a caller is, and the role that each method needs."""
