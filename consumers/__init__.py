"""KCL consumer applications: the kit that runs a sink on each shard, and the satellites that ship."""
