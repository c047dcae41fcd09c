"""What commands decide and print. No I/O, no network, no clock."""
