"""Code that services share. It contains no business rule of a single service, and imports no service."""
