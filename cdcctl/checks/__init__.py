"""What `cdcctl doctor` looks at: each module yields findings about one side."""
