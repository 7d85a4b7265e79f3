"""Applies a range of the stream again: to a new satellite, or to the live one by rewound checkpoints."""
