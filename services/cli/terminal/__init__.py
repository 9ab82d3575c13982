"""What all commands share: options and files in, text out, calls, and how a command ends."""
