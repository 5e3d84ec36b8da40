"""The commands, one file each: `interplay data show` is the function `data_show` in `data_show.py`."""
