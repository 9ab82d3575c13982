"""One folder for each box of the README's diagram; `registry` is the table of them."""
