"""What an event and a request must be, checked before anything is sent."""
