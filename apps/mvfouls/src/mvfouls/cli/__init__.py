"""The command lines: the documented scripts and the console command `mvfouls`."""
