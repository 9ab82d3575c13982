"""What a user of Tally installs: `tally.client`, and the generated code of the protos."""
