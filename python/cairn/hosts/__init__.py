"""Model hosts that keep what they computed in a store: one package for each, imported by name."""
