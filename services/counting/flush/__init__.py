"""From committed inserts to rows of the rollups: the buffer, its pace, and the transaction that moves it."""
