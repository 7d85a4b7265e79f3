"""What every process of the project needs at run time: settings, log lines and stop signals."""
