"""Material for tests of this package; nothing that serves imports it."""
