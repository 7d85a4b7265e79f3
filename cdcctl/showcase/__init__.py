"""What `cdcctl demo` is made of: a workload, the parts it runs, the comparison at the end, the screen."""
