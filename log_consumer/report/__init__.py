"""`log-consumer report`: the health of every experiment on one HTML page, which needs no network.

    snapshot → gather → experiment (figures, blocks), overview → page

`snapshot` works the views out once, `gather` asks the questions of log_consumer/sql/report, `charts` draws with
Vega-Lite, and the rest writes HTML out of `markup`, which escapes whatever is not markup itself.
"""
