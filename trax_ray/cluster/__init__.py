"""The only place that imports Ray: connecting, the coordinator actor, remote functions, sampling.

Ray reads its settings when it is imported, so they are made here, before any module of this package imports it.
What a user has set stays.
"""

import os
import sys

GCS_RECONNECT_TIMEOUT_S = 10

# Under `uv run` Ray would upload the working folder and start its workers through uv.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
# A driver whose GCS is lost is ended without an exception, after a minute if nothing is said.
os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(GCS_RECONNECT_TIMEOUT_S))
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Silences a notice about a future default; nothing asks for a GPU unless it needs one.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
if "ray" not in sys.modules:
    # Where somebody has imported Ray already it has made up its mind, and turns tokens on for local heads itself.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
