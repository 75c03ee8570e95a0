"""Counts and times calls, pulls and removals, for Prometheus (cri-o M1, M2; names of our own, `criimage_…`).

figures        who takes figures, and who drops them
prometheus     keeps them; pulls, relay and service are its parts
aliases        the same under CRI-O's and containerd's names
page           serves them

prometheus-client is imported only where an address is set. Labels are the backend, the operation and the kind of error:
sets that are known beforehand, so every series is there from the start, at 0. Never an image's name.
"""

from criimage.metrics.figures import Metrics, NoMetrics, error_kinds
from criimage.metrics.prometheus import PrometheusMetrics

__all__ = ["Metrics", "NoMetrics", "PrometheusMetrics", "error_kinds"]
