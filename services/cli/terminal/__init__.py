"""Code that all commands share: options, files, output, calls, and exit codes."""
