"""What a newcomer may run first."""
