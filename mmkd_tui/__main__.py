"""`python -m mmkd_tui` is `mmkd`, for where a folder of scripts is not on the PATH."""

from mmkd_tui.cli.main import main

main()
