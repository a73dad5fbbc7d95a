"""Many runs: planned from a sweep file, done on this machine or a cluster, told by their folders. Needs no torch."""
