"""The tools of every benchmark: data, processes, clocks, peers, a browser, and the pages of results."""
