"""Run by the Python that has `spotify-confidence`: counts and expected shares as JSON in, its sample ratio test out."""

from __future__ import annotations

import json
import sys

import pandas as pd
from spotify_confidence.analysis.frequentist.sample_ratio_test import sample_ratio_test

given = json.load(sys.stdin)
observed = given["observed"]
frame = pd.DataFrame({"group": list(observed), "units": list(observed.values())})
p_value, table = sample_ratio_test(
    frame, all_group_columns="group", denominator="units", expected_proportions=given["expected"]
)
json.dump({"p_value": p_value, "observed_proportion": table["observed_proportion"].to_dict()}, sys.stdout)
