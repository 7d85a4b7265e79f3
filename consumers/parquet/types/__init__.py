"""PostgreSQL types to Arrow columns and back, exactly."""
