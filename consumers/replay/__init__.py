"""A range of the stream applied again: into a fresh satellite, or by rewound checkpoints."""
