"""Tables and exports of what the store holds."""
